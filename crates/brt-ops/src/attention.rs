//! Attention over windows of keys: every token sees exactly the W tokens before it, itself not among them.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{dims, expect_shape, probe};

/// Logit of a masked key.
pub(crate) const MASKED: f64 = -1e6;
/// Logit of the invisible key that only the denominator of [`safe_softmax`] counts.
const INVISIBLE: f64 = -1000.;

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

/// Keys and values that each block sees: its own and those of the block before it, or its own alone
/// ([`Carry::None`]).
#[derive(Debug)]
pub struct Windows {
    /// `[n, B, H, 2W, D]` or `[n, B, H, W, D]`.
    pub keys: Tensor,
    /// As the keys.
    pub values: Tensor,
}

impl Windows {
    /// Puts the block before in front of each block; the cache stands before the first one.
    ///
    /// # Shapes
    /// `keys`, `values`: `[n, B, H, W, D]`; the cached ones: `[B, H, W, D]`, under [`Carry::None`] `[B, H, 0, D]`.
    #[track_caller]
    pub fn new(
        [keys, values]: [&Tensor; 2],
        [cached_keys, cached_values]: [&Tensor; 2],
        carry: Carry,
    ) -> Self {
        Self {
            keys: with_previous(keys, cached_keys, carry),
            values: with_previous(values, cached_values, carry),
        }
    }
}

/// `[n, B, H, W, D]` and `[B, H, W, D]` → `[n, B, H, 2W, D]`.
#[track_caller]
fn with_previous(blocks: &Tensor, before: &Tensor, carry: Carry) -> Tensor {
    let [num_blocks, batch, num_heads, window_len, head_dim] = dims("blocks", blocks);
    let cache_len = if carry == Carry::None { 0 } else { window_len };
    expect_shape("cache", before, &[batch, num_heads, cache_len, head_dim]);
    let earlier = blocks.narrow(0, 0, num_blocks - 1);
    let earlier = match carry {
        Carry::Differentiable => earlier,
        Carry::Detached => earlier.detach(),
        Carry::None => return blocks.shallow_clone(),
    };
    let previous = Tensor::cat(&[&before.unsqueeze(0), &earlier], 0); // [n, B, H, W, D]
    Tensor::cat(&[&previous, blocks], 3)
}

/// Returns `softmax(queries · keysᵀ + bias) ⊙ multiplier · values`.
///
/// The hot path: temperatures are already in the queries and the bias ([`crate::Projection`]), the mask is already in
/// the bias ([`crate::WindowTables::mask_bias`]). Equals [`reference_attention`] wherever every query sees a key with a logit above −900.
///
/// # Shapes
/// `queries` and the result: `[.., H, q, D]`; `keys`, `values`: `[.., H, k, D]`; `bias`, `multiplier`: `[H, q, k]` or
/// `[q, k]`.
pub fn attention(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    bias: Option<&Tensor>,
    multiplier: Option<&Tensor>,
) -> Tensor {
    let logits = queries.matmul(&keys.transpose(-2, -1)); // [.., H, q, k]
    let logits = match bias {
        Some(bias) => logits + bias,
        None => logits,
    };
    // In mixed precision the products are bfloat16, the softmax is not.
    let kind = if logits.kind() == Kind::BFloat16 { Kind::Float } else { logits.kind() };
    let mut weights = logits.softmax(-1, kind);
    probe::record(|| vec![("entropy", entropy(&weights))]);
    if let Some(multiplier) = multiplier {
        weights = weights * multiplier;
    }
    weights.matmul(values)
}

/// Returns the mean entropy of rows of weights, in nats.
fn entropy(weights: &Tensor) -> f64 {
    let terms = weights * weights.clamp_min(1e-30).log();
    -terms.sum_dim_intlist(-1, false, Kind::Float).mean(Kind::Float).double_value(&[])
}

/// Terms that act on the logits of [`reference_attention`], each optional.
#[derive(Debug, Default)]
pub struct LogitTerms<'a> {
    /// Added first, `[H, q, k]`.
    pub bias: Option<&'a Tensor>,
    /// Multiplies the sum, `[H]`.
    pub temperature: Option<&'a Tensor>,
    /// Where it is false the logit becomes −10⁶, `[q, k]`.
    pub mask: Option<&'a Tensor>,
    /// Multiplies the probabilities, `[H, q, k]`.
    pub multiplier: Option<&'a Tensor>,
}

/// Attention term by term in the order of the paper's code: bias, temperature, mask, [`safe_softmax`], dropout.
///
/// # Shapes
/// As [`attention`].
pub fn reference_attention(queries: &Tensor, keys: &Tensor, values: &Tensor, terms: &LogitTerms) -> Tensor {
    let mut logits = queries.matmul(&keys.transpose(-2, -1)); // [.., H, q, k]
    if let Some(bias) = terms.bias {
        logits = logits + bias;
    }
    if let Some(temperature) = terms.temperature {
        logits = logits * temperature.view([-1, 1, 1]);
    }
    if let Some(mask) = terms.mask {
        logits = logits.where_scalarother(mask, MASKED);
    }
    let mut weights = safe_softmax(&logits);
    if let Some(multiplier) = terms.multiplier {
        weights = weights * multiplier;
    }
    weights.matmul(values)
}

/// Softmax over the last axis with one more, invisible logit of −1000: a row whose logits are all masked gives zeros.
///
/// # Shapes
/// `logits` and the result: `[.., k]`.
pub fn safe_softmax(logits: &Tensor) -> Tensor {
    let mut shape = logits.size();
    let last = shape.len() - 1;
    let num_keys = std::mem::replace(&mut shape[last], 1);
    let invisible = Tensor::full(&shape, INVISIBLE, (logits.kind(), logits.device()));
    Tensor::cat(&[logits, &invisible], -1).softmax(-1, logits.kind()).narrow(-1, 0, num_keys)
}

/// Returns true where a query may attend: to exactly the `window_len` keys before it, never to itself. Key j lies
/// `i + offset − j` tokens behind query i.
///
/// # Shapes
/// Result (bool): `[queries, keys]`.
///
/// ```
/// // Two queries after two more keys.
/// let mask = brt_ops::causal_mask([2, 4, 2], 2, tch::Device::Cpu);
/// let rows: Vec<Vec<bool>> = mask.try_into().expect("two rows");
/// assert_eq!(rows, [[true, true, false, false], [false, true, true, false]]);
/// ```
pub fn causal_mask([num_queries, num_keys, offset]: [i64; 3], window_len: i64, device: Device) -> Tensor {
    let options = (Kind::Int64, device);
    let query = Tensor::arange(num_queries, options).unsqueeze(1) + offset;
    let distance = query - Tensor::arange(num_keys, options).unsqueeze(0); // [q, k], positive in the past
    distance.greater(0).logical_and(&distance.less_equal(window_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row whose logits are all masked gives zeros and has no gradient; other rows are those of a plain softmax.
    #[test]
    fn safe_softmax_of_masked_rows() {
        let logits = Tensor::from_slice(&[MASKED as f32, MASKED as f32, 1., MASKED as f32]).view([2, 2]);
        let logits = logits.set_requires_grad(true);
        let weights = safe_softmax(&logits);
        assert_eq!(weights, Tensor::from_slice(&[0f32, 0., 1., 0.]).view([2, 2]));
        (weights * Tensor::from_slice(&[3f32, 5.])).sum(Kind::Float).backward();
        assert_eq!(logits.grad().get(0), Tensor::from_slice(&[0f32, 0.]));
    }
}
