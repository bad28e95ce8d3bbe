//! Cross-entropy of next-token predictions.

use brt_native::product;
use tch::{Kind, Reduction, Tensor};

/// Most logits that exist at one time, and on a GPU: each time the whole weight is read.
const MAX_LOGITS: [i64; 2] = [1 << 24, 1 << 28];

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

/// Returns the sum over all positions of the [`cross_entropy`] of `xs · weightᵀ`, in nats.
///
/// The logits are made some rows at a time, and what the backward pass needs of them, which is as large as `xs` and
/// `weight`, is computed at once.
///
/// # Shapes
/// `xs`: `[.., E]`; `weight`: `[V, E]`; `targets` (int64), `mask` (float): `[..]`; result: a scalar.
pub fn summed_cross_entropy(xs: &Tensor, weight: &Tensor, targets: &Tensor, mask: &Tensor) -> Tensor {
    let wants_gradients = [xs, weight].iter().any(|x| x.requires_grad());
    let mut nats = Tensor::zeros([1], (Kind::Float, xs.device()));
    let mut dxs = vec![];
    let mut dweight = wants_gradients.then(|| weight.zeros_like());
    tch::no_grad(|| {
        each_chunk(xs, weight, targets, mask, |xs, weight, chunk_nats, gradient| {
            nats = &nats + chunk_nats.sum(Kind::Float);
            if let Some(dweight) = &mut dweight {
                dxs.push(product(&gradient, weight)); // [rows, E]
                let _ = dweight.g_add_(&product(&gradient.tr(), xs)); // [V, E]
            }
        });
    });
    let nats = nats.squeeze();
    let Some(dweight) = dweight else { return nats };
    let dxs = tch::no_grad(|| Tensor::cat(&dxs, 0).view_as(xs).to_kind(xs.kind()));
    let gradients = |gradients: &[Option<Tensor>], saved: &[Tensor]| {
        let scaled = |x: &Tensor| gradients[0].as_ref().map(|g| (x * g).to_kind(x.kind()));
        tch::no_grad(|| saved.iter().map(scaled).collect())
    };
    brt_native::attach(&[xs, weight], vec![nats], &[&dxs, &dweight], gradients).remove(0)
}

/// Returns the [`cross_entropy`] of `xs · weightᵀ` of every position, in nats, without gradient: the logits are made some
/// rows at a time.
///
/// # Shapes
/// As [`summed_cross_entropy`]; result: `[..]`.
pub fn unembedded_cross_entropy(xs: &Tensor, weight: &Tensor, targets: &Tensor, mask: &Tensor) -> Tensor {
    let mut nats = vec![];
    tch::no_grad(|| each_chunk(xs, weight, targets, mask, |_, _, chunk_nats, _| nats.push(chunk_nats)));
    Tensor::cat(&nats, 0).view_as(targets)
}

/// Calls `work` for some rows of `xs` after the other, with the weight, the nats, and the gradient of their sum with
/// respect to the logits. Products are of the kind in which all are computed.
fn each_chunk(
    xs: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
    mask: &Tensor,
    mut work: impl FnMut(&Tensor, &Tensor, Tensor, Tensor),
) {
    let [vocab_size, width] = crate::dims("weight", weight);
    crate::expect_shape("mask", mask, &targets.size());
    let kind = brt_native::product_kind(weight);
    let (xs, weight) = (xs.reshape([-1, width]).to_kind(kind), weight.to_kind(kind));
    let num_rows = (MAX_LOGITS[usize::from(xs.device().is_cuda())] / vocab_size).max(1);
    let [targets, mask] = [targets, mask].map(|x| x.reshape(-1).split(num_rows, 0));
    for ((xs, targets), mask) in xs.split(num_rows, 0).iter().zip(&targets).zip(&mask) {
        let logits = product(xs, &weight.tr()); // [rows, V]
        let (nats, gradient) = brt_native::cross_entropy(logits, targets, mask);
        work(xs, &weight, nats, gradient);
    }
}

/// Returns the entropy of every prediction, in nats.
///
/// # Shapes
/// `logits`: `[.., V]`; result: `[..]`.
pub fn entropy(logits: &Tensor) -> Tensor {
    let log_probabilities = logits.log_softmax(-1, Kind::Float);
    -(log_probabilities.exp() * log_probabilities).sum_dim_intlist(-1, false, Kind::Float)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// In chunks as at once, values and gradients; with the mask and a factor before the backward pass.
    #[test]
    fn chunks_equal_the_whole() {
        tch::manual_seed(1);
        let options = (Kind::Float, Device::Cpu);
        for vocab_size in [5, MAX_LOGITS[0] / 4] {
            let xs = Tensor::randn([2, 5, 3], options).set_requires_grad(true);
            let weight = Tensor::randn([vocab_size, 3], options).set_requires_grad(true);
            let targets = Tensor::randint(vocab_size, [2, 5], (Kind::Int64, Device::Cpu));
            let mask = Tensor::from_slice(&[1f32, 1., 0., 1., 1., 1., 0., 0., 1., 1.]).view([2, 5]);
            // By the same library: a sum over so large a vocabulary is exact to three digits only.
            let whole = cross_entropy(&brt_native::linear(&xs, &weight, None), &targets, &mask);
            let gradients = |sum: Tensor| Tensor::run_backward(&[sum * 0.5], &[&xs, &weight], false, false);
            let wanted = gradients(whole.sum(Kind::Float));
            let sum = summed_cross_entropy(&xs, &weight, &targets, &mask);
            assert!((&sum - whole.sum(Kind::Float)).abs().double_value(&[]) < 1e-4);
            for (got, wanted) in gradients(sum).iter().zip(wanted) {
                assert!((got - wanted).abs().max().double_value(&[]) < 1e-5);
            }
            let nats = unembedded_cross_entropy(&xs, &weight, &targets, &mask);
            assert!((nats - whole).abs().max().double_value(&[]) < 1e-5);
        }
    }
}
