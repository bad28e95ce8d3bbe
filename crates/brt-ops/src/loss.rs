//! Cross-entropy of next-token predictions.

use tch::{Kind, Reduction, Tensor};

/// Returns `-log softmax(logits)[target]` of every position, in nats; 0 where the mask is 0.
///
/// # Shapes
/// `logits`: `[.., V]`; `targets` (int64), `mask` (float) and the result: `[..]`.
///
/// ```
/// use tch::Tensor;
/// // Two equal logits: one bit, ln 2 nats.
/// let nats = brt_ops::loss::cross_entropy(
///     &Tensor::from_slice(&[0f32, 0.]).view([1, 2]),
///     &Tensor::from_slice(&[1i64]),
///     &Tensor::from_slice(&[1f32]),
/// );
/// assert!((nats.double_value(&[0]) - std::f64::consts::LN_2).abs() < 1e-6);
/// ```
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, mask: &Tensor) -> Tensor {
    let shape = targets.size();
    crate::expect_shape("mask", mask, &shape);
    let vocab_size = *logits.size().last().expect("logits have a last axis");
    let nats = logits.reshape([-1, vocab_size]).to_kind(Kind::Float).cross_entropy_loss::<Tensor>(
        &targets.reshape(-1),
        None,
        Reduction::None,
        -100,
        0.,
    );
    nats.view(shape.as_slice()) * mask
}

/// Returns the entropy of every prediction, in nats.
///
/// # Shapes
/// `logits`: `[.., V]`; result: `[..]`.
pub fn entropy(logits: &Tensor) -> Tensor {
    let log_probabilities = logits.log_softmax(-1, Kind::Float);
    -(log_probabilities.exp() * log_probabilities).sum_dim_intlist(-1, false, Kind::Float)
}
