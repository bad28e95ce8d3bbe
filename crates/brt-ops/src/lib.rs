//! Tensor operations of the Block-Recurrent Transformer and its baselines.
//!
//! Source: *Block-Recurrent Transformers*, arXiv 2203.07852, and its official code. Each operation is checked against
//! numbers of that code (crate `brt-golden`) and, within whole models, against plain loops (`brt-lm/tests/naive`).
//!
//! Letters of the shape comments: B batch rows, N tokens of a segment, W window, n = N / W blocks of a segment,
//! S recurrent states, E width of the residual stream, H heads, D width of a head, M hidden width of the
//! feed-forward layer, V vocabulary. Per-head tensors are `[.., H, len, D]`.
#![deny(missing_docs)]

pub mod attention;
pub mod checkpoint;
pub mod dropout;
pub mod init;
pub mod loss;
pub mod norm;
pub mod params;
pub mod position;
pub mod probe;
pub mod projection;
pub mod shape;

mod linear;
mod mlp;
mod rows;
mod windows;

pub use attention::{
    LogitTerms, Sight, attention, causal_mask, composed_attention, reference_attention, safe_softmax,
};
pub use dropout::Mode;
pub use linear::{Linear, product_of_few_rows};
pub use mlp::Mlp;
pub use norm::{LayerNorm, RmsNorm, unit_norm};
pub use params::{Params, Scope};
pub use position::{PositionBias, PositionConfig, WindowShape, WindowTables};
pub use projection::{CrossQueries, Projected, Projection, ProjectionConfig, QkNorm, Queries, Temperature};
pub use rows::{RingTables, RowKeys, row_attention};
pub use shape::{dims, expect_shape};
pub use windows::{Carry, Windows};
