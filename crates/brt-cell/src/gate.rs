//! Gates of the recurrent cell: how the next state mixes the old one with its update.

use brt_ops::{Scope, expect_shape, init::Init};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Gate biases start small but not at zero: Adafactor scales a parameter's update by the parameter's own size.
const GATE_BIAS_INIT: Init = Init::Normal { std: 0.1 };

/// Kind of gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// One learned weight for each feature, whatever the input (`bias` in the official code).
    Fixed,
    /// Forget and input gates that read the activation before the last matrix.
    Lstm,
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
        update.lerp_tensor(state, &g) // update + g ⊙ (state − update)
    }
}

/// LSTM gate: forget and input gates, computed from the activation that the update was projected from.
#[derive(Debug)]
pub struct LstmGate {
    forget_weight: Tensor, // [E, in]
    forget_bias: Tensor,   // [E]
    input_weight: Tensor,  // [E, in]
    input_bias: Tensor,    // [E]
}

impl LstmGate {
    /// Returns a gate over `model_dim` features that reads `in_dim` features; it starts close to remembering.
    pub fn new(p: &Scope, in_dim: i64, model_dim: i64) -> Self {
        let kernel = Init::VarianceScaling { scale: 0.1, fan_in: in_dim };
        let weight = |name: &str| (p / name).param("weight", &[model_dim, in_dim], kernel);
        let bias = |name: &str| (p / name).param("bias", &[model_dim], GATE_BIAS_INIT);
        Self {
            forget_weight: weight("forget"),
            forget_bias: bias("forget"),
            input_weight: weight("input"),
            input_bias: bias("input"),
        }
    }

    /// Returns the next state, `f ⊙ state + i ⊙ update` with `f = σ(Wf h + bf + 1)`, `i = σ(Wi h + bi − 1)`.
    ///
    /// # Shapes
    /// `state`, `update` and the result: `[B, S, E]`; `hidden`: `[B, S, in]`.
    #[track_caller]
    pub fn forward(&self, state: &Tensor, update: &Tensor, hidden: &Tensor) -> Tensor {
        expect_shape("update", update, &state.size());
        let f = (hidden.linear(&self.forget_weight, Some(&self.forget_bias)) + 1.).sigmoid(); // [B, S, E]
        let i = (hidden.linear(&self.input_weight, Some(&self.input_bias)) - 1.).sigmoid(); // [B, S, E]
        f * state + i * update
    }
}

/// A gate of either kind.
#[derive(Debug)]
pub(crate) enum GateLayer {
    Fixed(FixedGate),
    Lstm(LstmGate),
}

impl GateLayer {
    pub(crate) fn new(p: &Scope, gate: Gate, in_dim: i64, model_dim: i64) -> Self {
        match gate {
            Gate::Fixed => Self::Fixed(FixedGate::new(p, model_dim)),
            Gate::Lstm => Self::Lstm(LstmGate::new(p, in_dim, model_dim)),
        }
    }

    #[track_caller]
    pub(crate) fn forward(&self, state: &Tensor, update: &Tensor, hidden: &Tensor) -> Tensor {
        match self {
            Self::Fixed(gate) => gate.forward(state, update),
            Self::Lstm(gate) => gate.forward(state, update, hidden),
        }
    }
}
