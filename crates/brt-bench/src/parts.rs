//! The parts of a training step, forward and backward, at the sizes of a configuration.

use brt_cell::RecurrentCell;
use brt_lm::ModelConfig;
use brt_native::HeadNorm;
use brt_ops::{
    Carry, Linear, Mlp, Params, Queries, RmsNorm, Sight, WindowShape, WindowTables, Windows, attention,
    composed_attention, loss,
};
use brt_report::BenchGroup;
use brt_trainer::{Optimizer, OptimizerConfig, RunConfig, TrainError};
use tch::{Device, Kind, Tensor};

use crate::item::Item;

/// A large vocabulary, and the tokens that are scored with it.
const LARGE_VOCABULARY: [i64; 2] = [32_128, 512];

/// Those of the model and of a segment.
#[derive(Clone, Copy)]
struct Sizes {
    batch: i64,
    num_blocks: i64,
    window_len: i64,
    model_dim: i64,
    num_heads: i64,
    head_dim: i64,
    ffn_dim: i64,
    device: Device,
}

impl Sizes {
    fn tokens(&self) -> i64 {
        self.batch * self.num_blocks * self.window_len
    }

    /// Width of all heads, HD.
    fn all_heads(&self) -> i64 {
        self.num_heads * self.head_dim
    }

    fn input(&self, size: &[i64], kind: Kind) -> Tensor {
        Tensor::randn(size, (Kind::Float, self.device)).to_kind(kind).set_requires_grad(true)
    }

    /// Queries, keys or values as a layer makes them, `[n, B, H, W, D]`.
    fn heads_of_tokens(&self, kind: Kind) -> Tensor {
        let Self { batch, num_blocks, window_len, num_heads, head_dim, .. } = *self;
        let size = [num_blocks, batch, window_len, num_heads, head_dim];
        let x = Tensor::randn(size, (Kind::Float, self.device)).to_kind(kind);
        (x / (head_dim as f64).sqrt()).transpose(2, 3).set_requires_grad(true)
    }
}

/// Returns the parts, with products of each kind.
pub(crate) fn items(config: &RunConfig, kinds: &[Kind], device: Device) -> Result<Vec<Item>, TrainError> {
    let model = &config.model;
    let sizes = Sizes {
        batch: config.data.batch as i64,
        num_blocks: config.data.segment_len as i64 / model.window_len,
        window_len: model.window_len,
        model_dim: model.model_dim,
        num_heads: model.num_heads,
        head_dim: model.head_dim,
        ffn_dim: model.ffn_dim,
        device,
    };
    let mut items = vec![];
    for &kind in kinds {
        items.extend([norm(sizes, kind), heads(sizes, kind), feed_forward(sizes, kind)]);
        items.extend([fused(sizes, model, kind), composed(sizes, model, kind)]);
        items.extend(cell(sizes, model, kind));
        items.push(cross_entropy(sizes, [model.vocab_size, sizes.tokens()], kind));
        items.push(cross_entropy(sizes, LARGE_VOCABULARY, kind));
    }
    items.push(optimizer(sizes, config.optimizer));
    Ok(items)
}

/// Makes an item of a function of `inputs` that returns something to go back from.
fn part(
    name: impl Into<String>,
    kind: Kind,
    [flops, bytes]: [f64; 2],
    inputs: &[&Tensor],
    forward: impl Fn() -> Vec<Tensor> + 'static,
) -> Item {
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.shallow_clone()).collect();
    let gradients: Vec<Tensor> = forward().iter().map(Tensor::ones_like).collect();
    let work = move || {
        brt_native::drop_gradients(&inputs);
        let outputs: Vec<Tensor> = forward();
        let pairs = outputs.iter().zip(&gradients).filter(|(y, _)| y.requires_grad());
        let (outputs, gradients): (Vec<_>, Vec<_>) = pairs.unzip();
        brt_native::backward(&outputs, &gradients);
        Ok(())
    };
    Item { group: BenchGroup::Part, name: name.into(), kind, flops, bytes, work: Box::new(work) }
}

