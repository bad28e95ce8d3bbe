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
    /// Bytes of gradients that were summed over processes in the last step.
    pub(crate) reduced_bytes: u64,
    /// Time in which all steps waited for those sums.
    pub(crate) reduce_secs: f64,
    /// Losses of the last steps in which no document began, and of those in which one did: they are higher.
    pub(crate) losses: [Losses; 2],
    /// Learning rate of the last step.
    pub(crate) learning_rate: f64,
    /// Gradient norm of the last step; 0 if it was skipped.
    pub(crate) gradient_norm: f64,
}

/// The losses of the last steps, by which spikes are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Losses {
    /// Weighted mean, in nats per token.
    mean: f64,
    /// Weighted mean of the squares.
    square: f64,
    /// Number of steps.
    count: u64,
}

impl Losses {
    /// Returns whether a loss is far above those before it, and takes it for one of them.
    fn is_spike(&mut self, loss: f64) -> bool {
        let deviation = (self.square - self.mean * self.mean).max(0.).sqrt();
        let is_spike = self.count >= NUM_CALM_STEPS && loss > self.mean + SPIKE * deviation;
        self.count += 1;
        let weight = MOMENT_WEIGHT.max(1. / self.count as f64);
        self.mean += weight * (loss - self.mean);
        self.square += weight * (loss * loss - self.square);
        is_spike
    }
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
            self.watch(&report, trainer.began_documents);
        }
        self.totals.reduced_bytes = report.reduced_bytes;
        self.totals.reduce_secs += report.reduce_secs;
        self.totals.learning_rate = report.learning_rate;
        self.totals.gradient_norm = if report.is_skipped { 0. } else { report.gradient_norm };
        self.pending_secs.push(secs);
        self.step_secs.push_back(secs);
        if self.step_secs.len() > NUM_TIMES {
            self.step_secs.pop_front();
        }
        Ok(report)
    }

    /// Reports a loss that is far above those of the steps before.
    fn watch(&mut self, report: &StepReport, began_documents: bool) {
        let loss = report.loss_nats / report.num_scored.max(1) as f64;
        let losses = &mut self.totals.losses[usize::from(began_documents)];
        let before = losses.mean;
        if losses.is_spike(loss) {
            let step = report.step;
            tracing::warn!(step, loss, before, "the loss jumped, in nats per token");
        }
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

    /// Returns the line of the metrics that is due after a step, and starts the next one; `None` where every step since the
    /// last line was skipped, so that there is no loss.
    pub(crate) fn line(&mut self, step: u64, bytes_per_token: f64) -> Option<MetricsLine> {
        if self.totals.pending_tokens == 0 {
            return None;
        }
        let nats = std::mem::take(&mut self.totals.pending_nats);
        let tokens = std::mem::take(&mut self.totals.pending_tokens);
        let secs = std::mem::take(&mut self.totals.pending_secs);
        let train_bits_per_token = nats / tokens as f64 * std::f64::consts::LOG2_E;
        // A line that waited for the run to go on has no step of this session.
        let step_secs = match std::mem::take(&mut self.pending_secs) {
            steps if steps.is_empty() => self.totals.median_step_secs,
            steps => median(steps),
        };
        Some(MetricsLine {
            step,
            num_tokens: self.totals.num_tokens,
            train_bits_per_token,
            train_bits_per_byte: train_bits_per_token / bytes_per_token,
            learning_rate: self.totals.learning_rate,
            gradient_norm: self.totals.gradient_norm,
            tokens_per_sec: tokens as f64 / secs.max(1e-9),
            step_secs,
            num_skipped: self.totals.num_skipped,
            unix_secs: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0., |time| time.as_secs_f64()),
            validation_bits_per_byte: None,
            statistics: BTreeMap::new(),
        })
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
            world_size: trainer.world.size() as u64,
            reduced_bytes: totals.reduced_bytes,
            reduce_secs: totals.reduce_secs,
            elapsed_secs: totals.elapsed_secs,
            cpu_secs: totals.cpu_secs,
            median_step_secs: totals.median_step_secs,
            peak_bytes: totals.peak_bytes,
            num_resumes: totals.num_resumes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loss six deviations above those before it is a spike; a noisy fall is none.
    #[test]
    fn spikes_stand_out() {
        let mut losses = Losses::default();
        let noise = |i: u64| ((i * 7919) % 13) as f64 / 130.;
        let fall = |i: u64| 2. + 3. * (-(i as f64) / 100.).exp() + noise(i);
        assert_eq!((0..400).filter(|&i| losses.is_spike(fall(i))).count(), 0);
        let mut other = losses;
        assert!(!other.is_spike(fall(400)));
        assert!(losses.is_spike(3.));
        let mut young = Losses::default();
        assert!(!(0..40).map(|i| if i == 39 { 99. } else { 1. }).any(|loss| young.is_spike(loss)));
    }
}
