//! Training with little memory: layers that are computed again, rows that go through the model in groups.

mod common;

use brt_lm::{Mode, ModelConfig, ModelState};
use brt_ops::{init::seeded, loss};
use common::{build, difference, every_model, tokens};
use tch::{Device, Kind, Tensor};

/// Float32 rounding of the terms of a gradient of a sum of 18 losses that cancel each other.
const CANCELLED: f64 = 1e-7;

/// The loss that keeps no logits, and layers that are computed again in the backward pass, give the numbers of logits and
/// layers that are kept, in every kind of model; and they are computed again: nobody but their scope can walk back through
/// them.
#[test]
fn little_memory_has_the_same_gradients() {
    for (variant, config) in every_model(3, 4, 9) {
        let model = build(ModelConfig { dropout: 0.1, attention_dropout: 0.1, ..config });
        let (tokens, targets) = (tokens(2, 9, 1), tokens(2, 9, 2));
        let mask = Tensor::ones([2, 9], (Kind::Float, Device::Cpu));
        let with_states = |loss: &Tensor, state: &ModelState| {
            let states = state.named().into_iter().filter(|(_, x)| x.requires_grad());
            states.fold(loss.shallow_clone(), |sum, (_, x)| sum + x.square().mean(Kind::Float))
        };
        let gradients = || {
            let named = model.params().named();
            named.iter().map(|(name, p)| (name.clone(), p.grad().copy())).collect::<Vec<_>>()
        };
        let drop_gradients = || brt_native::drop_gradients(model.params().named().iter().map(|(_, p)| p));
        let state = model.initial_state(2);
        drop_gradients();
        let kept = || model.forward(&tokens, &state, Mode::Train);
        let (logits, after) = seeded(3, "step", kept);
        let nats = loss::cross_entropy(&logits, &targets, &mask).sum(Kind::Float);
        with_states(&nats, &after).backward();
        let expected = gradients();
        drop_gradients();
        brt_native::segments(|segments| {
            let recomputed = || model.loss(&tokens, [&targets, &mask], &state, Some(segments));
            let (again, after) = seeded(3, "step", recomputed);
            assert!(difference(&again, &nats) < 1e-4, "{variant}");
            assert!(with_states(&again, &after).f_backward().is_err(), "{variant}: it is kept");
            drop_gradients();
            let (again, after) = seeded(3, "step", recomputed);
            segments.backward(&with_states(&again, &after));
        });
        for ((name, expected), (_, got)) in expected.iter().zip(&gradients()) {
            let error = difference(expected, got);
            let size = expected.abs().max().double_value(&[]);
            assert!(error <= 1e-5 * size + CANCELLED, "{variant}: {name}: {error} of {size}");
        }
    }
}

/// Scores without logits are those of logits.
#[test]
fn scores_need_no_logits() {
    for (variant, config) in every_model(3, 4, 9) {
        let (model, tokens, targets) = (build(config), tokens(2, 9, 1), tokens(2, 9, 2));
        let mask = Tensor::ones([2, 9], (Kind::Float, Device::Cpu));
        let state = model.initial_state(2);
        let (logits, _) = tch::no_grad(|| model.forward(&tokens, &state, Mode::Eval));
        let (nats, _) = model.score(&tokens, [&targets, &mask], &state);
        assert!(difference(&nats, &loss::cross_entropy(&logits, &targets, &mask)) < 1e-5, "{variant}");
    }
}

/// Groups of rows of a state, side by side, are the state.
#[test]
fn states_are_split_and_joined() {
    for (variant, config) in every_model(3, 4, 9) {
        let model = build(config);
        let tokens = tokens(6, 9, 1);
        let (_, state) = tch::no_grad(|| model.forward(&tokens, &model.initial_state(6), Mode::Eval));
        for num_parts in [1, 2, 3, 6] {
            let parts = state.split(num_parts);
            assert_eq!(parts[0].layers[0].cache.keys.size()[0], 6 / num_parts as i64);
            assert_eq!(ModelState::join(&parts).named(), state.named(), "{variant}");
        }
    }
}
