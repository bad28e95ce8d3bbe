//! What one training run leaves: lines while it runs, a result when it ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BuildFacts, Evaluation, MachineFacts, ModelFacts};

/// One line of `metrics.jsonl`: means over the steps since the line before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricsLine {
    /// Number of finished optimiser steps.
    pub step: u64,
    /// Number of tokens that the model was trained on so far (scored tokens of all steps).
    pub num_tokens: u64,
    /// Mean training loss since the last line, in bits per token.
    pub train_bits_per_token: f64,
    /// The same in bits per byte, by the mean number of bytes of a token of the training documents.
    #[serde(default)]
    pub train_bits_per_byte: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Global norm of the last step's gradient (of the mean loss), before it was clipped; 0 if that step was skipped.
    pub gradient_norm: f64,
    /// Median wall time of a step since the last line, in seconds.
    pub step_secs: f64,
    /// Number of tokens trained on per second of wall time of the steps since the last line; validation and checkpoints
    /// do not count.
    #[serde(default)]
    pub tokens_per_sec: f64,
    /// Number of updates of the whole run that were left out because something was not finite.
    #[serde(default)]
    pub num_skipped: u64,
    /// When the line was written, in seconds since 1970.
    #[serde(default)]
    pub unix_secs: f64,
    /// Bits per byte on the validation documents, where they were evaluated at this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_bits_per_byte: Option<f64>,
    /// What the recurrent layers do, where it was looked at: gates, states, attention, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub statistics: BTreeMap<String, f64>,
}

/// How a training went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingFacts {
    /// Number of optimiser steps.
    pub num_steps: u64,
    /// Number of tokens that the model was trained on.
    pub num_tokens: u64,
    /// Batch rows B, those of all processes.
    pub batch: u64,
    /// Number of processes that trained together.
    #[serde(default = "one")]
    pub world_size: u64,
    /// Bytes of gradients that were summed over processes in a step.
    #[serde(default)]
    pub reduced_bytes: u64,
    /// Time in which all training steps waited for those sums when their backward pass had ended, in seconds, and with it for
    /// slower processes; on GPUs with what is left of that pass.
    #[serde(default)]
    pub reduce_secs: f64,
    /// Wall time of all training steps, in seconds, without evaluation; over all sessions of a resumed run.
    pub elapsed_secs: f64,
    /// Processor time of all training steps, in seconds; of several processes, of rank 0.
    pub cpu_secs: f64,
    /// Median wall time of a step in the last session, in seconds.
    pub median_step_secs: f64,
    /// Largest resident memory of the process, in bytes; of several processes, of rank 0.
    pub peak_bytes: u64,
    /// Number of times that the run was interrupted and resumed.
    pub num_resumes: u64,
}

fn one() -> u64 {
    1
}

impl TrainingFacts {
    /// Returns the number of tokens trained per second of training wall time.
    pub fn tokens_per_sec(&self) -> f64 {
        self.num_tokens as f64 / self.elapsed_secs
    }
}

/// Everything that a finished run says: `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Name of the run's configuration, for example `rec_fixed_skip`.
    pub name: String,
    /// Seed of parameters, data order and dropout.
    pub seed: u64,
    /// The resolved configuration, complete, as TOML.
    pub config_toml: String,
    /// SHA-256 of the corpus manifest that the run read.
    pub corpus_sha256: String,
    /// Size and shape of the model.
    pub model: ModelFacts,
    /// How the training went.
    pub training: TrainingFacts,
    /// The learning curve, as in `metrics.jsonl`.
    pub curve: Vec<MetricsLine>,
    /// Losses on the test documents, state carried.
    pub test: Evaluation,
    /// Losses on the test documents with the recurrent state reset in every segment; absent without recurrence.
    pub test_state_reset: Option<Evaluation>,
    /// The machine.
    pub machine: MachineFacts,
    /// The program.
    pub build: BuildFacts,
}
