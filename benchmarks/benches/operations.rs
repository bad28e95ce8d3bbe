//! Forward and backward pass of single operations, at the sizes of the laptop comparison; one thread.
#![expect(missing_docs, reason = "criterion's macros make undocumented functions")]

use brt_cell::{CellConfig, CellLayout, Gate, RecurrentCell};
use brt_native::HeadNorm;
use brt_ops::{
    Carry, Params, PositionBias, PositionConfig, QkNorm, Queries, RmsNorm, Sight, Temperature, WindowShape,
    WindowTables, Windows, attention, composed_attention, loss,
};
use brt_trainer::{Adafactor, AdafactorConfig};
use criterion::{Criterion, criterion_group, criterion_main};
use tch::{Device, Kind, Tensor};

const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);
const NUM_BLOCKS: i64 = 8;
const BATCH: i64 = 16;
const NUM_HEADS: i64 = 4;
const WINDOW_LEN: i64 = 32;
const HEAD_DIM: i64 = 32;
const MODEL_DIM: i64 = NUM_HEADS * HEAD_DIM;
const NUM_TOKENS: i64 = NUM_BLOCKS * BATCH * WINDOW_LEN;
const VOCAB_SIZE: i64 = 260;

fn input(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, OPTIONS).set_requires_grad(true)
}

/// Runs `f` and its backward pass.
fn forward_backward(criterion: &mut Criterion, name: &str, f: impl Fn() -> Tensor) {
    tch::set_num_threads(1);
    let gradient = f().ones_like();
    criterion.bench_function(name, |bencher| bencher.iter(|| brt_native::backward(&[&f()], &[&gradient])));
}

fn rows(criterion: &mut Criterion) {
    let params = Params::new(1, Device::Cpu);
    let norm = RmsNorm::new(&(params.root() / "norm"), MODEL_DIM);
    let (x, update) = (input(&[NUM_TOKENS, MODEL_DIM]), input(&[NUM_TOKENS, MODEL_DIM]));
    forward_backward(criterion, "norm", || norm.forward(&x));
    forward_backward(criterion, "norm, composed", || x.square().mean_dim(-1, true, Kind::Float).rsqrt() * &x);
    forward_backward(criterion, "add and norm", || norm.add_forward(&x, &update).1);

    let joined = input(&[NUM_TOKENS, 3 * MODEL_DIM]);
    let norms = [HeadNorm::Unit, HeadNorm::None, HeadNorm::Unit];
    forward_backward(criterion, "keys, values, queries to heads", || {
        brt_native::split_heads(&joined, norms, [NUM_HEADS, HEAD_DIM], 1e-6).remove(0)
    });

    let weight = input(&[VOCAB_SIZE, MODEL_DIM]);
    let targets = Tensor::randint(VOCAB_SIZE, [NUM_TOKENS], (Kind::Int64, Device::Cpu));
    let mask = Tensor::ones([NUM_TOKENS], OPTIONS);
    forward_backward(criterion, "loss", || loss::summed_cross_entropy(&x, &weight, &targets, &mask));
    forward_backward(criterion, "loss, composed", || {
        loss::cross_entropy(&x.linear::<Tensor>(&weight, None), &targets, &mask).sum(Kind::Float)
    });

    let matrix = input(&[4 * MODEL_DIM, MODEL_DIM]);
    matrix.square().sum(Kind::Float).backward();
    let mut adafactor = Adafactor::new(AdafactorConfig::PAPER, vec![("m".into(), matrix)]);
    criterion.bench_function("adafactor", |bencher| bencher.iter(|| adafactor.step(1e-3)));
}

/// Products with weights of a feed-forward layer, by the library that the processor chooses and by libtorch.
fn products(criterion: &mut Criterion) {
    for width in [128, 256, 512] {
        let (x, weight) = (input(&[NUM_TOKENS, width]), input(&[4 * width, width]));
        let name = format!("linear, {width} to {}", 4 * width);
        forward_backward(criterion, &name, || brt_native::linear(&x, &weight, None));
        forward_backward(criterion, &format!("{name}, libtorch"), || x.linear::<Tensor>(&weight, None));
    }
}

fn windows(criterion: &mut Criterion) {
    let params = Params::new(1, Device::Cpu);
    let heads = || input(&[NUM_BLOCKS, BATCH, WINDOW_LEN, NUM_HEADS, HEAD_DIM]).transpose(2, 3);
    let (queries, keys, values) = (heads(), heads(), heads());
    let cache = keys.detach().select(0, 0);
    let tables =
        WindowTables::new(WindowShape::block(WINDOW_LEN), &PositionConfig::PAPER, HEAD_DIM, Device::Cpu);
    let t5 = PositionBias::new(&(params.root() / "position_bias"), &PositionConfig::PAPER, NUM_HEADS)
        .expect("T5 has a bias");
    let windows = || Windows::new([&keys, &values], [&cache, &cache], Carry::Differentiable);
    forward_backward(criterion, "attention over windows", || {
        let queries = Queries { heads: queries.shallow_clone(), temperature: None };
        let bias = tables.bias_by_distance(&t5);
        attention(&queries, &windows(), Sight::Band { tables: &tables, bias: Some(&bias) }, None)
    });
    forward_backward(criterion, "attention over windows, composed", || {
        let (windows, bias) = (windows().joined(), tables.mask_bias(Some(&tables.bias(&t5))));
        composed_attention(&queries, &windows.keys, &windows.values, Some(&bias), None)
    });
}

fn scan(criterion: &mut Criterion) {
    let params = Params::new(1, Device::Cpu);
    let config = CellConfig {
        gate: Gate::Fixed,
        layout: CellLayout::Skip,
        num_states: 32,
        model_dim: MODEL_DIM,
        num_heads: NUM_HEADS,
        head_dim: HEAD_DIM,
        ffn_dim: 4 * MODEL_DIM,
        qk_norm: QkNorm::Unit,
        temperature: Temperature::Raw,
    };
    let cell = RecurrentCell::new(&params.root(), config);
    let state = input(&[BATCH, 32, MODEL_DIM]);
    let window = [NUM_BLOCKS, BATCH, NUM_HEADS, 2 * WINDOW_LEN, HEAD_DIM];
    let windows = Windows::alone(input(&window), input(&window));
    forward_backward(criterion, "scan of 8 blocks, fixed:skip", || cell.scan(&state, &windows).values);
}

criterion_group!(benches, rows, products, windows, scan);
criterion_main!(benches);
