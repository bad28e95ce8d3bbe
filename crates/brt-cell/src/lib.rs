//! The recurrent cell of the Block-Recurrent Transformer.
//!
//! A cell turns a set of state vectors and the keys and values of a window of tokens into the next state. It knows no
//! transformer layer: use it beside any encoder that can give keys and values. Source: *Block-Recurrent Transformers*,
//! arXiv 2203.07852, §3.1–3.3.
//!
//! Letters: B batch rows, n blocks of a segment, S states, E width of a state, H heads, D width of a head, M hidden
//! width of the feed-forward layer.
#![deny(missing_docs)]

mod cell;
mod gate;
mod update;

pub use cell::{CellConfig, RecurrentCell, Scan};
pub use gate::{FixedGate, FullGate, Gate, LstmGate};
pub use update::{CellLayout, Update};
