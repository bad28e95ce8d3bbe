//! Step times of several models, taken in turn in one process.

use serde::{Deserialize, Serialize};

use crate::MachineFacts;

/// Training-step times of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContestantTiming {
    /// Name of the configuration.
    pub name: String,
    /// Tokens per step, B·N.
    pub tokens_per_step: u64,
    /// Number of training steps that the configuration asks for.
    pub num_steps: u64,
    /// Tokens of the whole training that the configuration asks for; more than the product of both where the measured
    /// steps had fewer rows.
    #[serde(default)]
    pub num_tokens: u64,
    /// About how many bytes the checkpoints of a run take that are kept at a time.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Wall time of each measured step in seconds; entry `i` of every contestant was taken in round `i`.
    pub step_secs: Vec<f64>,
}

impl ContestantTiming {
    /// Returns the median step time in seconds.
    pub fn median_step_secs(&self) -> f64 {
        median(self.step_secs.clone())
    }

    /// Returns this model's time per token relative to `other`'s, in each round.
    pub fn ratios_to(&self, other: &Self) -> Vec<f64> {
        let per_token = |t: &Self, secs: f64| secs / t.tokens_per_step as f64;
        let ratio = |(a, b): (&f64, &f64)| per_token(self, *a) / per_token(other, *b);
        self.step_secs.iter().zip(&other.step_secs).map(ratio).collect()
    }

    /// Returns the median over rounds of this model's time per token relative to `other`'s.
    pub fn relative_to(&self, other: &Self) -> f64 {
        median(self.ratios_to(other))
    }
}

/// The output of `brt time`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimingResult {
    /// One entry per model.
    pub contestants: Vec<ContestantTiming>,
    /// Number of steps of each model that ran before the measured ones.
    pub num_warmup_rounds: u64,
    /// Load average over the last minute when the measurement began.
    pub load_average: f64,
    /// The machine and the number of threads.
    pub machine: MachineFacts,
}

/// Returns the median, the mean of the middle two for an even number of values; NaN for none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(tokens_per_step: u64, step_secs: &[f64]) -> ContestantTiming {
        ContestantTiming {
            name: "m".into(),
            tokens_per_step,
            num_steps: 9,
            num_tokens: 9 * tokens_per_step,
            disk_bytes: 0,
            step_secs: step_secs.to_vec(),
        }
    }

    #[test]
    fn ratios_pair_rounds_and_count_tokens() {
        let a = timing(100, &[2., 4., 9.]);
        let b = timing(200, &[2., 4., 3.]);
        // Per token a takes 2, 2 and 6 times as long: median 2.
        assert_eq!(a.relative_to(&b), 2.);
        assert_eq!(timing(1, &[4., 1., 3., 2.]).median_step_secs(), 2.5);
    }
}
