//! The training step: clipping, parts of a batch, what is not finite, precision, what is computed again.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::sync::Arc;

use brt_data::{Split, TokenSet};
use brt_trainer::{
    AdamWConfig, Decay, Learner, LearnerConfig, Model, NonFinite, OptimizerConfig, ParameterGroup,
    ScheduleConfig, Segments, StepReport, Trainer,
};
use common::Place;
use tch::{Device, Kind, Tensor};

/// Two weights; the loss is their product with the batch, plus the state, which the batch becomes.
struct Linear {
    a: Tensor,
    b: Tensor,
}

impl Linear {
    fn new() -> Self {
        let weight =
            |value: f64| Tensor::full([1], value, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        Self { a: weight(1.), b: weight(2.) }
    }
}

impl Model for Linear {
    type Batch = [f64; 2];
    type State = f64;

    fn parameters(&self) -> Vec<(String, Tensor)> {
        vec![("a".into(), self.a.shallow_clone()), ("b".into(), self.b.shallow_clone())]
    }

    fn num_scored(_batch: &[f64; 2]) -> u64 {
        1
    }

    fn loss<'env>(&'env self, batch: &[f64; 2], state: &f64, _: &Segments<'env>) -> (Tensor, f64) {
        ((&self.a * batch[0] + &self.b * batch[1] + *state).sum(Kind::Float), batch[0])
    }

    fn detach(state: &f64) -> f64 {
        *state
    }

    fn state_tensors(state: &f64) -> Vec<(String, Tensor)> {
        vec![("last".into(), Tensor::from(*state))]
    }
}

fn learner(max_gradient_norm: Option<f64>, non_finite: NonFinite, num_parts: usize) -> Learner<Linear> {
    let decay = Decay::Matrices;
    // The first step of Adam with a large epsilon is proportional to the gradient.
    let adamw = AdamWConfig { beta1: 0., beta2: 0., epsilon: 1e6, weight_decay: 0., decay };
    let schedule = ScheduleConfig::constant(1e6);
    let optimizer = OptimizerConfig::AdamW(adamw);
    let config = LearnerConfig { optimizer, schedule, num_steps: 9, max_gradient_norm, non_finite };
    Learner::new(Linear::new(), vec![0.; num_parts], config, 1)
}

fn weights(learner: &Learner<Linear>) -> [f64; 2] {
    [&learner.model.a, &learner.model.b].map(|w| w.double_value(&[0]))
}

#[test]
fn gradients_are_scaled_down_to_the_largest_norm() {
    for (max, expected) in [(None, [-2., -2.]), (Some(10.), [-2., -2.]), (Some(1.), [1. - 0.6, 2. - 0.8])] {
        let mut learner = learner(max, NonFinite::Stop, 1);
        let report = learner.step(&[[3., 4.]]).unwrap();
        assert!((report.gradient_norm - 5.).abs() < 1e-6); // Before it was scaled.
        for (got, expected) in weights(&learner).into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-4, "{max:?}: {got}, expected {expected}");
        }
    }
}

#[test]
fn parts_of_a_batch_add_up_and_carry_their_own_states() {
    let mut learner = learner(None, NonFinite::Stop, 2);
    let report = learner.step(&[[1., 0.], [0., 3.]]).unwrap();
    // The mean over both parts.
    assert_eq!((report.num_scored, report.loss_nats), (2, 1. + 6.));
    assert!((weights(&learner)[0] - 0.5).abs() < 1e-4 && (weights(&learner)[1] - 0.5).abs() < 1e-4);
    assert_eq!(learner.states(), [1., 0.]);
}

/// What is not finite is named, from its source on: parameter, state, gradient, loss. Nothing has changed.
#[test]
fn what_is_not_finite_is_named_and_changes_nothing() {
    let stop =
        |learner: &mut Learner<Linear>, batch: [f64; 2]| learner.step(&[batch]).unwrap_err().to_string();
    let mut one = learner(None, NonFinite::Stop, 1);
    let error = stop(&mut one, [1., f64::INFINITY]);
    assert!(error.starts_with("step 1: expected a finite gradient of b, got inf"), "{error}");
    assert_eq!((weights(&one), one.num_steps(), one.states()), ([1., 2.], 0, &[0.][..]));
    one.states_mut()[0] = f64::NAN;
    let error = stop(&mut one, [1., 1.]);
    assert!(error.starts_with("step 1: expected a finite state last, got NaN"), "{error}");
    let _ = tch::no_grad(|| one.model.a.fill_(f64::NAN));
    let error = stop(&mut one, [1., 1.]);
    assert!(error.starts_with("step 1: expected a finite parameter a, got NaN"), "{error}");
    assert!(one.check_finite().unwrap_err().to_string().contains("finite a, got NaN"));
}

