//! The Transformer-XL and sliding-window layer with its key/value cache, and the kNN memory of the Memorizing Transformer.
//!
//! One layer serves all baselines: where gradients flow from block to block it is the sliding-window model, where they
//! stop ([`brt_ops::Carry::Detached`]) it is Transformer-XL, where nothing is carried it is a vanilla transformer. Source: *Block-Recurrent Transformers*, arXiv 2203.07852, §3.
//!
//! Letters: B batch rows, n blocks of a segment, W window, E width of the residual stream, H heads, D width of a head.
#![deny(missing_docs)]

mod cache;
mod layer;
mod memory;
mod ring;

pub use cache::KvCache;
pub use layer::{LayerConfig, TransformerLayer};
pub use memory::{KnnMemory, MemoryAttention, MemoryConfig, Neighbours};
pub use ring::KvRing;
