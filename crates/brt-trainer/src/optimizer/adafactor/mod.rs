//! Adafactor as the paper's code runs it: factored second moments, updates scaled by the parameter, momentum.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Decay, gradient};

/// Added to squared gradients.
const EPSILON: f64 = 1e-30;
/// Smallest size of a parameter for the scale of its update.
const MIN_PARAMETER_RMS: f64 = 1e-3;
/// A matrix is factored where both of its dimensions reach this.
const MIN_FACTORED_DIM: i64 = 128;
/// Values of the parameters that are updated together, some of which are there five times meanwhile; one parameter at least.
const MAX_LIST_VALUES: i64 = 1 << 24;

/// Options of [`Adafactor`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdafactorConfig {
    /// Decay of the momentum; `None` for no momentum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Exponent c of the second moment's decay, `ρ_t = 1 − (t + 1)^−c`.
    pub decay_exponent: f64,
    /// Largest root mean square of an update before it is scaled.
    pub clip_threshold: f64,
    /// Part of the parameter that every step takes off it, whatever the learning rate.
    pub weight_decay: f64,
    /// What it is taken off.
    #[serde(default, skip_serializing_if = "Decay::is_default")]
    pub decay: Decay,
}

impl AdafactorConfig {
    /// The paper's: momentum 0.9, exponent 0.8, threshold 1, no decay.
    pub const PAPER: Self = Self {
        momentum: Some(0.9),
        decay_exponent: 0.8,
        clip_threshold: 1.,
        weight_decay: 0.,
        decay: Decay::Matrices,
    };
}

/// Parameters of one shape that decay alike, n of them, with their moments: one operation serves all.
#[derive(Debug)]
struct List {
    names: Vec<String>,
    parameters: Vec<Tensor>,
    second: SecondMoment,
    /// `[n, ..]`.
    momentum: Option<Tensor>,
    /// Part of the parameters that every step takes off them.
    weight_decay: f64,
}

/// Second moments of gradients.
#[derive(Debug)]
enum SecondMoment {
    /// Means over the largest axis of a parameter (ties: the last one) and over the other, `[n, ..]` each.
    Factored { row: Tensor, column: Tensor, row_axis: i64, column_axis: i64 },
    /// One value for each of a parameter's, `[n, ..]`.
    Full(Tensor),
}

/// Adafactor over named parameters.
///
/// # Source
/// Shazeer and Stern, arXiv 1804.04235, as in Flax's `adafactor` with the settings of the paper's code.
#[derive(Debug)]
pub struct Adafactor {
    config: AdafactorConfig,
    lists: Vec<List>,
    num_steps: u64,
}

impl Adafactor {
    /// Returns an optimiser of `parameters`, which share storage with the model, with all moments zero.
    pub fn new(config: AdafactorConfig, parameters: Vec<(String, Tensor)>) -> Self {
        let mut alike = BTreeMap::<_, Vec<_>>::new();
        for (name, parameter) in parameters {
            let decays = config.weight_decay > 0. && config.decay.applies_to(&name, &parameter);
            alike.entry((parameter.size(), decays)).or_default().push((name, parameter));
        }
        let mut lists = vec![];
        for ((size, decays), mut parameters) in alike {
            let weight_decay = if decays { config.weight_decay } else { 0. };
            let num_values: i64 = size.iter().product();
            let at_once = (MAX_LIST_VALUES / num_values.max(1)).max(1) as usize;
            while !parameters.is_empty() {
                let rest = parameters.split_off(at_once.min(parameters.len()));
                lists.push(List::zeros(&size, parameters, config.momentum.is_some(), weight_decay));
                parameters = rest;
            }
        }
        Self { config, lists, num_steps: 0 }
    }

    /// Returns the number of values of the moments of a parameter of this shape.
    pub(super) fn moment_values(size: &[i64], config: &AdafactorConfig) -> usize {
        let all = size.iter().product::<i64>() as usize;
        let second = if is_factored(size) { size.iter().sum::<i64>() as usize } else { all };
        second + if config.momentum.is_some() { all } else { 0 }
    }

