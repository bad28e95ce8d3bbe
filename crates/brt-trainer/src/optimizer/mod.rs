//! The optimisers under one name.

mod adafactor;
mod adamw;
mod group;
mod muon;

use serde::{Deserialize, Serialize};
use tch::Tensor;

pub use self::{
    adafactor::{Adafactor, AdafactorConfig},
    adamw::{AdamW, AdamWConfig},
    group::{Decay, ParameterGroup},
    muon::{Muon, MuonConfig},
};

/// Kind of optimiser, with its options.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// The paper's.
    Adafactor(AdafactorConfig),
    /// The alternative that the paper's code offers.
    #[serde(rename = "adamw")]
    AdamW(AdamWConfig),
    /// Orthogonal updates of matrices, AdamW for the rest: the modern choice.
    Muon(MuonConfig),
}

/// An optimiser of any kind.
#[derive(Debug)]
pub enum Optimizer {
    /// Adafactor.
    Adafactor(Adafactor),
    /// AdamW.
    AdamW(AdamW),
    /// Muon.
    Muon(Muon),
}

/// Calls the same method of any kind.
macro_rules! any {
    ($self:ident, $optimizer:ident => $call:expr) => {
        match $self {
            Self::Adafactor($optimizer) => $call,
            Self::AdamW($optimizer) => $call,
            Self::Muon($optimizer) => $call,
        }
    };
}

impl Optimizer {
    /// Returns an optimiser of `parameters`, which share storage with the model, with all moments zero.
    pub fn new(config: OptimizerConfig, parameters: Vec<(String, Tensor)>) -> Self {
        match config {
            OptimizerConfig::Adafactor(config) => Self::Adafactor(Adafactor::new(config, parameters)),
            OptimizerConfig::AdamW(config) => Self::AdamW(AdamW::new(config, parameters)),
            OptimizerConfig::Muon(config) => Self::Muon(Muon::new(config, parameters)),
        }
    }

    /// Returns the number of values of all moments for parameters of these shapes.
    pub fn moment_values(config: OptimizerConfig, parameters: &[(String, Tensor)]) -> u64 {
        let values = |(name, p): &(String, Tensor)| match config {
            OptimizerConfig::Adafactor(config) => Adafactor::moment_values(&p.size(), &config),
            OptimizerConfig::AdamW(_) => 2 * p.numel(),
            OptimizerConfig::Muon(_) => {
                if Muon::moves(name, p) {
                    p.numel()
                } else {
                    2 * p.numel()
                }
            }
        };
        parameters.iter().map(|parameter| values(parameter) as u64).sum()
    }

    /// Updates every parameter from its gradient. A parameter without gradient is taken as having gradient zero.
    pub fn step(&mut self, learning_rate: f64) {
        any!(self, optimizer => optimizer.step(learning_rate));
    }

    /// Returns the moments with names, for a checkpoint.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        any!(self, optimizer => optimizer.named())
    }

    /// Returns the number of updates so far.
    pub fn num_steps(&self) -> u64 {
        any!(self, optimizer => optimizer.num_steps())
    }

    /// Sets the number of updates so far, on resuming.
    pub fn set_num_steps(&mut self, num_steps: u64) {
        any!(self, optimizer => optimizer.set_num_steps(num_steps));
    }
}

/// Returns the gradient of a parameter, zeros where it has none.
fn gradient(parameter: &Tensor) -> Tensor {
    let gradient = parameter.grad();
    if gradient.defined() { gradient } else { parameter.zeros_like() }
}
