//! Gates of the recurrent cell: how the next state mixes the old one with its update.

use brt_ops::{
    Linear, Scope, expect_shape,
    init::Init,
    probe::{self, distribution},
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Gate biases start small but not at zero: Adafactor scales a parameter's update by the parameter's own size.
const GATE_BIAS_INIT: Init = Init::Normal { std: 0.1 };

/// Variance of a gate's weights times its fan-in: gates start close to their biases.
const GATE_WEIGHT_SCALE: f64 = 0.1;

/// Kind of gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// One learned weight for each feature, whatever the input (`bias` in the official code).
    Fixed,
    /// Forget and input gates that read the activation before the last matrix.
    Lstm,
    /// One gate that reads that activation; no model of the paper has it.
    Full,
}

/// Fixed gate: mixes the old state with its update by a learned weight that ignores the input.
#[derive(Debug)]
pub struct FixedGate {
    gate_bias: Tensor, // [E]
}

impl FixedGate {
    /// Returns a gate over `model_dim` features, σ(gate_bias) ≈ 0.5.
    pub fn new(p: &Scope, model_dim: i64) -> Self {
        Self { gate_bias: p.param("gate_bias", &[model_dim], GATE_BIAS_INIT) }
    }

    /// Returns the next state, `g ⊙ state + (1 − g) ⊙ update` with `g = σ(gate_bias)`.
    ///
    /// # Shapes
    /// `state`, `update` and the result: `[B, S, E]`.
    #[track_caller]
    pub fn forward(&self, state: &Tensor, update: &Tensor) -> Tensor {
        expect_shape("update", update, &state.size());
        let g = self.gate_bias.sigmoid(); // [E]
        record_openness(&g);
        update.to_kind(state.kind()).lerp_tensor(state, &g) // update + g ⊙ (state − update)
    }
}

/// LSTM gate: forget and input gates, computed from the activation that the update was projected from.
#[derive(Debug)]
pub struct LstmGate {
    forget: Linear, // [E, in]
    input: Linear,  // [E, in]
}

impl LstmGate {
    /// Returns a gate over `model_dim` features that reads `in_dim` features; it starts close to remembering.
    pub fn new(p: &Scope, in_dim: i64, model_dim: i64) -> Self {
        let linear = |name: &str| gate_linear(&(p / name), in_dim, model_dim);
        Self { forget: linear("forget"), input: linear("input") }
    }

    /// Returns the next state, `f ⊙ state + i ⊙ update` with `f = σ(Wf h + bf + 1)`, `i = σ(Wi h + bi − 1)`.
    ///
    /// # Shapes
    /// `state`, `update` and the result: `[B, S, E]`; `hidden`: `[B, S, in]`.
    #[track_caller]
    pub fn forward(&self, state: &Tensor, update: &Tensor, hidden: &Tensor) -> Tensor {
        expect_shape("update", update, &state.size());
        // In mixed precision the products are bfloat16; gates are as exact as the states.
        let f = (self.forget.forward(hidden).to_kind(state.kind()) + 1.).sigmoid(); // [B, S, E]
        let i = (self.input.forward(hidden).to_kind(state.kind()) - 1.).sigmoid(); // [B, S, E]
        probe::scope(|| "openness".into(), || probe::record(|| distribution(&i)));
        probe::scope(|| "forgetting".into(), || probe::record(|| distribution(&(1. - &f))));
        f * state + i * update
    }
}

/// Full gate: mixes the old state with its update by a weight computed from the activation that the update was projected
/// from. In the official code, in no model of the paper.
#[derive(Debug)]
pub struct FullGate {
    gate: Linear, // [E, in]
}

impl FullGate {
    /// Returns a gate over `model_dim` features that reads `in_dim` features; it starts close to remembering.
    pub fn new(p: &Scope, in_dim: i64, model_dim: i64) -> Self {
        Self { gate: gate_linear(&(p / "full"), in_dim, model_dim) }
    }

    /// Returns the next state, `g ⊙ state + (1 − g) ⊙ update` with `g = σ(W h + b + 1)`.
    ///
    /// # Shapes
    /// `state`, `update` and the result: `[B, S, E]`; `hidden`: `[B, S, in]`.
    #[track_caller]
    pub fn forward(&self, state: &Tensor, update: &Tensor, hidden: &Tensor) -> Tensor {
        expect_shape("update", update, &state.size());
        let g = (self.gate.forward(hidden).to_kind(state.kind()) + 1.).sigmoid(); // [B, S, E]
        record_openness(&g);
        update.to_kind(state.kind()).lerp_tensor(state, &g)
    }
}

/// Reports how far a gate is open to the update, given the weight of the old state: the rest of it.
fn record_openness(keep: &Tensor) {
    probe::scope(|| "openness".into(), || probe::record(|| distribution(&(1. - keep))));
}

fn gate_linear(p: &Scope, in_dim: i64, model_dim: i64) -> Linear {
    Linear::with_bias(p, in_dim, model_dim, GATE_WEIGHT_SCALE, GATE_BIAS_INIT)
}

/// A gate of any kind.
#[derive(Debug)]
pub(crate) enum GateLayer {
    Fixed(FixedGate),
    Lstm(LstmGate),
    Full(FullGate),
}

impl GateLayer {
    pub(crate) fn new(p: &Scope, gate: Gate, in_dim: i64, model_dim: i64) -> Self {
        match gate {
            Gate::Fixed => Self::Fixed(FixedGate::new(p, model_dim)),
            Gate::Lstm => Self::Lstm(LstmGate::new(p, in_dim, model_dim)),
            Gate::Full => Self::Full(FullGate::new(p, in_dim, model_dim)),
        }
    }

    #[track_caller]
    pub(crate) fn forward(&self, state: &Tensor, update: &Tensor, hidden: &Tensor) -> Tensor {
        match self {
            Self::Fixed(gate) => gate.forward(state, update),
            Self::Lstm(gate) => gate.forward(state, update, hidden),
            Self::Full(gate) => gate.forward(state, update, hidden),
        }
    }
}
