//! T5 relative position bias of token self-attention.

use tch::{Device, Tensor};

use crate::{causal_mask, init::Init, params::Scope};

/// Number of buckets of the table.
pub const NUM_BUCKETS: i64 = 32;
/// Distance from which on all keys share the last bucket.
pub const MAX_DISTANCE: i64 = 128;

/// Learned bias for each head and bucket of distances; each layer has its own table.
#[derive(Debug)]
pub struct T5Bias {
    weight: Tensor, // [H, 32]
}

impl T5Bias {
    /// Returns a table for `num_heads` heads.
    pub fn new(p: &Scope, num_heads: i64) -> Self {
        let std = (1. / NUM_BUCKETS as f64).sqrt();
        Self { weight: p.param("weight", &[num_heads, NUM_BUCKETS], Init::Normal { std }) }
    }

    /// Returns the bias of every query and key, not yet masked.
    ///
    /// # Shapes
    /// Result: `[H, queries, keys]`.
    pub fn forward(&self, tables: &WindowTables) -> Tensor {
        let flat = self.weight.index_select(1, &tables.buckets); // [H, queries * keys]
        flat.unflatten(1, [tables.num_queries, -1])
    }
}

/// What depends on lengths alone: who may attend to whom, and at which distance. Built once, shared by all layers.
#[derive(Debug)]
pub struct WindowTables {
    num_queries: i64,
    mask: Tensor,    // [queries, keys], bool
    buckets: Tensor, // [queries * keys], int64
}

impl WindowTables {
    /// Returns the tables of `num_queries` queries that line up with the last of `num_keys` keys and see the
    /// `window_len` keys before them.
    pub fn new(num_queries: i64, num_keys: i64, window_len: i64, device: Device) -> Self {
        let distance = |i, j| i + num_keys - num_queries - j;
        let buckets: Vec<i64> = (0..num_queries)
            .flat_map(|i| (0..num_keys).map(move |j| Buckets::PAPER.causal(distance(i, j))))
            .collect();
        Self {
            num_queries,
            mask: causal_mask(num_queries, num_keys, window_len, device),
            buckets: Tensor::from_slice(&buckets).to_device(device),
        }
    }

    /// Returns the tables of one block of W queries and its 2W keys.
    pub fn block(window_len: i64, device: Device) -> Self {
        Self::new(window_len, 2 * window_len, window_len, device)
    }

    /// Returns the tables of one query and the W keys before it.
    pub fn token(window_len: i64, device: Device) -> Self {
        // The query's own key, which it does not see, is left out: distances W..1.
        let tables = Self::new(1, window_len + 1, window_len, device);
        let own = |table: &Tensor, axis| table.narrow(axis, 0, window_len);
        Self { num_queries: 1, mask: own(&tables.mask, 1), buckets: own(&tables.buckets, 0) }
    }

    /// Returns the bucket of each query and key, `[queries, keys]`.
    pub fn buckets(&self) -> Tensor {
        self.buckets.view([self.num_queries, -1])
    }

    /// Returns `bias` with the keys that a query must not see at a very low logit.
    ///
    /// # Shapes
    /// `bias` and the result: `[H, queries, keys]`.
    pub fn mask_bias(&self, bias: &Tensor) -> Tensor {
        crate::attention::mask_bias(bias, &self.mask)
    }
}

/// Buckets of distances as in T5: one bucket a token at first, then logarithmic up to a longest distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    /// Number of buckets.
    pub num_buckets: i64,
    /// Distance from which on all keys share the last bucket.
    pub max_distance: i64,
}

impl Buckets {
    /// The paper's buckets.
    pub const PAPER: Self = Self { num_buckets: NUM_BUCKETS, max_distance: MAX_DISTANCE };

    /// Returns the bucket of a key that lies `distance` tokens behind its query; keys ahead count as distance 0.
    ///
    /// ```
    /// use brt_ops::position::Buckets;
    /// let distances = [-3, 0, 15, 16, 18, 19, 112, 113, 9999];
    /// assert_eq!(distances.map(|d| Buckets::PAPER.causal(d)), [0, 0, 15, 16, 16, 17, 30, 31, 31]);
    /// ```
    pub fn causal(self, distance: i64) -> i64 {
        let exact = self.num_buckets / 2;
        let distance = distance.max(0);
        if distance < exact {
            return distance;
        }
        let (distance, exact_f) = (distance as f64, exact as f64);
        let ratio =
            (distance / exact_f + f64::from(f32::EPSILON)).ln() / (self.max_distance as f64 / exact_f).ln();
        (exact + (ratio * (self.num_buckets - exact) as f64) as i64).min(self.num_buckets - 1)
    }

    /// Returns the bucket where keys ahead (`distance < 0`) take the upper half of the buckets.
    pub fn bidirectional(self, distance: i64) -> i64 {
        let half = Self { num_buckets: self.num_buckets / 2, ..self };
        half.causal(distance.abs()) + if distance < 0 { half.num_buckets } else { 0 }
    }
}
