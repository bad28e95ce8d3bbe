//! Language models of vanilla, Transformer-XL, sliding-window, block-recurrent and memorizing layers.
//!
//! One [`LanguageModel`] serves all contestants of a comparison: a baseline differs from the Block-Recurrent
//! Transformer by lines of its [`ModelConfig`]. State is a value: [`LanguageModel::forward`] takes a [`ModelState`]
//! and returns the next one.
//!
//! Letters: B batch rows, N tokens of a segment, W window, n = N / W blocks, E width of the residual stream, V
//! vocabulary.
#![deny(missing_docs)]

mod activations;
mod config;
mod decoder;
mod flops;
mod hash;
mod layer;
mod model;
pub mod official;
mod sample;
mod size;
mod state;

pub use brt_cell::{CellLayout, Gate};
pub use brt_ops::{Carry, Mode, PositionConfig, QkNorm, Temperature};
pub use brt_txl::MemoryConfig;
pub use config::{ConfigError, LogitDivisor, ModelConfig, RecurrenceConfig};
pub use decoder::{Decoder, StateFileError, StateFileInfo, TextState};
pub use layer::Layer;
pub use model::LanguageModel;
pub use sample::{SampleConfig, Sampler, log_probabilities, log_probability};
pub use size::ModuleSize;
pub use state::{LayerState, ModelState};
