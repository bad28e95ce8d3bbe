//! Keys and values that the blocks of a segment see.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{dims, expect_shape};

/// Whether gradients flow from a block into the keys and values of the block before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carry {
    /// They do, within a segment: the sliding-window model.
    Differentiable,
    /// They do not: Transformer-XL, whose segments are its windows. A segment of several windows then equals that many
    /// Transformer-XL segments with the same weights.
    Detached,
    /// There is no block before: every window stands alone, as in a vanilla transformer.
    None,
}

/// Keys and values that each block sees: its own, and with [`Self::new`] also those of the block before it.
#[derive(Debug)]
pub struct Windows {
    /// Of each block itself, `[n, B, H, len, D]`, or `[B, H, len, D]` of one block.
    pub keys: Tensor,
    /// As the keys.
    pub values: Tensor,
    pub(crate) before: Option<Before>,
}

/// What stands before the first block.
#[derive(Debug)]
pub(crate) struct Before {
    /// `[B, H, len, D]`.
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
    /// Whether no gradient flows into a block from the one after it.
    pub(crate) is_detached: bool,
}

impl Windows {
    /// Every block sees its own keys alone.
    pub fn alone(keys: Tensor, values: Tensor) -> Self {
        Self { keys, values, before: None }
    }

    /// Every block also sees the one before it; the cache stands before the first one.
    ///
    /// # Shapes
    /// `keys`, `values`: `[n, B, H, W, D]`; the cached ones: `[B, H, W, D]`, under [`Carry::None`] `[B, H, 0, D]`.
    #[track_caller]
    pub fn new(
        [keys, values]: [&Tensor; 2],
        [cached_keys, cached_values]: [&Tensor; 2],
        carry: Carry,
    ) -> Self {
        let [_, batch, num_heads, window_len, head_dim] = dims("keys", keys);
        let cache_len = if carry == Carry::None { 0 } else { window_len };
        for cached in [cached_keys, cached_values] {
            expect_shape("cache", cached, &[batch, num_heads, cache_len, head_dim]);
        }
        let before = (carry != Carry::None).then(|| Before {
            keys: cached_keys.shallow_clone(),
            values: cached_values.shallow_clone(),
            is_detached: carry == Carry::Detached,
        });
        Self { keys: keys.shallow_clone(), values: values.shallow_clone(), before }
    }

    /// Returns the window of each block: what it sees of its own, `[B, H, len, D]`, and of the block before it.
    pub fn blocks(&self) -> Vec<Self> {
        // Not one select after the other, whose gradients are as large as all blocks.
        let (keys, values) = (self.keys.unbind(0), self.values.unbind(0));
        let before = |t: usize| {
            let before = self.before.as_ref()?;
            let earlier = |first: &Tensor, blocks: &[Tensor]| match t.checked_sub(1).map(|t| &blocks[t]) {
                None => first.shallow_clone(),
                Some(block) if before.is_detached => block.detach(),
                Some(block) => block.shallow_clone(),
            };
            let (keys, values) = (earlier(&before.keys, &keys), earlier(&before.values, &values));
            Some(Before { keys, values, is_detached: before.is_detached })
        };
        let block = |t: usize| Self {
            keys: keys[t].shallow_clone(),
            values: values[t].shallow_clone(),
            before: before(t),
        };
        (0..keys.len()).map(block).collect()
    }

    /// Returns the same windows with all that a block sees in one tensor: `[.., H, 2W, D]` or `[.., H, W, D]`.
    pub fn joined(&self) -> Self {
        let Some(before) = &self.before else {
            return Self::alone(self.keys.shallow_clone(), self.values.shallow_clone());
        };
        let join = |blocks: &Tensor, first: &Tensor| {
            if blocks.dim() == 4 {
                return Tensor::cat(&[first, blocks], 2);
            }
            let earlier = blocks.narrow(0, 0, blocks.size()[0] - 1);
            let earlier = if before.is_detached { earlier.detach() } else { earlier };
            let previous = Tensor::cat(&[&first.unsqueeze(0), &earlier], 0); // [n, B, H, W, D]
            Tensor::cat(&[&previous, blocks], 3)
        };
        Self::alone(join(&self.keys, &before.keys), join(&self.values, &before.values))
    }
}
