//! Forward and backward pass of single operations, at the sizes of the laptop comparison; one thread.
#![expect(missing_docs, reason = "criterion's macros make undocumented functions")]

use brt_cell::{CellConfig, CellLayout, Gate, RecurrentCell};
use brt_ops::{
    Params, PositionBias, PositionConfig, QkNorm, RmsNorm, Temperature, WindowShape, WindowTables, Windows,
    composed_attention,
};
use criterion::{Criterion, criterion_group, criterion_main};
use tch::{Device, Kind, Tensor};

const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);
const NUM_BLOCKS: i64 = 8;
const BATCH: i64 = 16;
const NUM_HEADS: i64 = 4;
const WINDOW_LEN: i64 = 32;
const HEAD_DIM: i64 = 32;
const MODEL_DIM: i64 = NUM_HEADS * HEAD_DIM;

fn input(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, OPTIONS).set_requires_grad(true)
}

/// Runs `f` and its backward pass.
fn forward_backward(criterion: &mut Criterion, name: &str, f: impl Fn() -> Tensor) {
    tch::set_num_threads(1);
    criterion.bench_function(name, |bencher| bencher.iter(|| f().sum(Kind::Float).backward()));
}

fn operations(criterion: &mut Criterion) {
    let params = Params::new(1, Device::Cpu);
    let norm = RmsNorm::new(&(params.root() / "norm"), MODEL_DIM);
    let x = input(&[NUM_BLOCKS, BATCH, WINDOW_LEN, MODEL_DIM]);
    forward_backward(criterion, "rms_norm", || norm.forward(&x));
    forward_backward(criterion, "rms_norm, composed", || {
        x.square().mean_dim(-1, true, Kind::Float).rsqrt() * &x
    });

    let queries = input(&[NUM_BLOCKS, BATCH, NUM_HEADS, WINDOW_LEN, HEAD_DIM]);
    let keys = input(&[NUM_BLOCKS, BATCH, NUM_HEADS, 2 * WINDOW_LEN, HEAD_DIM]);
    let values = input(&[NUM_BLOCKS, BATCH, NUM_HEADS, 2 * WINDOW_LEN, HEAD_DIM]);
    let bias = input(&[NUM_HEADS, WINDOW_LEN, 2 * WINDOW_LEN]);
    let tables =
        WindowTables::new(WindowShape::block(WINDOW_LEN), &PositionConfig::PAPER, HEAD_DIM, Device::Cpu);
    let t5 = PositionBias::new(&(params.root() / "position_bias"), &PositionConfig::PAPER, NUM_HEADS)
        .expect("T5 has a bias");
    forward_backward(criterion, "T5 bias of a window", || tables.bias(&t5));
    forward_backward(criterion, "windowed attention", || {
        composed_attention(&queries, &keys, &values, Some(&tables.mask_bias(Some(&bias))), None)
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

criterion_group!(benches, operations, scan);
criterion_main!(benches);
