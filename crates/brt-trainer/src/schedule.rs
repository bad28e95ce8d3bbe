//! Learning-rate schedules of the paper's code.

use serde::{Deserialize, Serialize};

/// Learning rate as a function of the step, without warm-up. `x` is the step, `T` the number of scheduled steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// `1 / sqrt(max(x, 100))`, at most `max_lr`: the paper's.
    Rsqrt {
        /// Upper limit of the rate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_lr: Option<f64>,
    },
    /// `min(max_lr, min_lr / sqrt(max(x, 100) / T))`: inverse square root that ends at `min_lr`.
    RsqrtToFloor {
        /// Upper limit of the rate.
        max_lr: f64,
        /// Rate at the last step.
        min_lr: f64,
    },
    /// Half a cosine from `max_lr` to `min_lr`: the default of both releases.
    Cosine {
        /// Rate at the first step.
        max_lr: f64,
        /// Rate at the last step.
        min_lr: f64,
        /// What follows the last scheduled step.
        after: After,
        /// A spike at the start, where it is above the cosine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        spike: Option<Spike>,
    },
    /// Straight line from `max_lr` to `min_lr`.
    Linear {
        /// Rate at the first step.
        max_lr: f64,
        /// Rate at the last step.
        min_lr: f64,
        /// What follows the last scheduled step.
        after: After,
    },
    /// `max_lr · (min_lr / max_lr)^(x / T)`.
    Exponential {
        /// Rate at the first step.
        max_lr: f64,
        /// Rate at the last step.
        min_lr: f64,
    },
    /// Warm-up, stable, decay: `max_lr`, and over the last part of the steps a straight line to `min_lr`.
    Wsd {
        /// Rate before the decay.
        max_lr: f64,
        /// Rate at the last step.
        min_lr: f64,
        /// Part of the steps over which the rate falls, 0 to 1.
        decay_part: f64,
    },
    /// The same rate always.
    Constant {
        /// The rate.
        lr: f64,
    },
}

/// What follows the last scheduled step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// The rate halves every `T` steps.
    Decay,
    /// The rate stays.
    Hold,
}

/// A straight line from `lr` at the first step to 0 at step `num_steps`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spike {
    /// Rate at the first step.
    pub lr: f64,
    /// Number of steps.
    pub num_steps: u64,
}

impl Spike {
    fn at(self, x: f64) -> f64 {
        let num_steps = self.num_steps as f64;
        self.lr * (num_steps - x) / num_steps
    }
}

impl Schedule {
    /// Returns the rates that the schedule is given, by key.
    pub(crate) fn rates(&self) -> Vec<(&'static str, f64)> {
        match *self {
            Self::Rsqrt { max_lr } => max_lr.map(|max_lr| ("max_lr", max_lr)).into_iter().collect(),
            Self::RsqrtToFloor { max_lr, min_lr }
            | Self::Linear { max_lr, min_lr, .. }
            | Self::Wsd { max_lr, min_lr, .. }
            | Self::Exponential { max_lr, min_lr } => vec![("max_lr", max_lr), ("min_lr", min_lr)],
            Self::Cosine { max_lr, min_lr, spike, .. } => {
                let spike = spike.map(|spike| ("spike.lr", spike.lr));
                [("max_lr", max_lr), ("min_lr", min_lr)].into_iter().chain(spike).collect()
            }
            Self::Constant { lr } => vec![("lr", lr)],
        }
    }

    /// Returns the rate at step `x` of `num_steps` scheduled ones.
    fn at(&self, x: f64, num_steps: f64) -> f64 {
        let decayed = |min_lr: f64| 2. * min_lr * 0.5f64.powf(x / num_steps);
        let rest = (num_steps - x) / num_steps;
        match *self {
            Self::Rsqrt { max_lr } => (1. / x.max(100.).sqrt()).min(max_lr.unwrap_or(f64::INFINITY)),
            Self::RsqrtToFloor { max_lr, min_lr } => (min_lr / (x.max(100.) / num_steps).sqrt()).min(max_lr),
            Self::Cosine { min_lr, after: After::Decay, .. } if x >= num_steps => decayed(min_lr),
            Self::Cosine { max_lr, min_lr, spike, .. } => {
                let phase = std::f64::consts::PI * x.min(num_steps) / num_steps;
                let cosine = min_lr + (max_lr - min_lr) * (1. + phase.cos()) / 2.;
                spike.map_or(cosine, |spike| spike.at(x).max(cosine))
            }
            Self::Linear { min_lr, after: After::Decay, .. } if x >= num_steps => decayed(min_lr),
            Self::Linear { max_lr, min_lr, .. } => (min_lr + (max_lr - min_lr) * rest).max(min_lr),
            Self::Exponential { max_lr, min_lr } => max_lr * (min_lr / max_lr).powf(x / num_steps),
            Self::Wsd { max_lr, min_lr, decay_part } => {
                let left = (rest / decay_part).clamp(0., 1.); // Of the decay.
                min_lr + (max_lr - min_lr) * left
            }
            Self::Constant { lr } => lr,
        }
    }
}

/// A schedule with its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScheduleConfig {
    /// Shape of the schedule.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// Number of steps over which the rate rises from 0; the schedule stands still meanwhile.
    pub num_warmup_steps: u64,
    /// Multiplies the rate.
    pub multiplier: f64,
    /// Number of scheduled steps T, where it is not that of the run: a longer run goes on behind the schedule's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_scheduled_steps: Option<u64>,
}

impl ScheduleConfig {
    /// Returns the same rate always, without warm-up.
    pub fn constant(lr: f64) -> Self {
        let schedule = Schedule::Constant { lr };
        Self { schedule, num_warmup_steps: 0, multiplier: 1., num_scheduled_steps: None }
    }

    /// Returns the learning rate of the update after `step` finished ones in a run of `num_steps`.
    ///
    /// # Source
    /// Official code, `training_loop.py`, `learning_rate_schedule_fn`.
    pub fn learning_rate(&self, step: u64, num_steps: u64) -> f64 {
        let num_steps = self.num_scheduled_steps.unwrap_or(num_steps);
        let warmup = self.num_warmup_steps;
        let ramp = if warmup == 0 { 1. } else { step.min(warmup) as f64 / warmup as f64 };
        self.schedule.at(step.max(warmup) as f64, num_steps as f64) * ramp * self.multiplier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Warm-up, a stable rate, and a straight line down over the last part.
    #[test]
    fn warm_up_stable_decay() {
        let schedule = Schedule::Wsd { max_lr: 0.5, min_lr: 0.1, decay_part: 0.25 };
        let mut config =
            ScheduleConfig { schedule, num_warmup_steps: 10, multiplier: 2., num_scheduled_steps: None };
        let expected = [(0, 0.), (5, 0.5), (10, 1.), (74, 1.), (75, 1.), (85, 0.68), (100, 0.2), (200, 0.2)];
        for (step, rate) in expected {
            let got = config.learning_rate(step, 100);
            assert!((got - rate).abs() < 1e-12, "step {step}: {got}, expected {rate}");
        }
        config.num_scheduled_steps = Some(100);
        assert_eq!(config.learning_rate(85, 500), config.learning_rate(85, 100));
        assert!((config.learning_rate(85, 500) - 0.68).abs() < 1e-12);
    }
}
