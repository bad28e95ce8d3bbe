//! Configuration of a run: everything but the corpus, the seed and the output folder.

use brt_data::{Pack, Rank, StreamConfig, TargetRule};
use brt_lm::{ConfigError, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::{AdafactorConfig, AdamWConfig, MuonConfig, OptimizerConfig, Schedule, ScheduleConfig, Sink};

/// A run. A file must give every key, by itself or through `extends`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The model.
    pub model: ModelConfig,
    /// How documents become batches.
    pub data: DataConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// The learning rate.
    pub schedule: ScheduleConfig,
    /// The training loop.
    pub train: TrainConfig,
    /// The evaluation on held-out documents.
    pub evaluation: EvaluationConfig,
}

/// How training documents become batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Batch rows B; each reads a document of its own.
    pub batch: usize,
    /// Segment length N in tokens: one step of one row, and the horizon of the gradient.
    pub segment_len: usize,
    /// Which tokens are predicted.
    pub target_rule: TargetRule,
    /// What is done where a document ends.
    pub pack: Pack,
    /// Longest piece of a document in tokens; longer documents are read piece by piece, one an epoch. Absent for whole
    /// documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_document_len: Option<usize>,
}

impl DataConfig {
    /// Returns the stream of training batches that this describes.
    pub fn stream(&self) -> StreamConfig {
        let Self { batch, segment_len, target_rule, pack, max_document_len } = *self;
        StreamConfig { batch, segment_len, target_rule, pack, rank: Rank::ALONE, max_document_len }
    }

    /// Returns the number of tokens of one step, B·N.
    pub fn tokens_per_step(&self) -> u64 {
        (self.batch * self.segment_len) as u64
    }
}

/// Kind of the matrix products of training. Parameters, norms, softmax, loss and carried states are float32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// float32.
    F32,
    /// bfloat16.
    Bf16,
}

/// What a step keeps for its backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// Everything.
    Keep,
    /// The input of each layer; the layers are computed again. The gradients are the same.
    Recompute,
}

/// What happens where the loss or a gradient is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    /// The run ends with an error; its last checkpoint stays.
    Stop,
    /// The update is left out and counted, and the rows keep the states from before.
    Skip,
}

/// The training loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Number of optimiser steps.
    pub num_steps: u64,
    /// Kind of matrix products.
    pub precision: Precision,
    /// What is kept for the backward pass.
    pub memory: Memory,
    /// What happens where the loss or a gradient is not finite.
    pub non_finite: NonFinite,
    /// Largest norm of the gradient over all parameters. Absent for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_gradient_norm: Option<f64>,
    /// Number of groups of rows that go through the model one after another in a step, to save memory. The step is the
    /// same but for rounding and the masks of dropout. Absent for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulate: Option<usize>,
    /// Steps between two lines of `metrics.jsonl`.
    pub log_every: u64,
    /// Steps between two checkpoints; one is also written at the end and when the run is interrupted.
    pub checkpoint_every: u64,
    /// Steps between two evaluations on the validation documents; 0 for none.
    pub validate_every: u64,
    /// Steps between two looks at gates, states and attention; 0 for none.
    pub statistics_every: u64,
    /// Files of metrics beside `metrics.jsonl`.
    pub sinks: Vec<Sink>,
    /// Number of the latest checkpoints that are kept.
    pub keep_last: usize,
    /// Steps between two checkpoints that are kept for ever. Absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every: Option<u64>,
    /// Whether the checkpoint with the best validation loss is written and kept, too.
    pub keep_best: bool,
}

impl TrainConfig {
    /// Returns the number of parts of a batch.
    pub fn num_parts(&self) -> usize {
        self.accumulate.unwrap_or(1)
    }

    /// Returns the largest number of checkpoints that lie in the run's folder at a time, the one being written
    /// included.
    pub fn num_kept(&self) -> u64 {
        let kept_for_ever =
            self.keep_every.map_or(0, |every| self.num_steps / every) + u64::from(self.keep_best);
        self.keep_last as u64 + 1 + kept_for_ever
    }
}

/// The evaluation on held-out documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Batch rows; each reads a document of its own.
    pub batch: usize,
    /// At most this many first tokens of each document are scored. Absent for whole documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_document_len: Option<usize>,
    /// Only so many batches are scored. Absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_batches: Option<usize>,
    /// Which batches of the validation documents an evaluation in training scores. Absent for the first ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// Which batches of the validation documents an evaluation in training scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// The first ones, always the same (the 2025 release).
    First,
    /// Those behind the ones of the evaluation before, in an endless shuffled stream, caches and states carried on (the
    /// 2022 release).
    Moving,
}