/// `x + update` and its norm.
fn norm(sizes: Sizes, kind: Kind) -> Item {
    let params = Params::new(1, sizes.device);
    let norm = RmsNorm::new(&(params.root() / "norm"), sizes.model_dim);
    let size = [sizes.tokens(), sizes.model_dim];
    let (x, update) = (sizes.input(&size, Kind::Float), sizes.input(&size, kind));
    let values = (sizes.tokens() * sizes.model_dim) as f64;
    let narrow = bytes_of(kind);
    // Forward: x, update, sum, y. Backward: sum, both gradients, one gradient, and its cast where there is one.
    let cast = if kind == Kind::BFloat16 { narrow } else { 0. };
    let bytes = values * ((8. + 2. * narrow) + (12. + narrow + cast));
    let inputs = [&x.shallow_clone(), &update.shallow_clone()];
    part("add and norm", kind, [0., bytes], &inputs, move || {
        let (sum, y) = in_kind(kind, &x, || norm.add_forward(&x, &update));
        vec![sum, y]
    })
}

/// Keys, values and queries: one product, heads, unit vectors.
fn heads(sizes: Sizes, kind: Kind) -> Item {
    let params = Params::new(1, sizes.device);
    let root = params.root();
    let layers = ["key", "value", "query"]
        .map(|name| Linear::new(&(&root / name), sizes.model_dim, sizes.all_heads()));
    let x = sizes.input(&[sizes.tokens(), sizes.model_dim], kind);
    let flops = 6. * (sizes.tokens() * sizes.model_dim * 3 * sizes.all_heads()) as f64;
    part("keys, values, queries", kind, [flops, 0.], &[&x.shallow_clone()], move || {
        let joined = in_kind(kind, &x, || brt_native::linear(&x, &Linear::joined(&layers.each_ref()), None));
        let norms = [HeadNorm::Unit, HeadNorm::None, HeadNorm::Unit];
        brt_native::split_heads(&joined, norms, [sizes.num_heads, sizes.head_dim], 1e-6)
    })
}

fn feed_forward(sizes: Sizes, kind: Kind) -> Item {
    let params = Params::new(1, sizes.device);
    let mlp = Mlp::new(&params.root(), sizes.model_dim, sizes.ffn_dim, sizes.model_dim);
    let x = sizes.input(&[sizes.tokens(), sizes.model_dim], kind);
    let flops = 6. * (2 * sizes.tokens() * sizes.model_dim * sizes.ffn_dim) as f64;
    part("feed-forward layer", kind, [flops, 0.], &[&x.shallow_clone()], move || {
        vec![in_kind(kind, &x, || mlp.forward(&x).1)]
    })
}

/// Attention over windows: two products with each of W keys forward, twice that backward.
fn attention_flops(sizes: Sizes) -> f64 {
    6. * (2 * sizes.tokens() * sizes.window_len * sizes.all_heads()) as f64
}

fn tables(sizes: Sizes, model: &ModelConfig) -> WindowTables {
    WindowTables::new(WindowShape::block(sizes.window_len), &model.position, sizes.head_dim, sizes.device)
}

fn fused(sizes: Sizes, model: &ModelConfig, kind: Kind) -> Item {
    let tables = tables(sizes, model);
    let bias = sizes.input(&[sizes.num_heads, 3 * sizes.window_len - 1], Kind::Float);
    let [queries, keys, values] = [(); 3].map(|()| sizes.heads_of_tokens(kind));
    let cache = keys.detach().select(0, 0);
    let inputs = [&queries, &keys, &values, &bias].map(Tensor::shallow_clone);
    part("attention over windows", kind, [attention_flops(sizes), 0.], &inputs.each_ref(), move || {
        let windows = Windows::new([&keys, &values], [&cache, &cache], Carry::Differentiable);
        let queries = Queries { heads: queries.shallow_clone(), temperature: None };
        vec![attention(&queries, &windows, Sight::Band { tables: &tables, bias: Some(&bias) }, None)]
    })
}

/// The same by one tensor operation after another.
fn composed(sizes: Sizes, model: &ModelConfig, kind: Kind) -> Item {
    let tables = tables(sizes, model);
    let bias = sizes.input(&[sizes.num_heads, sizes.window_len, 2 * sizes.window_len], Kind::Float);
    let [queries, keys, values] = [(); 3].map(|()| sizes.heads_of_tokens(kind));
    let cache = keys.detach().select(0, 0);
    let inputs = [&queries, &keys, &values, &bias].map(Tensor::shallow_clone);
    part("attention, composed", kind, [attention_flops(sizes), 0.], &inputs.each_ref(), move || {
        let windows = Windows::new([&keys, &values], [&cache, &cache], Carry::Differentiable).joined();
        let bias = tables.mask_bias(Some(&bias));
        vec![in_kind(kind, &queries, || {
            composed_attention(&queries, &windows.keys, &windows.values, Some(&bias), None)
        })]
    })
}

