//! AdamW: Adam with weight decay apart from the gradient.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Options of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Part of the parameter that every step takes off it, times the learning rate.
    pub weight_decay: f64,
}

/// AdamW over named parameters.
///
/// # Source
/// Loshchilov and Hutter, arXiv 1711.05101, as in Optax's `adamw`.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<(String, Tensor)>,
    moments: Vec<[Tensor; 2]>,
    num_steps: u64,
}

impl AdamW {
    /// Returns an optimiser of `parameters`, which share storage with the model, with all moments zero.
    pub fn new(config: AdamWConfig, parameters: Vec<(String, Tensor)>) -> Self {
        let zeros = |p: &Tensor| Tensor::zeros(p.size(), (Kind::Float, p.device()));
        let moments = parameters.iter().map(|(_, p)| [zeros(p), zeros(p)]).collect();
        Self { config, parameters, moments, num_steps: 0 }
    }

    /// Updates every parameter from its gradient. A parameter without gradient is taken as having gradient zero.
    pub fn step(&mut self, learning_rate: f64) {
        self.num_steps += 1;
        let AdamWConfig { beta1, beta2, epsilon, weight_decay } = self.config;
        let unbias = |beta: f64| 1. / (1. - beta.powf(self.num_steps as f64));
        let (unbias1, unbias2) = (unbias(beta1), unbias(beta2));
        tch::no_grad(|| {
            for ((_, parameter), [m, v]) in self.parameters.iter().zip(&mut self.moments) {
                let gradient = parameter.grad();
                let g = if gradient.defined() { gradient } else { parameter.zeros_like() };
                let _ = m.lerp_(&g, 1. - beta1); // m ← β₁ m + (1 − β₁) g
                let _ = v.lerp_(&g.square(), 1. - beta2);
                let update = &*m * unbias1 / ((&*v * unbias2).sqrt() + epsilon) + parameter * weight_decay;
                let _ = parameter.shallow_clone().subtract_(&(update * learning_rate));
            }
        });
    }

    /// Returns the moments with names, for a checkpoint.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let moments = |((name, _), [m, v]): (&(String, Tensor), &[Tensor; 2])| {
            [
                (format!("{name}.first_moment"), m.shallow_clone()),
                (format!("{name}.second_moment"), v.shallow_clone()),
            ]
        };
        let mut named: Vec<_> = self.parameters.iter().zip(&self.moments).flat_map(moments).collect();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        named
    }

    /// Returns the number of updates so far.
    pub fn num_steps(&self) -> u64 {
        self.num_steps
    }

    /// Sets the number of updates so far, on resuming.
    pub fn set_num_steps(&mut self, num_steps: u64) {
        self.num_steps = num_steps;
    }
}
