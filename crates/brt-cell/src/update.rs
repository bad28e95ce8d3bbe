//! From what the states read to the next state, by layout of the cell.

use brt_ops::{Linear, Mlp, RmsNorm, Scope, probe};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{CellConfig, gate::GateLayer};

/// Layout of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellLayout {
    /// Projection and gate, then feed-forward layer and gate.
    Dual,
    /// Feed-forward layer straight on what was read, one gate.
    Single,
    /// Projection and gate, no feed-forward layer: the paper's best or near best, and its fastest.
    Skip,
}

/// From what the states read to the next state.
#[derive(Debug)]
pub struct Update(Layers);

/// What each layout is made of.
#[derive(Debug)]
enum Layers {
    Dual { out: Linear, out_gate: GateLayer, ffn_norm: RmsNorm, ffn: Mlp, ffn_gate: GateLayer },
    Single { ffn: Mlp, ffn_gate: GateLayer },
    Skip { out: Linear, out_gate: GateLayer },
}

impl Update {
    /// Returns an update with drawn weights.
    pub fn new(p: &Scope, config: &CellConfig) -> Self {
        let CellConfig { model_dim, ffn_dim, gate, .. } = *config;
        let read_dim = 2 * config.num_heads * config.head_dim;
        let out = || Linear::new(&(p / "attention_out"), read_dim, model_dim);
        let out_gate = || GateLayer::new(&(p / "attention_gate"), gate, read_dim, model_dim);
        let ffn = |in_dim| Mlp::new(&(p / "ffn"), in_dim, ffn_dim, model_dim);
        let ffn_gate = || GateLayer::new(&(p / "ffn_gate"), gate, ffn_dim, model_dim);
        Self(match config.layout {
            CellLayout::Dual => Layers::Dual {
                out: out(),
                out_gate: out_gate(),
                ffn_norm: RmsNorm::new(&(p / "ffn_norm"), model_dim),
                ffn: ffn(model_dim),
                ffn_gate: ffn_gate(),
            },
            CellLayout::Single => Layers::Single { ffn: ffn(read_dim), ffn_gate: ffn_gate() },
            CellLayout::Skip => Layers::Skip { out: out(), out_gate: out_gate() },
        })
    }

    /// Returns the next state from the old one and what it read.
    ///
    /// # Shapes
    /// `state` and the result: `[B, S, E]`; `read`: `[B, S, 2HD]`.
    pub fn forward(&self, state: &Tensor, read: &Tensor) -> Tensor {
        match &self.0 {
            Layers::Dual { out, out_gate, ffn_norm, ffn, ffn_gate } => {
                let attention_gate = || out_gate.forward(state, &out.forward(read), read);
                let s1 = probe::scope(|| "attention_gate".into(), attention_gate); // [B, S, E]
                let (hidden, z) = ffn.forward(&ffn_norm.forward(&s1)); // [B, S, M], [B, S, E]
                probe::scope(|| "ffn_gate".into(), || ffn_gate.forward(&s1, &z, &hidden))
            }
            Layers::Single { ffn, ffn_gate } => {
                let (hidden, z) = ffn.forward(read); // [B, S, M], [B, S, E]
                ffn_gate.forward(state, &z.tanh(), &hidden)
            }
            Layers::Skip { out, out_gate } => out_gate.forward(state, &out.forward(read), read),
        }
    }
}
