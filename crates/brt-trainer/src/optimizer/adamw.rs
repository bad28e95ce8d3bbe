//! AdamW: Adam with weight decay apart from the gradient.

use brt_native::AdamWStep;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Decay, gradient};

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
    /// What it is taken off.
    #[serde(default, skip_serializing_if = "Decay::is_default")]
    pub decay: Decay,
}

/// AdamW over named parameters, as one operation over each list of them.
///
/// # Source
/// Loshchilov and Hutter, arXiv 1711.05101, as in Optax's `adamw`.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    /// Those that decay, and those that do not.
    lists: [List; 2],
    num_steps: u64,
}

/// Parameters that are updated alike.
#[derive(Debug, Default)]
struct List {
    names: Vec<String>,
    parameters: Vec<Tensor>,
    first_moments: Vec<Tensor>,
    second_moments: Vec<Tensor>,
}

impl AdamW {
    /// Returns an optimiser of `parameters`, which share storage with the model, with all moments zero.
    pub fn new(config: AdamWConfig, parameters: Vec<(String, Tensor)>) -> Self {
        let mut lists = [List::default(), List::default()];
        for (name, parameter) in parameters {
            let zeros = || Tensor::zeros(parameter.size(), (Kind::Float, parameter.device()));
            let list = &mut lists[usize::from(!config.decay.applies_to(&name, &parameter))];
            list.first_moments.push(zeros());
            list.second_moments.push(zeros());
            list.names.push(name);
            list.parameters.push(parameter);
        }
        Self { config, lists, num_steps: 0 }
    }

    /// Updates every parameter from its gradient. A parameter without gradient is taken as having gradient zero.
    pub fn step(&mut self, learning_rate: f64) {
        self.num_steps += 1;
        let AdamWConfig { beta1, beta2, epsilon, weight_decay, .. } = self.config;
        let step_idx = self.num_steps;
        for (list, weight_decay) in self.lists.iter().zip([weight_decay, 0.]) {
            let step = AdamWStep { step_idx, learning_rate, beta1, beta2, epsilon, weight_decay };
            let gradients: Vec<Tensor> = list.parameters.iter().map(gradient).collect();
            brt_native::adamw(&list.parameters, &gradients, &list.first_moments, &list.second_moments, step);
        }
    }

    /// Returns the moments with names, for a checkpoint.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let mut named = vec![];
        for list in &self.lists {
            for (idx, name) in list.names.iter().enumerate() {
                named.push((format!("{name}.first_moment"), list.first_moments[idx].shallow_clone()));
                named.push((format!("{name}.second_moment"), list.second_moments[idx].shallow_clone()));
            }
        }
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