/// The scan over all blocks of a segment, where the model has one.
fn cell(sizes: Sizes, model: &ModelConfig, kind: Kind) -> Option<Item> {
    let recurrence = model.recurrence.as_ref()?;
    let params = Params::new(1, sizes.device);
    let cell = RecurrentCell::new(&params.root(), model.cell(recurrence));
    let (states, heads) = (recurrence.num_states, sizes.all_heads());
    let state = sizes.input(&[sizes.batch, states, sizes.model_dim], Kind::Float);
    let [keys, values] = [(); 2].map(|()| sizes.heads_of_tokens(kind));
    let cache = keys.detach().select(0, 0);
    // Projections, attention to states and to 2W tokens, output; gates and feed-forward layers are left out.
    let per_state = 4 * sizes.model_dim * heads
        + 2 * states * heads
        + 4 * sizes.window_len * heads
        + 2 * heads * sizes.model_dim;
    let flops = 6. * (sizes.batch * sizes.num_blocks * states * per_state) as f64;
    let inputs = [&state, &keys, &values].map(Tensor::shallow_clone);
    Some(part("scan of the states", kind, [flops, 0.], &inputs.each_ref(), move || {
        let windows = Windows::new([&keys, &values], [&cache, &cache], Carry::Differentiable);
        let scan = in_kind(kind, &state, || cell.scan(&state, &windows));
        [scan.keys, scan.values].into_iter().chain(scan.states.into_iter().last()).collect()
    }))
}

fn cross_entropy(sizes: Sizes, [vocabulary, tokens]: [i64; 2], kind: Kind) -> Item {
    let (xs, weight) = (
        sizes.input(&[tokens, sizes.model_dim], kind),
        sizes.input(&[vocabulary, sizes.model_dim], Kind::Float),
    );
    let targets = Tensor::randint(vocabulary, [tokens], (Kind::Int64, sizes.device));
    let mask = Tensor::ones([tokens], (Kind::Float, sizes.device));
    let flops = 6. * (tokens * vocabulary * sizes.model_dim) as f64;
    let inputs = [&xs, &weight].map(Tensor::shallow_clone);
    part(format!("loss, vocabulary {vocabulary}"), kind, [flops, 0.], &inputs.each_ref(), move || {
        vec![in_kind(kind, &xs, || loss::summed_cross_entropy(&xs, &weight, &targets, &mask))]
    })
}

/// One update of as many values as a layer's matrices have.
fn optimizer(sizes: Sizes, config: OptimizerConfig) -> Item {
    let (name, passes) = match config {
        OptimizerConfig::Adafactor(_) => ("adafactor", 8.), // gradient 3, parameter 3, momentum 2
        OptimizerConfig::AdamW(_) => ("adamw", 7.),         // gradient 1, parameter 2, moments 4
        OptimizerConfig::Muon(_) => ("muon", 0.),
    };
    let draw = |rows: i64, columns: i64| sizes.input(&[rows, columns], Kind::Float);
    let (e, heads, m) = (sizes.model_dim, sizes.all_heads(), sizes.ffn_dim);
    let matrices = [draw(4 * heads, e), draw(m, e), draw(e, m)];
    for matrix in &matrices {
        matrix.square().sum(Kind::Float).backward();
    }
    let bytes = 4. * passes * matrices.iter().map(|matrix| matrix.numel() as f64).sum::<f64>();
    let named = matrices.iter().enumerate().map(|(i, p)| (format!("m{i}.weight"), p.shallow_clone()));
    let mut optimizer = Optimizer::new(config, named.collect());
    let work = Box::new(move || {
        optimizer.step(1e-3);
        Ok(())
    });
    Item { group: BenchGroup::Part, name: name.into(), kind: Kind::Float, flops: 0., bytes, work }
}

fn bytes_of(kind: Kind) -> f64 {
    if kind == Kind::BFloat16 { 2. } else { 4. }
}

/// Runs `work` with products in `kind`.
fn in_kind<T>(kind: Kind, like: &Tensor, work: impl FnOnce() -> T) -> T {
    if kind == Kind::BFloat16 { brt_native::in_bfloat16(like, work) } else { work() }
}
