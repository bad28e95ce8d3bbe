//! What can go wrong with a run.

use std::path::PathBuf;

use crate::ConfigFileError;

/// What can go wrong with a run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration file.
    #[error(transparent)]
    ConfigFile(#[from] ConfigFileError),
    /// A configuration that no model can have.
    #[error(transparent)]
    Config(#[from] brt_lm::ConfigError),
    /// Something between processes.
    #[error(transparent)]
    Group(#[from] brt_native::GroupError),
    /// Another process has stopped.
    #[error("rank {rank} has stopped: {text}")]
    OtherProcess {
        /// The process.
        rank: usize,
        /// Its error.
        text: String,
    },
    /// Processes that do not train the same.
    #[error(
        "rank {rank}: expected the {what} of rank 0, got another; {difference}; start all processes with the same command"
    )]
    Differs {
        /// The first process that has another one.
        rank: usize,
        /// What differs.
        what: String,
        /// How it differs.
        difference: String,
    },
    /// A run's folder that another host does not see.
    #[error(
        "{path}: expected the folder that rank 0 writes in, got another; all hosts must share the run's folder, under the same path"
    )]
    NotShared {
        /// The folder.
        path: PathBuf,
    },
    /// Rows that cannot be shared.
    #[error(
        "data.batch: expected a multiple of {world_size} processes times {parts} parts (train.accumulate), got {batch} rows"
    )]
    Rows {
        /// Number of rows.
        batch: usize,
        /// Number of processes.
        world_size: usize,
        /// Number of parts of a process's rows.
        parts: usize,
    },
    /// Processes that had the same parameters have them no more.
    #[error(
        "step {step}: expected the same parameters on all processes, got others on rank {rank} than on rank 0 (by checksums); the hardware of one may be damaged: start again from the last checkpoint"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The first process whose parameters are others.
        rank: usize,
    },
    /// The corpus.
    #[error(transparent)]
    Data(#[from] brt_data::DataError),
    /// A corpus of other tokens than the run's.
    #[error(
        "{path}: expected a corpus made with the run's tokenizer (sha256 {expected}), got {got}; prepare the corpus with \
         the tokenizer of the run's folder"
    )]
    Tokenizer {
        /// The run.
        path: PathBuf,
        /// SHA-256 of the run's tokenizer.
        expected: String,
        /// SHA-256 of the corpus's.
        got: String,
    },
    /// A run without a tokenizer.
    #[error(
        "{path}: expected a run with its tokenizer (tokenizer.bytes, tokenizer.json or tokenizer.model), got none; copy it from the folder of the corpus"
    )]
    NoTokenizer {
        /// The run.
        path: PathBuf,
    },
    /// A file of tensors.
    #[error(transparent)]
    Tensors(#[from] brt_ops::checkpoint::CheckpointError),
    /// A record's file.
    #[error(transparent)]
    Record(#[from] brt_report::FileError),
    /// The operating system refused.
    #[error("{path}: cannot {action}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The vocabulary of the corpus does not fit the model.
    #[error("model.vocab_size: expected at least the {corpus} rows that the corpus needs, got {model}")]
    Vocabulary {
        /// Rows that the corpus needs.
        corpus: u64,
        /// Rows of the model.
        model: i64,
    },
    /// The run's folder holds another run.
    #[error(
        "{path}: expected the configuration of this run, got another; {difference}; choose another output folder"
    )]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// First line that differs.
        difference: String,
    },
    /// The run's folder is not empty and the run is not to be resumed.
    #[error(
        "{path}: expected an empty folder, got one with a run in it; add --resume or choose another output folder"
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file of a checkpoint is not what was written.
    #[error("{path}: expected SHA-256 {expected}, got {got}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Digest that was noted when it was written.
        expected: String,
        /// Digest of the file as it is.
        got: String,
    },
    /// A checkpoint cannot be read.
    #[error("{source}: the checkpoint is damaged; {advice}")]
    Checkpoint {
        /// What to do.
        advice: String,
        /// What is wrong with it.
        source: Box<TrainError>,
    },
    /// A checkpoint of another version of brt.
    #[error(
        "{path}: expected checkpoint format {expected}, got {got}; start anew, or use the brt that wrote it"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Format of this version.
        expected: u32,
        /// Format of the file.
        got: u32,
    },
    /// The disk is too small for what a run keeps.
    #[error(
        "{path}: expected {expected} bytes of free space for checkpoints, got {got}; make room or choose another folder"
    )]
    Space {
        /// The run's folder.
        path: PathBuf,
        /// Number of bytes that are needed.
        expected: u64,
        /// Number of bytes that are free.
        got: u64,
    },
    /// Another process has the run's folder.
    #[error("{path}: expected to be alone in this folder, got another process that trains in it")]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// No checkpoint where one is needed.
    #[error("{path}: expected a checkpoint, got none")]
    NoCheckpoint {
        /// The run's folder.
        path: PathBuf,
    },
    /// A number that training cannot go on with.
    #[error(
        "step {step}: expected a finite {what}, got {got}; start anew in another folder with a lower schedule.multiplier"
    )]
    NotFinite {
        /// The step.
        step: u64,
        /// What is not finite: `loss`, `gradient norm`, or a parameter's name.
        what: String,
        /// The number.
        got: f64,
    },
}

impl TrainError {
    /// Returns an error of the operating system about `path`.
    pub(crate) fn io(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, action, source }
    }

    /// Returns whether it is about files that could not be written: what is in memory is whole.
    pub(crate) fn is_of_disk(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Tensors(_) | Self::Record(_) | Self::OtherProcess { .. })
    }

    /// Returns the error with its causes in one line.
    pub fn whole_text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let message = error.to_string();
            if !text.contains(&message) {
                text = format!("{text}: {message}");
            }
            cause = error.source();
        }
        text
    }
}