/// A step that is left out counts for the schedule, not for the optimiser.
#[test]
fn a_step_that_is_skipped_is_counted_as_a_step() {
    let mut one = learner(None, NonFinite::Skip, 1);
    let report = one.step(&[[f64::NAN, 1.]]).unwrap();
    assert!(report.is_skipped && report.step == 1);
    assert_eq!((one.num_steps(), one.optimizer().num_steps()), (1, 0));
    assert_eq!((weights(&one), one.states()), ([1., 2.], &[0.][..]));
    let report = one.step(&[[1., 1.]]).unwrap();
    assert!(!report.is_skipped && report.step == 2 && report.loss_nats == 3.);
}

/// A document that begins in a step that is left out begins all the same: its row does not go on with what the row has
/// read before.
#[test]
fn documents_begin_in_skipped_steps_too() {
    tch::set_num_threads(1);
    let place = Place::new();
    let set = Arc::new(TokenSet::open(&place.path("corpus"), Split::Train).unwrap());
    let config = place.config(&[("train.non_finite", "'skip'"), ("data.batch", "1")]);
    let mut trainer = Trainer::new(config, set, 5, Device::Cpu).unwrap();
    let fresh = trainer.state();
    trainer.step().unwrap();
    assert_ne!(trainer.state().named(), fresh.named());
    // Pieces of 200 tokens have four segments: the next one begins with the fifth step.
    (0..3).for_each(|_| _ = trainer.step().unwrap());
    let named = trainer.model().params().named();
    let (_, gain) = named.iter().find(|(name, _)| name == "final_norm.weight").unwrap();
    let saved = gain.detach().copy();
    let _ = tch::no_grad(|| gain.shallow_clone().fill_(f64::NAN));
    assert!(trainer.step().unwrap().is_skipped);
    tch::no_grad(|| gain.shallow_clone().copy_(&saved));
    let initial = trainer.model().initial_state(1).detach();
    assert_eq!(trainer.state().named(), initial.named());
    assert!(!trainer.step().unwrap().is_skipped);
}

/// Trains a language model and returns its reports and, in the end, its parameters.
fn train(overrides: &[(&str, &str)], num_steps: usize) -> (Vec<StepReport>, Vec<(String, Tensor)>) {
    tch::set_num_threads(1);
    let place = Place::new();
    let set = Arc::new(TokenSet::open(&place.path("corpus"), Split::Train).unwrap());
    let mut trainer = Trainer::new(place.config(overrides), set, 5, Device::Cpu).unwrap();
    let reports = (0..num_steps).map(|_| trainer.step().unwrap()).collect();
    (reports, trainer.model().params().named())
}

