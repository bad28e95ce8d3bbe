//! Configuration of a run: everything but the corpus, the seed and the output folder.

use brt_data::{StreamConfig, TargetRule};
use brt_lm::ModelConfig;
use serde::{Deserialize, Serialize};

use crate::{AdafactorConfig, ScheduleConfig};

/// A run. A file must give every key, by itself or through `extends`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The model.
    pub model: ModelConfig,
    /// How documents become batches.
    pub data: DataConfig,
    /// The optimiser.
    pub optimizer: AdafactorConfig,
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
    /// Longest piece of a document in tokens; longer documents are read piece by piece, one an epoch. Absent for whole
    /// documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_document_len: Option<usize>,
}

impl DataConfig {
    /// Returns the stream of training batches that this describes.
    pub fn stream(&self) -> StreamConfig {
        let Self { batch, segment_len, target_rule, max_document_len } = *self;
        StreamConfig { batch, segment_len, target_rule, max_document_len }
    }

    /// Returns the number of tokens of one step, B·N.
    pub fn tokens_per_step(&self) -> u64 {
        (self.batch * self.segment_len) as u64
    }
}

/// The training loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Number of optimiser steps.
    pub num_steps: u64,
    /// Steps between two lines of `metrics.jsonl`.
    pub log_every: u64,
    /// Steps between two checkpoints; one is also written at the end and when the run is interrupted.
    pub checkpoint_every: u64,
    /// Steps between two evaluations on the validation documents; 0 for none.
    pub validate_every: u64,
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
}

impl RunConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The key, what it may be and what it is.
    pub fn validate(&self) -> Result<(), brt_lm::ConfigError> {
        self.model.validate()?;
        self.model.check_segment_len(self.data.segment_len as i64)?;
        let at_least_one = [
            ("num_steps", self.train.num_steps),
            ("log_every", self.train.log_every),
            ("checkpoint_every", self.train.checkpoint_every),
        ];
        for (key, got) in at_least_one {
            if got == 0 {
                let error = brt_lm::ConfigError {
                    section: "train",
                    key,
                    expected: "at least 1".into(),
                    got: "0".into(),
                };
                return Err(error);
            }
        }
        Ok(())
    }
}
