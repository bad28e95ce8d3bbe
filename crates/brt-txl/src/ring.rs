//! Keys and values of the last W tokens of one text, each new token in the place of the oldest.

use brt_ops::{Carry, RowKeys, expect_shape};
use tch::{Kind, Tensor};

use crate::KvCache;

/// Ring buffer of one text. Blocks of W tokens begin at slot 0, so slots are places in a block: those that the current block
/// has not reached hold the tokens of the block before.
#[derive(Debug)]
pub struct KvRing {
    keys: Tensor,   // [1, H, W, D]
    values: Tensor, // [1, H, W, D]
    carry: Carry,
}

impl KvRing {
    /// Returns the ring after a whole block, which `cache` holds, its numbers of a kind.
    ///
    /// # Shapes
    /// Of the cache: one row; `[1, H, W, D]` also where nothing is carried.
    pub fn new(cache: &KvCache, (window_len, carry): (i64, Carry), kind: Kind) -> Self {
        let [_, num_heads, cache_len, head_dim] = brt_ops::dims("cache", &cache.keys);
        let own = |x: &Tensor| match cache_len {
            0 => Tensor::zeros([1, num_heads, window_len, head_dim], (kind, x.device())),
            _ => x.to_kind(kind).copy(),
        };
        let (keys, values) = (own(&cache.keys), own(&cache.values));
        expect_shape("cache", &keys, &[1, num_heads, window_len, head_dim]);
        Self { keys, values, carry }
    }

    /// Returns the last W keys and values as a cache, at the end of a block.
    pub fn cache(&self) -> KvCache {
        let part = |x: &Tensor| if self.carry == Carry::None { x.narrow(2, 0, 0) } else { x.shallow_clone() };
        KvCache { keys: part(&self.keys), values: part(&self.values) }
    }

    /// Writes the keys and values of new tokens from `slot` on.
    ///
    /// # Shapes
    /// `keys`, `values`: `[1, H, len, D]`; `slot + len` is at most W.
    pub fn write(&mut self, slot: i64, keys: &Tensor, values: &Tensor) {
        let len = keys.size()[2];
        self.keys.narrow(2, slot, len).copy_(keys);
        self.values.narrow(2, slot, len).copy_(values);
    }

    /// Returns what a token sees that goes to `slot`.
    pub fn seen(&self, slot: i64) -> RowKeys<'_> {
        let num_seen = if self.carry == Carry::None { slot } else { self.keys.size()[2] };
        RowKeys { keys: &self.keys, values: &self.values, num_seen, next_slot: slot }
    }

    /// Returns the keys and values that a token sees that goes to `slot`, the oldest first: `[1, H, seen, D]` each.
    pub fn in_order(&self, slot: i64) -> [Tensor; 2] {
        [&self.keys, &self.values].map(|x| {
            let now = x.narrow(2, 0, slot);
            if self.carry == Carry::None {
                return now;
            }
            let before = x.narrow(2, slot, x.size()[2] - slot);
            Tensor::cat(&[before, now], 2)
        })
    }

    /// Returns a ring made of `f` of its tensors.
    pub fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Self {
        Self { keys: f(&self.keys), values: f(&self.values), carry: self.carry }
    }

    /// Returns the ring's tensors, slot by slot.
    pub fn slots(&self) -> KvCache {
        KvCache { keys: self.keys.shallow_clone(), values: self.values.shallow_clone() }
    }

    /// Returns keys and values, slot by slot: `[1, H, W, D]` each.
    pub fn tensors(&self) -> [&Tensor; 2] {
        [&self.keys, &self.values]
    }
}
