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

/// Second moment of one parameter's gradient.
#[derive(Debug)]
enum SecondMoment {
    /// Means over the largest axis (ties: the last one) and over the other.
    Factored { row: Tensor, column: Tensor, row_axis: i64, column_axis: i64 },
    /// One value for each of the parameter's.
    Full(Tensor),
}

#[derive(Debug)]
struct Moments {
    second: SecondMoment,
    momentum: Option<Tensor>,
    /// Part of the parameter that every step takes off it.
    weight_decay: f64,
}

/// Adafactor over named parameters.
///
/// # Source
/// Shazeer and Stern, arXiv 1804.04235, as in Flax's `adafactor` with the settings of the paper's code.
#[derive(Debug)]
pub struct Adafactor {
    config: AdafactorConfig,
    parameters: Vec<(String, Tensor)>,
    moments: Vec<Moments>,
    num_steps: u64,
}

impl Adafactor {
    /// Returns an optimiser of `parameters`, which share storage with the model, with all moments zero.
    pub fn new(config: AdafactorConfig, parameters: Vec<(String, Tensor)>) -> Self {
        let moments = parameters.iter().map(|(name, p)| Moments::zeros(name, p, &config)).collect();
        Self { config, parameters, moments, num_steps: 0 }
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
        tch::no_grad(|| {
            for ((_, parameter), moments) in self.parameters.iter().zip(&mut self.moments) {
                moments.update(parameter, learning_rate, decay, &self.config);
            }
        });
        self.num_steps += 1;
    }

