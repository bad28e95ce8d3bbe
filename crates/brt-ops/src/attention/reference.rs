//! Attention term by term, as the official code has it: what every faster way is compared with.

use tch::Tensor;

use super::MASKED;

/// Logit of the invisible key that only the denominator of [`safe_softmax`] counts.
const INVISIBLE: f64 = -1000.;

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
/// As [`attention`](super::attention).
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

#[cfg(test)]
mod tests {
    use tch::Kind;

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
