//! The records that a run writes and a comparison reads.
//!
//! One run of `brt train` ends with one [`RunResult`] in `result.json` and leaves one [`MetricsLine`] per logged
//! step in `metrics.jsonl`; `brt time` writes a [`TimingResult`]. `xtask` reads these files and nothing else of a
//! run. Every quantity carries its unit in its name. [`plot`] draws them, and [`heatmap_html`] colours a scored text.
#![deny(missing_docs)]

mod bench;
mod evaluation;
mod facts;
mod file;
mod heatmap;
pub mod plot;
mod run;
mod timing;

pub use bench::{BenchEntry, BenchGroup, BenchResult};
pub use evaluation::{DocumentScore, Evaluation, PositionBucket, StateRule};
pub use facts::{BuildFacts, MachineFacts, ModelFacts};
pub use file::{FileError, read_json, write_atomic, write_json};
pub use heatmap::{ScoredDocument, ScoredToken, heatmap_html};
pub use run::{MetricsLine, RunResult, TrainingFacts};
pub use timing::{ContestantTiming, TimingResult, median};