    /// Returns the moments with names, for a checkpoint.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let mut named = BTreeMap::new();
        for ((name, _), moments) in self.parameters.iter().zip(&self.moments) {
            let mut add =
                |kind: &str, tensor: &Tensor| named.insert(format!("{name}.{kind}"), tensor.shallow_clone());
            match &moments.second {
                SecondMoment::Factored { row, column, .. } => {
                    add("row", row);
                    add("column", column);
                }
                SecondMoment::Full(full) => {
                    add("second_moment", full);
                }
            }
            if let Some(momentum) = &moments.momentum {
                add("momentum", momentum);
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

impl Moments {
    fn zeros(name: &str, parameter: &Tensor, config: &AdafactorConfig) -> Self {
        let size = parameter.size();
        let options = (Kind::Float, parameter.device());
        let second = match size[..] {
            [first, last] if is_factored(&size) => {
                let (row_axis, column_axis) = if first > last { (0, 1) } else { (1, 0) };
                SecondMoment::Factored {
                    row: Tensor::zeros([size[column_axis]], options),
                    column: Tensor::zeros([size[row_axis]], options),
                    row_axis: row_axis as i64,
                    column_axis: column_axis as i64,
                }
            }
            _ => SecondMoment::Full(Tensor::zeros(&size, options)),
        };
        let weight_decay = if config.decay.applies_to(name, parameter) { config.weight_decay } else { 0. };
        Self { second, momentum: config.momentum.map(|_| Tensor::zeros(&size, options)), weight_decay }
    }

    fn update(&mut self, parameter: &Tensor, learning_rate: f64, decay: f64, config: &AdafactorConfig) {
        let g = gradient(parameter);
        if let SecondMoment::Factored { row, column, row_axis, .. } = &mut self.second
            && brt_native::is_matrix(&g)
            && brt_native::is_matrix(parameter)
        {
            // As below, but matrices are read three times instead of a dozen.
            let [over_last, over_first] = brt_native::mean_squares(&g, EPSILON);
            let by_axis = [over_first, over_last]; // means over axis 0, over axis 1
            let row_axis = *row_axis as usize;
            fold(row, &by_axis[row_axis], decay);
            fold(column, &by_axis[1 - row_axis], decay);
            let (row, column) = (row_factor(row), column.rsqrt());
            let factors = if row_axis == 1 { [&row, &column] } else { [&column, &row] };
            let [update_rms, parameter_rms] = brt_native::matrix_rms(&g, parameter, factors);
            let clip = (update_rms / config.clip_threshold).max(1.);
            let scale = parameter_rms.max(MIN_PARAMETER_RMS) * learning_rate / clip;
            let (beta, weight_decay) = (config.momentum, self.weight_decay);
            let step = brt_native::MatrixStep { scale, beta, weight_decay };
            brt_native::update_matrix(&g, parameter, self.momentum.as_ref(), factors, step);
            return;
        }
        let y = self.second.normalise(&g, decay);
        let clip = (rms(&y) / config.clip_threshold).clamp_min(1.);
        let scale = rms(parameter).clamp_min(MIN_PARAMETER_RMS) * learning_rate / clip;
        let mut update = y * scale;
        if let (Some(momentum), Some(beta)) = (&mut self.momentum, config.momentum) {
            let _ = momentum.lerp_(&update, 1. - beta); // m ← β m + (1 − β) u
            update = momentum.shallow_clone();
        }
        if self.weight_decay > 0. {
            update = update + parameter * self.weight_decay;
        }
        let _ = parameter.shallow_clone().subtract_(&update);
    }
}

impl SecondMoment {
    /// Folds the gradient in and returns it divided by the root of the second moment.
    fn normalise(&mut self, g: &Tensor, decay: f64) -> Tensor {
        let g2 = g.square() + EPSILON;
        match self {
            Self::Factored { row, column, row_axis, column_axis } => {
                let mean = |axis: i64| g2.mean_dim(axis, false, Kind::Float);
                fold(row, &mean(*row_axis), decay);
                fold(column, &mean(*column_axis), decay);
                g * row_factor(row).unsqueeze(*row_axis) * column.rsqrt().unsqueeze(*column_axis)
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

/// Returns the factors of one axis of a factored gradient: the other's are `column.rsqrt()`.
fn row_factor(row: &Tensor) -> Tensor {
    (row / row.mean(Kind::Float)).rsqrt()
}

/// Returns whether the second moment of a parameter of this shape is factored.
fn is_factored(size: &[i64]) -> bool {
    matches!(size, [first, last] if *first.min(last) >= MIN_FACTORED_DIM)
}

/// Returns the root of the mean square over all values.
fn rms(x: &Tensor) -> Tensor {
    x.square().mean(Kind::Float).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn optimizer(shape: &[i64]) -> (Adafactor, Tensor) {
        let parameter = Tensor::ones(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let named = vec![("p".into(), parameter.shallow_clone())];
        (Adafactor::new(AdafactorConfig::PAPER, named), parameter)
    }

    /// After a step with learning rate 0, as at the start of a warm-up, nothing has moved but the second moments.
    #[test]
    fn a_step_of_rate_zero_moves_nothing() {
        let (mut adafactor, parameter) = optimizer(&[4, 3]);
        parameter.square().sum(Kind::Float).backward();
        adafactor.step(0.);
        assert_eq!(parameter, parameter.ones_like());
        let moments = adafactor.named();
        let moment = |name: &str| moments.iter().find(|(n, _)| n == name).unwrap().1.copy();
        assert_eq!(moment("p.momentum"), parameter.zeros_like());
        assert_eq!(moment("p.second_moment"), parameter.full_like(4.)); // The gradient is 2.
    }

    /// A matrix is factored where both of its dimensions reach 128.
    #[test]
    fn small_matrices_are_not_factored() {
        let kinds = |shape: &[i64]| -> Vec<String> {
            optimizer(shape).0.named().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(kinds(&[128, 127]), ["p.momentum", "p.second_moment"]);
        assert_eq!(kinds(&[128, 128]), ["p.column", "p.momentum", "p.row"]);
        assert_eq!(kinds(&[4096]), ["p.momentum", "p.second_moment"]);
    }

    /// What kernels do to matrices is what tensor operations do: the same matrix, contiguous and not.
    #[test]
    fn kernels_equal_tensor_operations() {
        let options = (Kind::Float, Device::Cpu);
        for (rows, columns) in [(130, 200), (200, 130), (128, 128)] {
            tch::manual_seed(1);
            let (start, gradient) =
                (Tensor::randn([rows, columns], options), Tensor::randn([rows, columns], options));
            let config = AdafactorConfig { weight_decay: 0.01, ..AdafactorConfig::PAPER };
            let train = |parameter: Tensor| {
                let parameter = parameter.set_requires_grad(true);
                let named = vec![("p.weight".into(), parameter.shallow_clone())];
                let mut adafactor = Adafactor::new(config, named);
                for _ in 0..3 {
                    brt_native::drop_gradients([&parameter]);
                    (&parameter * &gradient).sum(Kind::Float).backward();
                    adafactor.step(0.1);
                }
                parameter.detach()
            };
            let kernels = train(start.copy());
            let turned = start.transpose(0, 1).contiguous().transpose(0, 1);
            assert!(!turned.is_contiguous());
            let difference = (train(turned) - kernels).abs().max().double_value(&[]);
            assert!(difference < 1e-6, "{rows} x {columns}: {difference}");
        }
    }
}