impl RunConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The key, what it may be and what it is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.model.validate()?;
        self.model.check_segment_len(self.data.segment_len as i64)?;
        let positive = [
            ("data", "batch", self.data.batch as u64),
            ("evaluation", "batch", self.evaluation.batch as u64),
            ("evaluation", "num_batches", self.evaluation.num_batches.unwrap_or(1) as u64),
            ("train", "num_steps", self.train.num_steps),
            ("train", "log_every", self.train.log_every),
            ("train", "checkpoint_every", self.train.checkpoint_every),
            ("schedule", "num_scheduled_steps", self.schedule.num_scheduled_steps.unwrap_or(1)),
            ("train", "keep_last", self.train.keep_last as u64),
            ("train", "keep_every", self.train.keep_every.unwrap_or(1)),
            ("train", "accumulate", self.train.num_parts() as u64),
        ];
        for (section, key, got) in positive {
            ConfigError::check(section, key, "at least 1", got, got >= 1)?;
        }
        let limits = [("data", "segment_len", self.data.segment_len), ("data", "batch", self.data.batch)];
        for (section, key, got) in limits.into_iter().chain([("evaluation", "batch", self.evaluation.batch)])
        {
            ConfigError::check(section, key, "at most 1000000", got, got <= 1_000_000)?;
        }
        let is_moving = self.evaluation.sample == Some(Sample::Moving);
        let (expected, fits) =
            ("`first` without evaluation.num_batches", self.evaluation.num_batches.is_some());
        ConfigError::check("evaluation", "sample", expected, "moving", fits || !is_moving)?;
        let (batch, parts) = (self.data.batch, self.train.num_parts());
        let expected = format!("a divisor of the {batch} rows of data.batch");
        ConfigError::check("train", "accumulate", &expected, parts, batch.is_multiple_of(parts))?;
        let max = self.train.max_gradient_norm.unwrap_or(1.);
        ConfigError::check(
            "train",
            "max_gradient_norm",
            "a number above 0",
            max,
            max.is_finite() && max > 0.,
        )?;
        self.validate_keeping()?;
        self.validate_optimizer()?;
        self.validate_schedule()
    }

    /// Refuses options that would do nothing, or something twice.
    fn validate_keeping(&self) -> Result<(), ConfigError> {
        let train = &self.train;
        let (every, checkpoint_every) = (train.keep_every.unwrap_or(0), train.checkpoint_every);
        let expected = format!("a multiple of train.checkpoint_every, {checkpoint_every}");
        ConfigError::check("train", "keep_every", &expected, every, every.is_multiple_of(checkpoint_every))?;
        let (expected, fits) = ("false without train.validate_every", train.validate_every > 0);
        ConfigError::check("train", "keep_best", expected, train.keep_best, fits || !train.keep_best)?;
        let is_twice = |(idx, sink): (usize, &Sink)| train.sinks[..idx].contains(sink);
        let twice = train.sinks.iter().enumerate().any(is_twice);
        ConfigError::check("train", "sinks", "each kind once", format!("{:?}", train.sinks), !twice)
    }

    fn validate_optimizer(&self) -> Result<(), ConfigError> {
        let fraction = |key, got: f64| {
            ConfigError::check("optimizer", key, "a number in 0.0 .. 1.0", got, (0. ..1.).contains(&got))
        };
        let positive = |key, got: f64| {
            ConfigError::check("optimizer", key, "a number above 0", got, got.is_finite() && got > 0.)
        };
        let weight_decay = match self.optimizer {
            OptimizerConfig::Adafactor(adafactor) => {
                let AdafactorConfig { momentum, decay_exponent, clip_threshold, weight_decay, .. } =
                    adafactor;
                fraction("momentum", momentum.unwrap_or(0.))?;
                positive("decay_exponent", decay_exponent)?;
                positive("clip_threshold", clip_threshold)?;
                weight_decay
            }
            OptimizerConfig::Muon(MuonConfig { momentum, beta1, beta2, epsilon, weight_decay, .. }) => {
                fraction("momentum", momentum)?;
                fraction("beta1", beta1)?;
                fraction("beta2", beta2)?;
                positive("epsilon", epsilon)?;
                weight_decay
            }
            OptimizerConfig::AdamW(AdamWConfig { beta1, beta2, epsilon, weight_decay, .. }) => {
                fraction("beta1", beta1)?;
                fraction("beta2", beta2)?;
                positive("epsilon", epsilon)?;
                weight_decay
            }
        };
        let fits = weight_decay.is_finite() && weight_decay >= 0.;
        ConfigError::check("optimizer", "weight_decay", "a number of at least 0", weight_decay, fits)
    }

    fn validate_schedule(&self) -> Result<(), ConfigError> {
        if let Schedule::Wsd { decay_part, .. } = self.schedule.schedule {
            let fits = decay_part > 0. && decay_part <= 1.;
            ConfigError::check("schedule", "decay_part", "a number above 0.0, up to 1.0", decay_part, fits)?;
        }
        let multiplier = self.schedule.multiplier;
        let rates = self.schedule.schedule.rates();
        for (key, got) in rates.into_iter().chain([("multiplier", multiplier)]) {
            ConfigError::check("schedule", key, "a number above 0", got, got.is_finite() && got > 0.)?;
        }
        let (warmup, steps) = (self.schedule.num_warmup_steps, self.train.num_steps);
        let expected = format!("less than the {steps} steps of the run (--schedule.num_warmup_steps N)");
        ConfigError::check("schedule", "num_warmup_steps", &expected, warmup, warmup < steps)
    }
}
