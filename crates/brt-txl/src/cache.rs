//! Keys and values that a layer keeps from the last block.

use brt_ops::{Carry, dims, expect_shape};
use tch::{Device, Kind, Tensor};

/// Normalised keys and values of the last W tokens of each row; of none where layers carry nothing
/// ([`brt_ops::Carry::None`]).
#[derive(Debug)]
pub struct KvCache {
    /// `[B, H, W, D]` or `[B, H, 0, D]`.
    pub keys: Tensor,
    /// As the keys.
    pub values: Tensor,
}

impl KvCache {
    /// Returns the cache of rows whose documents are about to start: zeros, which later queries do attend to.
    pub fn zeros(shape: [i64; 4], device: Device) -> Self {
        let zeros = || Tensor::zeros(shape, (Kind::Float, device));
        Self { keys: zeros(), values: zeros() }
    }

    /// Returns the keys and values of the last block, or none.
    ///
    /// # Shapes
    /// `keys`, `values`: `[n, B, H, W, D]`.
    pub fn last_block(keys: &Tensor, values: &Tensor, carry: Carry) -> Self {
        let last = |blocks: &Tensor| match carry {
            Carry::Differentiable | Carry::Detached => blocks.select(0, -1),
            Carry::None => blocks.select(0, -1).narrow(-2, 0, 0),
        };
        Self { keys: last(keys), values: last(values) }
    }

    /// Returns the cache with zeros in the rows where a document starts.
    ///
    /// # Shapes
    /// `start_of_sequence` (bool): `[B]`.
    #[track_caller]
    pub fn reset_rows(&self, start_of_sequence: &Tensor) -> Self {
        let [batch, ..] = dims::<4>("keys", &self.keys);
        expect_shape("start_of_sequence", start_of_sequence, &[batch]);
        let starts = start_of_sequence.view([-1, 1, 1, 1]);
        let reset = |x: &Tensor| x.masked_fill(&starts, 0.);
        Self { keys: reset(&self.keys), values: reset(&self.values) }
    }

    /// Returns the cache with its keys and values replaced by what `f` makes of them.
    pub fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Self {
        Self { keys: f(&self.keys), values: f(&self.values) }
    }
}
