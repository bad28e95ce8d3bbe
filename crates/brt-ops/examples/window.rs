//! Who sees whom: prints the mask of a window of four tokens and the attention of one head under a T5 bias.
#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use brt_ops::{
    Params, PositionBias, PositionConfig, Queries, Sight, WindowShape, WindowTables, Windows, attention,
    causal_mask, unit_norm,
};
use tch::{Device, Kind, Tensor};

fn main() {
    let window_len = 4;
    let mask: Vec<Vec<bool>> = causal_mask([window_len, 2 * window_len, window_len], window_len, Device::Cpu)
        .try_into()
        .expect("a matrix");
    for (query, row) in mask.iter().enumerate() {
        let row: String = row.iter().map(|seen| if *seen { " x" } else { " ." }).collect();
        println!("token {query} of the block sees{row}");
    }

    let params = Params::new(1, Device::Cpu);
    let position = PositionConfig::PAPER;
    let bias = PositionBias::new(&params.root(), &position, 1).expect("T5 has a bias");
    let tables = WindowTables::new(WindowShape::block(window_len), &position, 8, Device::Cpu);
    let draw = |len| unit_norm(&Tensor::randn([1, 1, len, 8], (Kind::Float, Device::Cpu)));
    let values = Tensor::eye(2 * window_len, (Kind::Float, Device::Cpu)).view([1, 1, 8, 8]);
    let bias = tables.bias_by_distance(&bias);
    let sight = Sight::Band { tables: &tables, bias: Some(&bias) };
    // With the unit matrix as values, the output is the attention itself.
    let queries = Queries { heads: draw(window_len), temperature: None };
    attention(&queries, &Windows::alone(draw(2 * window_len), values), sight, None).print();
}
