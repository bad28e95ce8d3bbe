//! One Transformer-XL layer over two segments, its cache carried by hand.
#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use brt_ops::{
    Carry, CrossQueries, Mode, Params, PositionConfig, QkNorm, Temperature, WindowShape, WindowTables,
};
use brt_txl::{KvCache, LayerConfig, TransformerLayer};
use tch::{Device, Kind, Tensor};

fn main() {
    let params = Params::new(1, Device::Cpu);
    let config = LayerConfig {
        model_dim: 64,
        num_heads: 4,
        head_dim: 16,
        ffn_dim: 256,
        qk_norm: QkNorm::Unit,
        temperature: Temperature::Raw,
        carry: Carry::Differentiable,
        position: PositionConfig::PAPER,
        cross_queries: CrossQueries::Absent,
        dropout: 0.,
        attention_dropout: 0.,
    };
    let layer = TransformerLayer::new(&params.root(), config);
    let (num_blocks, batch, window_len) = (1, 2, 32);
    let tables =
        WindowTables::new(WindowShape::block(window_len), &config.position, config.head_dim, Device::Cpu);

    let mut cache = KvCache::zeros([batch, 4, window_len, 16], Device::Cpu);
    for segment in 0..2 {
        let xs = Tensor::randn([num_blocks, batch, window_len, 64], (Kind::Float, Device::Cpu));
        let (ys, next) = layer.forward(&xs, &cache, &tables, Mode::Eval);
        println!("segment {segment}: output {:?}, cached keys {:?}", ys.size(), next.keys.size());
        cache = next;
    }
}