    /// Updates every parameter from its gradient. A parameter without gradient is taken as having gradient zero.
    pub fn step(&mut self, learning_rate: f64) {
        let decay = 1. - ((self.num_steps + 1) as f64).powf(-self.config.decay_exponent);
        let step = Step { learning_rate, decay, config: self.config };
        tch::no_grad(|| self.lists.iter_mut().for_each(|list| list.update(step)));
        self.num_steps += 1;
    }

    /// Returns the moments with names, for a checkpoint.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let mut named = BTreeMap::new();
        for list in &self.lists {
            for (idx, name) in list.names.iter().enumerate() {
                let mut add = |kind: &str, tensors: &Tensor| {
                    named.insert(format!("{name}.{kind}"), tensors.get(idx as i64))
                };
                match &list.second {
                    SecondMoment::Factored { row, column, .. } => {
                        add("row", row);
                        add("column", column);
                    }
                    SecondMoment::Full(full) => {
                        add("second_moment", full);
                    }
                }
                if let Some(momentum) = &list.momentum {
                    add("momentum", momentum);
                }
            }
        }
        named.into_iter().collect()
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

impl List {
    fn zeros(size: &[i64], parameters: Vec<(String, Tensor)>, has_momentum: bool, weight_decay: f64) -> Self {
        let (names, parameters): (Vec<_>, Vec<_>) = parameters.into_iter().unzip();
        let (n, options) = (parameters.len() as i64, (Kind::Float, parameters[0].device()));
        let all = [&[n], size].concat();
        let second = match *size {
            [first, last] if is_factored(size) => {
                let (row_axis, column_axis) = if first > last { (0, 1) } else { (1, 0) };
                SecondMoment::Factored {
                    row: Tensor::zeros([n, size[column_axis]], options),
                    column: Tensor::zeros([n, size[row_axis]], options),
                    row_axis: row_axis as i64,
                    column_axis: column_axis as i64,
                }
            }
            _ => SecondMoment::Full(Tensor::zeros(&all, options)),
        };
        let momentum = has_momentum.then(|| Tensor::zeros(&all, options));
        Self { names, parameters, second, momentum, weight_decay }
    }

    fn update(&mut self, step: Step) {
        let gradients: Vec<Tensor> = self.parameters.iter().map(gradient).collect();
        if let SecondMoment::Factored { row, column, row_axis, .. } = &self.second
            && gradients.iter().chain(&self.parameters).all(brt_native::is_matrix)
        {
            // As below, but matrices are read three times instead of a dozen.
            for (idx, (gradient, parameter)) in gradients.iter().zip(&self.parameters).enumerate() {
                let [row, column] = [row, column].map(|moments| moments.get(idx as i64));
                let factors = step.fold_matrix(gradient, row, column, *row_axis);
                let momentum = self.momentum.as_ref().map(|momentum| momentum.get(idx as i64));
                step.update_matrix(gradient, parameter, momentum.as_ref(), &factors, self.weight_decay);
            }
            return;
        }
        let Step { learning_rate, decay, config } = step;
        let (g, p) = (Tensor::stack(&gradients, 0), Tensor::stack(&self.parameters, 0));
        let y = self.second.normalise(&g, decay);
        let clip = (rms(&y) / config.clip_threshold).clamp_min(1.);
        let scale = rms(&p).clamp_min(MIN_PARAMETER_RMS) * learning_rate / clip;
        let mut update = y * scale;
        if let (Some(momentum), Some(beta)) = (&mut self.momentum, config.momentum) {
            let _ = momentum.lerp_(&update, 1. - beta); // m ← β m + (1 − β) u
            update = momentum.shallow_clone();
        }
        if self.weight_decay > 0. {
            update = update + p * self.weight_decay;
        }
        for (parameter, update) in self.parameters.iter().zip(update.unbind(0)) {
            let _ = parameter.shallow_clone().subtract_(&update);
        }
    }
}

/// What all parameters share in an update.
#[derive(Debug, Clone, Copy)]
struct Step {
    learning_rate: f64,
    /// Of the second moments.
    decay: f64,
    config: AdafactorConfig,
}

impl Step {
    /// Folds the gradient of a matrix into its moments, and returns the factors of its first and its last axis by which it
    /// is divided by the root of the second moment.
    fn fold_matrix(
        &self,
        gradient: &Tensor,
        mut row: Tensor,
        mut column: Tensor,
        row_axis: i64,
    ) -> [Tensor; 2] {
        let [over_last, over_first] = brt_native::mean_squares(gradient, EPSILON);
        let (by_row, by_column) =
            if row_axis == 1 { (over_last, over_first) } else { (over_first, over_last) };
        fold(&mut row, &by_row, self.decay);
        fold(&mut column, &by_column, self.decay);
        let (row, column) = (row_factor(&row), column.rsqrt());
        if row_axis == 1 { [row, column] } else { [column, row] }
    }

