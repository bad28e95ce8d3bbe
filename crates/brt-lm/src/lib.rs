//! Language models of Transformer-XL, sliding-window and block-recurrent layers.
//!
//! One [`LanguageModel`] serves all contestants of a comparison: a baseline differs from the Block-Recurrent
//! Transformer by lines of its [`ModelConfig`]. State is a value: [`LanguageModel::forward`] takes a [`ModelState`]
//! and returns the next one.
//!
//! Letters: B batch rows, N tokens of a segment, W window, n = N / W blocks, E width of the residual stream, V
//! vocabulary.
#![deny(missing_docs)]

mod config;
mod decoder;
mod flops;
mod layer;
mod model;
mod sample;
mod state;

pub use brt_cell::{CellLayout, Gate};
pub use brt_ops::{Carry, Mode, QkNorm, Temperature};
pub use config::{ConfigError, LogitDivisor, ModelConfig, RecurrenceConfig};
pub use decoder::Decoder;
pub use layer::Layer;
pub use model::LanguageModel;
pub use sample::{SampleConfig, sample};
pub use state::{LayerState, ModelState};
