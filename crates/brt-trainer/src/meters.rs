//! What a run measures of itself: tokens, times, losses.

use std::{collections::VecDeque, time::Instant};

use brt_report::{MetricsLine, TrainingFacts, median};
use serde::{Deserialize, Serialize};

use crate::{StepReport, TrainError, Trainer};

/// Steps of the last session whose times are kept for the median.
const NUM_TIMES: usize = 1000;

/// Sums over all sessions of a run; part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Totals {
    pub(crate) num_tokens: u64,
    pub(crate) elapsed_secs: f64,
    pub(crate) cpu_secs: f64,
    pub(crate) num_resumes: u64,
    /// Loss since the last line of the metrics, in nats.
    pub(crate) pending_nats: f64,
    /// Number of tokens since the last line of the metrics.
    pub(crate) pending_tokens: u64,
    /// Median step time of the last session that made a step.
    pub(crate) median_step_secs: f64,
    /// Largest resident memory of any session.
    pub(crate) peak_bytes: u64,
}

/// The meters of one session.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    totals: Totals,
    pending_secs: Vec<f64>,
    step_secs: VecDeque<f64>,
}

impl Meters {
    /// Returns the meters of a session that goes on from a checkpoint.
    pub(crate) fn resume(totals: Totals) -> Self {
        let totals = Totals { num_resumes: totals.num_resumes + 1, ..totals };
        Self { totals, ..Self::default() }
    }

    /// Lets the trainer make a step and measures it.
    pub(crate) fn step(&mut self, trainer: &mut Trainer) -> Result<StepReport, TrainError> {
        let (start, cpu_secs) = (Instant::now(), brt_native::cpu_secs());
        let report = trainer.step()?;
        let secs = start.elapsed().as_secs_f64();
        self.totals.elapsed_secs += secs;
        self.totals.cpu_secs += brt_native::cpu_secs() - cpu_secs;
        self.totals.num_tokens += report.num_scored;
        self.totals.pending_nats += report.loss_nats;
        self.totals.pending_tokens += report.num_scored;
        self.pending_secs.push(secs);
        self.step_secs.push_back(secs);
        if self.step_secs.len() > NUM_TIMES {
            self.step_secs.pop_front();
        }
        Ok(report)
    }

    /// Returns the line of the metrics that is due after a step, and starts the next one.
    pub(crate) fn line(&mut self, report: &StepReport, validation_bits_per_byte: Option<f64>) -> MetricsLine {
        let nats = std::mem::take(&mut self.totals.pending_nats);
        let tokens = std::mem::take(&mut self.totals.pending_tokens);
        MetricsLine {
            step: report.step,
            num_tokens: self.totals.num_tokens,
            train_bits_per_token: nats / tokens.max(1) as f64 * std::f64::consts::LOG2_E,
            learning_rate: report.learning_rate,
            gradient_norm: report.gradient_norm,
            step_secs: median(std::mem::take(&mut self.pending_secs)),
            validation_bits_per_byte,
        }
    }

    /// Returns the sums so far, for a checkpoint.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.totals.clone();
        if !self.step_secs.is_empty() {
            totals.median_step_secs = median(self.step_secs.iter().copied().collect());
        }
        totals.peak_bytes = totals.peak_bytes.max(brt_native::peak_resident_bytes());
        totals
    }

    /// Returns what the result says about the training.
    pub(crate) fn facts(&self, trainer: &Trainer) -> TrainingFacts {
        let totals = self.totals();
        TrainingFacts {
            num_steps: trainer.num_steps(),
            num_tokens: totals.num_tokens,
            batch: trainer.config().data.batch as u64,
            elapsed_secs: totals.elapsed_secs,
            cpu_secs: totals.cpu_secs,
            median_step_secs: totals.median_step_secs,
            peak_bytes: totals.peak_bytes,
            num_resumes: totals.num_resumes,
        }
    }
}
