//! What a run is given, and what it tells.

use std::path::PathBuf;

use brt_report::{BuildFacts, MetricsLine, RunResult, StateRule};
use tch::Device;

use crate::StepReport;

/// What a run needs beside its configuration.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Name of the run's configuration.
    pub name: String,
    /// Folder of the prepared corpus.
    pub data: PathBuf,
    /// Folder that the run writes.
    pub out: PathBuf,
    /// Seed of parameters, data order and dropout.
    pub seed: u64,
    /// Device of the model.
    pub device: Device,
    /// Whether to go on from what the folder holds.
    pub resume: Resume,
    /// What the program was built from.
    pub build: BuildFacts,
}

/// What to do with a folder that already holds a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Refuse it.
    Never,
    /// Go on from its last checkpoint, or return its result.
    IfThere,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RunOutcome {
    /// All steps are done and the result is written.
    Finished(Box<RunResult>),
    /// It was asked to stop, and saved its checkpoint after this many steps.
    Interrupted {
        /// Number of finished steps.
        num_steps: u64,
    },
}

/// What a run reports while it works.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// It goes on from a checkpoint of this many steps.
    Resumed(u64),
    /// A step is done.
    Step(StepReport),
    /// A line was written to `metrics.jsonl`.
    Logged(MetricsLine),
    /// A checkpoint was written to this folder.
    Saved(PathBuf),
    /// A checkpoint could not be written, and why; training goes on, and the one before stays.
    NotSaved(String),
    /// The test documents are being scored.
    Testing(StateRule),
}
