//! Every kind of model against plain loops over its tokens: values and gradients, at odd sizes.

mod common;
mod naive;

use brt_lm::{Carry, LanguageModel, Mode, ModelConfig, ModelState};
use brt_ops::init::seeded;
use common::{build, every_model, tokens};
use naive::{Matrix, NaiveModel, matrix};
use tch::{Device, Kind, Tensor};

/// Of the largest value: float32 against float64 through three layers.
const VALUE_TOLERANCE: f64 = 2e-5;
/// Of the largest derivative; the differences themselves are right to about 1e-6.
const GRADIENT_TOLERANCE: f64 = 1e-3;
/// Step of central differences in float64.
const STEP: f64 = 1e-5;

/// Returns random tokens whose last `num_padding` are padding.
fn padded(batch: i64, len: i64, num_padding: i64, seed: u64) -> Tensor {
    let tokens = tokens(batch, len, seed);
    let _ = tokens.narrow(1, len - num_padding, num_padding).fill_(0);
    tokens
}

fn largest(x: &Matrix) -> f64 {
    x.iter().flatten().fold(0., |largest, x| largest.max(x.abs()))
}

fn difference(a: &Matrix, b: &Matrix) -> f64 {
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.fold(0., |largest, (x, y)| largest.max((x - y).abs()))
}

/// Runs segments with carried state through both, the last one padded, and compares logits and recurrent states.
fn check_values(name: &str, config: ModelConfig, batch: i64, segment_len: i64) {
    let model = build(config);
    let naive = NaiveModel::new(&model);
    let mut state = model.initial_state(batch);
    let mut naive_state: Vec<_> = (0..batch).map(|row| naive.state_of(&state, row)).collect();
    for (segment, num_padding) in [0, 0, segment_len / 2].into_iter().enumerate() {
        let tokens = padded(batch, segment_len, num_padding, segment as u64);
        let (logits, next) = tch::no_grad(|| model.forward(&tokens, &state, Mode::Eval));
        for row in 0..batch {
            let ids: Vec<i64> = tokens.get(row).try_into().expect("a row of tokens");
            let (want, after) = naive.run(&ids, &naive_state[row as usize]);
            let got = matrix(&logits.get(row));
            let (error, size) = (difference(&got, &want), largest(&want));
            assert!(error <= VALUE_TOLERANCE * size, "{name}, segment {segment}: {error:.1e} of {size:.1e}");
            for (layer, naive_layer) in next.layers.iter().zip(&after) {
                if let Some(recurrent) = &layer.recurrent {
                    let error = difference(&matrix(&recurrent.get(row)), &naive_layer.states);
                    assert!(error <= VALUE_TOLERANCE * size.max(1.), "{name}: states off by {error:.1e}");
                }
            }
            naive_state[row as usize] = after;
        }
        state = next;
    }
}

#[test]
fn values_at_small_sizes() {
    // W, S, n, B
    for (window_len, num_states, num_blocks, batch) in
        [(1, 1, 3, 1), (3, 1, 1, 2), (1, 3, 2, 1), (3, 2, 3, 1)]
    {
        let segment_len = window_len * num_blocks;
        for (name, config) in every_model(window_len, num_states, segment_len) {
            let name = format!("{name}, W {window_len}, S {num_states}, n {num_blocks}, B {batch}");
            check_values(&name, config, batch, segment_len);
        }
    }
}

/// A window that reaches the logarithmic buckets.
#[test]
fn values_at_a_window_of_63() {
    for (name, config) in every_model(63, 7, 126) {
        check_values(&name, config, 1, 126);
    }
}

/// Autograd against central differences of the loops, parameter by parameter, each in a random direction.
#[test]
fn gradients() {
    for (window_len, num_states, num_blocks) in [(1, 1, 3), (3, 2, 2)] {
        for (name, config) in every_model(window_len, num_states, window_len * num_blocks) {
            // Where gradients stop between blocks, differences would go on: one block then.
            let stops = config.carry == Carry::Detached || config.memory.is_some();
            let num_blocks = if stops { 1 } else { num_blocks };
            if config.segment_len.is_some() && stops {
                continue;
            }
            check_gradients(&format!("{name}, W {window_len}"), config, window_len * num_blocks);
        }
    }
}

fn check_gradients(name: &str, config: ModelConfig, segment_len: i64) {
    let model = build(config);
    let start = model.initial_state(1);
    let (past, now) = (tokens(1, segment_len, 1), padded(1, segment_len, segment_len / 3, 2));
    let carried = if model.config().segment_len.is_some() { start } else { advance(&model, &past, &start) };
    let weights = seeded(5, "weights", || Tensor::randn([segment_len, 23], (Kind::Float, Device::Cpu)));
    let (logits, _) = model.forward(&now, &carried.detach(), Mode::Eval);
    (logits.get(0) * &weights).sum(Kind::Float).backward();

    let (naive, weights) = (NaiveModel::new(&model), matrix(&weights));
    let state = naive.state_of(&carried, 0);
    let ids: Vec<i64> = now.get(0).try_into().expect("a row of tokens");
    let loss = |naive: &NaiveModel| -> f64 {
        let (logits, _) = naive.run(&ids, &state);
        logits.iter().flatten().zip(weights.iter().flatten()).map(|(x, w)| x * w).sum()
    };
    for (parameter_name, parameter) in model.params().named() {
        let direction = seeded(6, &parameter_name, || parameter.detach().randn_like());
        let along = matrix(&direction);
        let moved = |sign: f64| {
            let mut naive = naive.clone();
            let values = naive.parameters.get_mut(&parameter_name).expect("the same names");
            for (x, d) in values.iter_mut().flatten().zip(along.iter().flatten()) {
                *x += sign * STEP * d;
            }
            loss(&naive)
        };
        let want = (moved(1.) - moved(-1.)) / (2. * STEP);
        let gradient = parameter.grad();
        let got = match gradient.defined() {
            true => (gradient * &direction).sum(Kind::Double).double_value(&[]),
            false => 0.,
        };
        let size = want.abs().max(1.);
        assert!((got - want).abs() <= GRADIENT_TOLERANCE * size, "{name}: {parameter_name}: {got} {want}");
    }
}

fn advance(model: &LanguageModel, tokens: &Tensor, state: &ModelState) -> ModelState {
    tch::no_grad(|| model.forward(tokens, state, Mode::Eval).1)
}
