//! Trains, evaluates and resumes the language models of `brt-lm`.
//!
//! A [`Learner`] trains any [`Model`]: it carries the state from segment to segment, stops gradients and updates.
//! One [`Trainer`] puts all contestants of a comparison through it, and [`Run`] keeps the wall clock and the folder:
//! `config.toml`, `metrics.jsonl`, `checkpoints/step-N/` and, in the end, `result.json`. Files are whole or not there;
//! `metrics.jsonl` grows line by line. A [`World`] of several processes trains as one would, each with its own rows.
#![deny(missing_docs)]

mod checkpoint;
mod config;
mod config_file;
mod error;
mod evaluate;
mod facts;
mod finite;
mod folder;
mod learner;
mod meters;
mod model;
mod moving_sample;
mod optimizer;
mod plan;
mod run;
mod schedule;
mod sinks;
mod statistics;
mod timing;
mod trainer;
mod transfer;
mod world;

pub use brt_native::{GroupError, Rendezvous, Segments};
pub use checkpoint::{latest_checkpoint, load_model};
pub use config::{
    DataConfig, EvaluationConfig, Memory, NonFinite, Precision, RunConfig, Sample, TrainConfig,
};
pub use config_file::{ConfigFileError, Override};
pub use error::TrainError;
pub use evaluate::{HeldOut, evaluate};
pub use facts::{build_facts, machine_facts, model_facts};
pub use folder::{check_tokenizer, load_tokenizer};
pub use learner::{Learner, LearnerConfig, StepReport};
pub use model::Model;
pub use optimizer::{
    Adafactor, AdafactorConfig, AdamW, AdamWConfig, Decay, Muon, MuonConfig, Optimizer, OptimizerConfig,
    ParameterGroup,
};
pub use plan::Plan;
pub use run::{Progress, Resume, Run, RunOptions, RunOutcome};
pub use schedule::{After, Schedule, ScheduleConfig, Spike};
pub use sinks::Sink;
pub use timing::{load_average, time_in_turn};
pub use trainer::{LanguageModelTraining, Trainer};
pub use transfer::{export_weights, import_weights};
pub use world::World;