fn largest_difference(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> f64 {
    let difference = |((_, a), (_, b)): (&(String, Tensor), &(String, Tensor))| {
        ((a - b).abs().max() / a.abs().max()).double_value(&[])
    };
    a.iter().zip(b).map(difference).fold(0., f64::max)
}

/// Rows that go through the model in groups give the step of all rows, to rounding.
#[test]
fn accumulation_is_the_larger_batch() {
    let calm = [("model.dropout", "0.0"), ("model.attention_dropout", "0.0")];
    let (whole, expected) = train(&calm, 6);
    let (parts, got) = train(&[&calm[..], &[("train.accumulate", "3")]].concat(), 6);
    for (whole, part) in whole.iter().zip(&parts) {
        assert_eq!(whole.num_scored, part.num_scored);
        assert!((whole.loss_nats / part.loss_nats - 1.).abs() < 1e-5, "{whole:?} {part:?}");
        assert!((whole.gradient_norm / part.gradient_norm - 1.).abs() < 1e-4, "{whole:?} {part:?}");
    }
    let difference = largest_difference(&expected, &got);
    assert!(difference < 1e-3, "{difference}");
}

/// Layers that are computed again give the same losses and the same parameters, bit for bit, dropout included. Under
/// feedback, where a layer runs window by window, its gradients are added in another order.
#[test]
fn what_is_computed_again_is_the_same() {
    let memory = ("model.memory", "{ layer = 0, capacity = 24, num_neighbours = 4, local_position = true }");
    let kinds: [&[(&str, &str)]; 7] = [
        &[],
        &[memory, ("train.precision", "bf16")],
        &[("train.precision", "bf16")],
        &[("model.recurrence.feedback", "true")],
        &[("model.recurrence.gate", "lstm"), ("model.recurrence.layout", "dual"), ("train.accumulate", "3")],
        &[memory],
        &[("model.carry", "none")],
    ];
    for kind in kinds {
        let (kept, expected) = train(kind, 4);
        let (again, got) = train(&[kind, &[("train.memory", "recompute")]].concat(), 4);
        let difference = largest_difference(&expected, &got);
        if kind.iter().any(|(key, _)| key.ends_with("feedback")) {
            assert!(difference < 1e-4, "{kind:?}: {difference}");
            continue;
        }
        assert_eq!(kept, again, "{kind:?}");
        assert!(expected == got, "{kind:?}: {difference}");
    }
}

/// With products in bfloat16 a model learns as with float32: the losses lie within a hundredth of each other.
#[test]
fn bfloat16_follows_float32() {
    let options = [("model.dropout", "0.0"), ("model.attention_dropout", "0.0"), ("train.num_steps", "40")];
    let (single, parameters) = train(&options, 40);
    let (half, rounded) = train(&[&options[..], &[("train.precision", "bf16")]].concat(), 40);
    for (a, b) in single.iter().zip(&half) {
        assert!((a.loss_nats / b.loss_nats - 1.).abs() < 0.01, "{a:?} {b:?}");
    }
    assert!(single[39].loss_nats < 0.8 * single[0].loss_nats, "it learns");
    assert!(largest_difference(&parameters, &rounded) > 1e-6, "it is bfloat16");
    assert!(rounded.iter().all(|(_, p)| p.kind() == Kind::Float));
}

/// Every parameter of every kind of model has the group that its name says.
#[test]
fn groups_of_parameters() {
    let groups = |overrides: &[(&str, &str)]| {
        let named = train(overrides, 1).1;
        named.into_iter().map(|(name, p)| (ParameterGroup::of(&name, &p), name)).collect::<Vec<_>>()
    };
    let of = |groups: &[(ParameterGroup, String)], group| {
        groups.iter().filter(|(g, _)| *g == group).map(|(_, name)| name.clone()).collect::<Vec<_>>()
    };
    let skip = groups(&[]);
    assert_eq!(
        of(&skip, ParameterGroup::Table),
        [
            "embedding.weight",
            "layers.0.position_bias.weight",
            "layers.1.cell.attention.state_ids",
            "layers.1.cell.initial_state",
            "layers.1.position_bias.weight"
        ]
    );
    let matrices = of(&skip, ParameterGroup::Matrix);
    let endings = [
        "key.weight",
        "value.weight",
        "query.weight",
        "attention_out.weight",
        "ffn.hidden.weight",
        "ffn.out.weight",
    ];
    assert!(matrices.iter().all(|name| endings.iter().any(|end| name.ends_with(end))), "{matrices:?}");
    assert_eq!(matrices.len(), 6 + 7 + 5);
    let vectors = of(&skip, ParameterGroup::Vector);
    let endings = ["norm.weight", "temperature", "gate_bias", ".bias"];
    assert!(vectors.iter().all(|name| endings.iter().any(|end| name.ends_with(end))), "{vectors:?}");
    // Whatever else a model has is a vector, or a matrix of a gate, a feed-forward layer or a network of positions.
    let kinds: [&[(&str, &str)]; 8] = [
        &[("model.recurrence.gate", "full"), ("model.recurrence.layout", "single")],
        &[("model.memory", "{ layer = 0, capacity = 24, num_neighbours = 4, local_position = true }")],
        &[("model.position", "{ kind = 'rotary', max_half_wavelength = 10000.0 }")],
        &[("model.position", "{ kind = 'none' }")],
        &[("model.recurrence.feedback", "true")],
        &[("model.carry", "none")],
        &[("model.recurrence.layers", "[0, 1]")],
        &[("model.recurrence.layout", "dual")],
    ];
    let known = ["key", "value", "query", "cross_query", "attention_out", "hidden", "out", "full"];
    for kind in kinds {
        for name in of(&groups(kind), ParameterGroup::Matrix) {
            let owner = name.rsplit('.').nth(1).unwrap();
            assert!(name.ends_with(".weight") && known.contains(&owner), "{kind:?}: {name}");
        }
    }
    let gated = groups(&[("model.recurrence.gate", "lstm"), ("model.recurrence.layout", "dual")]);
    let vectors = of(&gated, ParameterGroup::Vector);
    assert!(vectors.contains(&"layers.1.cell.ffn_gate.forget.bias".into()), "{vectors:?}");
    assert!(of(&gated, ParameterGroup::Matrix).contains(&"layers.1.cell.ffn_gate.forget.weight".into()));
}
