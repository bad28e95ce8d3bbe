//! What a layer knows about the order of its tokens.
//!
//! Every kind of position information depends on how far a key lies behind its query, so a bias is computed once for
//! each distance, `[H, distances]`, and laid out as a matrix of queries and keys at the end ([`WindowTables`]).

use serde::{Deserialize, Serialize};

mod bias;
mod buckets;
mod rotary;
mod tables;

pub use bias::PositionBias;
pub use buckets::Buckets;
pub(crate) use rotary::rotate;
pub use rotary::{absolute_encoding, position_encoding};
pub use tables::{WindowShape, WindowTables};

/// Kind of position information, with its constants. Token self-attention has it; recurrent states never do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PositionConfig {
    /// None: order shows only through who sees whom.
    None {},
    /// T5's learned bias for each head and bucket of distances: the paper's models.
    T5 {
        /// Number of buckets.
        #[serde(default = "default_num_buckets")]
        num_buckets: i64,
        /// Distance from which on all keys share the last bucket.
        #[serde(default = "default_max_distance")]
        max_distance: i64,
    },
    /// Queries and keys are rotated by their positions; nothing is learned.
    Rotary {
        /// Half of the longest wavelength, in tokens.
        #[serde(default = "default_half_wavelength")]
        max_half_wavelength: f64,
    },
    /// Cosines and sines of the position in the segment, added to the embeddings.
    Absolute {
        /// Half of the longest wavelength, in tokens.
        #[serde(default = "default_half_wavelength")]
        max_half_wavelength: f64,
    },
    /// A learned sum of cosines and sines of the distance for each head.
    Fourier {
        /// Number of learned values for each head.
        #[serde(default = "default_fourier_len")]
        vector_len: i64,
    },
    /// Bounded ALiBi: a penalty that grows with the distance up to a bound.
    Alibi {
        /// The bound.
        #[serde(default)]
        bound: AlibiBound,
    },
    /// A small network from the distance to the bias (2025 release).
    Neural {
        /// Number of hidden units, shared by all heads.
        #[serde(default = "default_num_hidden")]
        num_hidden: i64,
    },
    /// A learned combination of a fixed orthogonal basis of functions of the distance (2025 release).
    Orthogonal {
        /// Number of basis functions.
        #[serde(default = "default_num_functions")]
        num_functions: i64,
        /// How far the last basis function is shifted, in tokens.
        #[serde(default = "default_last_shift")]
        last_shift: f64,
    },
}

impl PositionConfig {
    /// The paper's: T5 with 32 buckets up to distance 128.
    pub const PAPER: Self = Self::T5 { num_buckets: 32, max_distance: 128 };
}

/// Bound of an ALiBi penalty.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlibiBound {
    /// One learned bound for all heads.
    #[default]
    Shared,
    /// A learned bound for each head.
    PerHead,
    /// This one.
    Fixed(f64),
}

fn default_num_buckets() -> i64 {
    Buckets::PAPER.num_buckets
}

fn default_max_distance() -> i64 {
    Buckets::PAPER.max_distance
}

fn default_half_wavelength() -> f64 {
    10_000.
}

fn default_fourier_len() -> i64 {
    128
}

fn default_num_hidden() -> i64 {
    128
}

fn default_num_functions() -> i64 {
    7
}

fn default_last_shift() -> f64 {
    64.
}