    fn update_matrix(
        &self,
        gradient: &Tensor,
        parameter: &Tensor,
        momentum: Option<&Tensor>,
        [first, last]: &[Tensor; 2],
        weight_decay: f64,
    ) {
        let factors = [first, last];
        let [update_rms, parameter_rms] = brt_native::matrix_rms(gradient, parameter, factors);
        let clip = (update_rms / self.config.clip_threshold).max(1.);
        let scale = parameter_rms.max(MIN_PARAMETER_RMS) * self.learning_rate / clip;
        let step = brt_native::MatrixStep { scale, beta: self.config.momentum, weight_decay };
        brt_native::update_matrix(gradient, parameter, momentum, factors, step);
    }
}

impl SecondMoment {
    /// Folds the gradients in, `[n, ..]`, and returns them divided by the root of the second moment.
    fn normalise(&mut self, g: &Tensor, decay: f64) -> Tensor {
        let g2 = g.square() + EPSILON;
        match self {
            Self::Factored { row, column, row_axis, column_axis } => {
                let (row_axis, column_axis) = (*row_axis + 1, *column_axis + 1);
                let mean = |axis: i64| g2.mean_dim(axis, false, Kind::Float);
                fold(row, &mean(row_axis), decay);
                fold(column, &mean(column_axis), decay);
                g * row_factor(row).unsqueeze(row_axis) * column.rsqrt().unsqueeze(column_axis)
            }
            Self::Full(full) => {
                fold(full, &g2, decay);
                g * full.rsqrt()
            }
        }
    }
}

/// Folds a new value into a running mean: `m ← ρ m + (1 − ρ) new`.
fn fold(mean: &mut Tensor, new: &Tensor, decay: f64) {
    let _ = mean.lerp_(new, 1. - decay);
}

/// Returns the factors of one axis, the last one here, of factored gradients: the other's are `column.rsqrt()`.
fn row_factor(row: &Tensor) -> Tensor {
    (row / row.mean_dim(-1, true, Kind::Float)).rsqrt()
}

/// Returns whether the second moment of a parameter of this shape is factored.
fn is_factored(size: &[i64]) -> bool {
    matches!(size, [first, last] if *first.min(last) >= MIN_FACTORED_DIM)
}

/// Returns the root of the mean square over all values of each of n tensors, `[n, ..]`, as `[n, 1, ..]`.
fn rms(x: &Tensor) -> Tensor {
    let size: Vec<i64> =
        x.size().iter().enumerate().map(|(axis, &len)| if axis == 0 { len } else { 1 }).collect();
    x.reshape([size[0], -1]).square().mean_dim(1, false, Kind::Float).sqrt().view(&size[..])
}

#[cfg(test)]
mod tests;
