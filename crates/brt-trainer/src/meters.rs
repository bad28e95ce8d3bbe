//! What a run measures of itself: tokens, times, losses.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

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
    /// Wall time of the steps since the last line of the metrics.
    pub(crate) pending_secs: f64,
    /// Median step time of the last session that made a step.
    pub(crate) median_step_secs: f64,
    /// Largest resident memory of any session.
    pub(crate) peak_bytes: u64,
    /// Number of updates that were left out because something was not finite.
    pub(crate) num_skipped: u64,
    /// The best validation loss so far.
    pub(crate) best: Option<Best>,
    /// Step of the best checkpoint that was saved.
    pub(crate) kept_best: Option<u64>,
    /// Mean and mean square of the loss of the last steps, in nats per token, as weighted means.
    pub(crate) loss_moments: [f64; 2],
    /// Number of steps that they are of.
    pub(crate) num_losses: u64,
}

/// The best validation loss of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    pub(crate) step: u64,
    pub(crate) bits_per_byte: f64,
}

/// Weight of a step in the means by which spikes of the loss are found.
const MOMENT_WEIGHT: f64 = 0.02;
/// Number of standard deviations above the mean from which on a loss is a spike.
const SPIKE: f64 = 6.;
/// Number of steps before which nothing is a spike.
const NUM_CALM_STEPS: u64 = 50;

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
        self.totals.pending_secs += secs;
        self.totals.cpu_secs += brt_native::cpu_secs() - cpu_secs;
        if report.is_skipped {
            self.totals.num_skipped += 1;
        } else {
            self.totals.num_tokens += report.num_scored;
            self.totals.pending_nats += report.loss_nats;
            self.totals.pending_tokens += report.num_scored;
            if !trainer.began_documents {
                self.watch(&report);
            }
        }
        self.pending_secs.push(secs);
        self.step_secs.push_back(secs);
        if self.step_secs.len() > NUM_TIMES {
            self.step_secs.pop_front();
        }
        Ok(report)
    }

    /// Reports a loss that is far above those of the steps before.
    fn watch(&mut self, report: &StepReport) {
        let loss = report.loss_nats / report.num_scored.max(1) as f64;
        let [mean, square] = self.totals.loss_moments;
        let deviation = (square - mean * mean).max(0.).sqrt();
        if self.totals.num_losses >= NUM_CALM_STEPS && loss > mean + SPIKE * deviation {
            tracing::warn!(
                "step {}: the loss jumped to {loss:.3} nats per token, from about {mean:.3}",
                report.step
            );
        }
        self.totals.num_losses += 1;
        let weight = MOMENT_WEIGHT.max(1. / self.totals.num_losses as f64);
        self.totals.loss_moments = [mean + weight * (loss - mean), square + weight * (loss * loss - square)];
    }

    /// Notes a validation loss; returns whether it is the best so far.
    pub(crate) fn validated(&mut self, step: u64, bits_per_byte: f64) -> bool {
        let is_better = |best: Best| bits_per_byte < best.bits_per_byte;
        let is_best = bits_per_byte.is_finite() && self.totals.best.is_none_or(is_better);
        if is_best {
            self.totals.best = Some(Best { step, bits_per_byte });
        }
        is_best
    }

    /// Returns the step of the best checkpoint once that of `step` is saved, for [`Self::kept`].
    pub(crate) fn best_to_keep(&self, step: u64) -> Option<u64> {
        let is_best = self.totals.best.is_some_and(|best| best.step == step);
        if is_best { Some(step) } else { self.totals.kept_best }
    }

    /// Notes the step of the best checkpoint that is there.
    pub(crate) fn kept(&mut self, best: Option<u64>) {
        self.totals.kept_best = best;
    }

    /// Returns the line of the metrics that is due after a step, and starts the next one.
    pub(crate) fn line(&mut self, report: &StepReport, bytes_per_token: f64) -> MetricsLine {
        let nats = std::mem::take(&mut self.totals.pending_nats);
        let tokens = std::mem::take(&mut self.totals.pending_tokens);
        let secs = std::mem::take(&mut self.totals.pending_secs);
        // Where every step was skipped there is no loss but that of earlier ones.
        let loss = if tokens > 0 { nats / tokens as f64 } else { self.totals.loss_moments[0] };
        let train_bits_per_token = loss * std::f64::consts::LOG2_E;
        MetricsLine {
            step: report.step,
            num_tokens: self.totals.num_tokens,
            train_bits_per_token,
            train_bits_per_byte: train_bits_per_token / bytes_per_token,
            learning_rate: report.learning_rate,
            gradient_norm: if report.gradient_norm.is_finite() { report.gradient_norm } else { 0. },
            tokens_per_sec: tokens as f64 / secs.max(1e-9),
            step_secs: median(std::mem::take(&mut self.pending_secs)),
            num_skipped: self.totals.num_skipped,
            unix_secs: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0., |time| time.as_secs_f64()),
            validation_bits_per_byte: None,
            statistics: BTreeMap::new(),
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
