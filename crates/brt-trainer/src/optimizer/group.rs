//! What a parameter is, which decides how it is optimised.

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterGroup {
    /// Weight of a dense layer.
    Matrix,
    /// Rows that are looked up or start a state: embedding, positions, identities, initial states.
    Table,
    /// Gain, bias or temperature.
    Vector,
}

impl ParameterGroup {
    /// Returns the group of a parameter by its name. Of a model with other names than ours, matrices are those that
    /// have two dimensions.
    pub fn of(name: &str, parameter: &Tensor) -> Self {
        let mut parts = name.rsplit('.');
        let (leaf, owner) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_vector = parameter.dim() < 2;
        match (leaf, owner) {
            _ if is_vector => Self::Vector,
            ("state_ids" | "initial_state", _) | (_, "embedding" | "position_bias" | "position") => {
                Self::Table
            }
            _ => Self::Matrix,
        }
    }
}

/// Which parameters the weight decay takes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Matrices alone: neither tables nor gains, biases and temperatures.
    #[default]
    Matrices,
    /// All, as in the official code.
    All,
}

impl Decay {
    /// Returns whether a parameter decays.
    pub(super) fn applies_to(self, name: &str, parameter: &Tensor) -> bool {
        self == Self::All || ParameterGroup::of(name, parameter) == ParameterGroup::Matrix
    }

    /// Returns whether this is what a configuration that does not say gets.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
