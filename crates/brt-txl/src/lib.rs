//! The Transformer-XL and sliding-window layer with its key/value cache.
//!
//! One layer serves both baselines: where gradients flow from block to block it is the sliding-window model, where they
//! stop ([`brt_ops::Carry::Detached`]) it is Transformer-XL. Source: *Block-Recurrent Transformers*, arXiv 2203.07852, §3.
//!
//! Letters: B batch rows, n blocks of a segment, W window, E width of the residual stream, H heads, D width of a head.
#![deny(missing_docs)]

mod cache;
mod layer;

pub use cache::KvCache;
pub use layer::{LayerConfig, TransformerLayer};
