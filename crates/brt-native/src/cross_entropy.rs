//! Cross-entropy of rows of logits, and its gradient written over them.

use tch::{Device, Kind, Tensor};

use crate::{
    memory::{Slots, has_kernels, slice, with_kinds},
    simd::{Element, Simd, exp, kernel},
    threads::{self, TASK_VALUES},
};

/// Returns `-log softmax(logits)[target]` of each row in nats, times the row's mask, and its gradient with respect to the
/// logits. Sums are float32; the gradient is of the kind of the logits and, on the CPU, stands in their place.
///
/// # Shapes
/// `logits` and the gradient: `[rows, V]`; `targets` (int64), `mask` (float32) and the nats: `[rows]`.
///
/// # Panics
/// Where a target is no column.
///
/// ```
/// use tch::Tensor;
/// let logits = Tensor::from_slice(&[0f32, 0.]).view([1, 2]);
/// let (nats, gradient) =
///     brt_native::cross_entropy(logits, &Tensor::from_slice(&[1i64]), &Tensor::from_slice(&[1f32]));
/// assert!((nats.double_value(&[0]) - std::f64::consts::LN_2).abs() < 1e-6);
/// assert!((gradient.double_value(&[0, 1]) + 0.5).abs() < 1e-6);
/// ```
#[track_caller]
pub fn cross_entropy(logits: Tensor, targets: &Tensor, mask: &Tensor) -> (Tensor, Tensor) {
    let size = logits.size();
    let &[num_rows, vocab_size] = size.as_slice() else { panic!("logits: expected [rows, V], got {size:?}") };
    assert_eq!(targets.size(), [num_rows], "targets: expected one for each row");
    assert_eq!(mask.size(), [num_rows], "mask: expected one for each row");
    tch::no_grad(|| {
        if !has_kernels(&logits) || logits.numel() == 0 {
            return composed(&logits, targets, mask);
        }
        let logits = logits.contiguous();
        let (targets, mask) = (targets.contiguous(), mask.to_kind(Kind::Float).contiguous());
        let nats = Tensor::empty([num_rows], (Kind::Float, Device::Cpu));
        let (rows, width) = (num_rows as usize, vocab_size as usize);
        let task = (TASK_VALUES / width).max(1);
        let wanted = Vec::<i64>::try_from(&targets).expect("targets: int64");
        if let Some(target) = wanted.iter().find(|target| !(0..vocab_size).contains(*target)) {
            panic!("targets: expected columns below {vocab_size}, got {target}");
        }
        with_kinds!([E = logits.kind()] {
            let (mask, slots) = (slice::<f32>(&mask), Slots::<E>::new(&logits, task * width));
            let nats = Slots::<f32>::new(&nats, task);
            threads::each(rows.div_ceil(task), |idx| {
                let rows = idx * task..rows.min((idx + 1) * task);
                // SAFETY: each slot is one task's.
                unsafe { rows_in_place(slots.of(idx), &wanted[rows.clone()], &mask[rows], nats.of(idx)) };
            });
        });
        (nats, logits)
    })
}

fn composed(logits: &Tensor, targets: &Tensor, mask: &Tensor) -> (Tensor, Tensor) {
    let wide = if logits.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let log_probabilities = logits.log_softmax(-1, wide);
    let nats = -log_probabilities.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1);
    let targets = targets.unsqueeze(1);
    let minus_one = Tensor::full(targets.size(), -1., (wide, logits.device()));
    let gradient = log_probabilities.exp().scatter_add(1, &targets, &minus_one) * mask.unsqueeze(1);
    (nats * mask, gradient.to_kind(logits.kind()))
}

kernel! {
    /// Rows of one task: the logits become their gradient.
    unsafe fn rows_in_place<E: Element>(
        logits: &mut [E],
        targets: &[i64],
        mask: &[f32],
        nats: &mut [f32],
    ) = rows_in_place_by
}

#[inline(always)]
unsafe fn rows_in_place_by<S: Simd, E: Element>(
    logits: &mut [E],
    targets: &[i64],
    mask: &[f32],
    nats: &mut [f32],
) {
    let width = logits.len() / targets.len();
    let whole = width - width % S::LANES;
    for (i, row) in logits.chunks_exact_mut(width).enumerate() {
        let target = targets[i] as usize;
        let target_logit = row[target].value();
        // SAFETY: the caller's; all reads and writes end before the whole vectors do.
        unsafe {
            let mut largest = S::splat(f32::MIN);
            for j in (0..whole).step_by(S::LANES) {
                largest = largest.max(E::load::<S>(row.as_ptr().add(j)));
            }
            let mut lanes = [f32::MIN; crate::simd::MAX_LANES];
            largest.store(lanes.as_mut_ptr());
            let largest = lanes.iter().copied().fold(f32::MIN, f32::max);
            let largest = row[whole..].iter().fold(largest, |m, x| m.max(x.value()));

            let (shift, mut sums) = (S::splat(-largest), S::splat(0.));
            for j in (0..whole).step_by(S::LANES) {
                sums = sums.add(exp(E::load::<S>(row.as_ptr().add(j)).add(shift)));
            }
            let rest: f32 = row[whole..].iter().map(|x| (x.value() - largest).exp()).sum();
            let log_sum = largest + (sums.sum() + rest).ln();
            nats[i] = (log_sum - target_logit) * mask[i];

            let (shift, factor) = (S::splat(-log_sum), S::splat(mask[i]));
            for j in (0..whole).step_by(S::LANES) {
                let at = row.as_mut_ptr().add(j);
                E::store(exp(E::load::<S>(at).add(shift)).mul(factor), at);
            }
            for x in &mut row[whole..] {
                *x = E::of((x.value() - log_sum).exp() * mask[i]);
            }
            let probability = (target_logit - log_sum).exp();
            row[target] = E::of((probability - 1.) * mask[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    /// Float32 rounding of a sum over the vocabulary.
    const ROUNDING: f64 = 2e-6;
    /// One rounding to bfloat16 of a gradient of at most 1.
    const BFLOAT16_ROUNDING: f64 = 4e-3;

    /// What is no number is not lost, in its row and no other.
    #[test]
    fn nan_stays() {
        Level::each(|level| {
            let logits = Tensor::zeros([2, 20], (Kind::Float, Device::Cpu));
            let _ = logits.get(1).get(3).fill_(f64::NAN);
            let (targets, mask) = (Tensor::from_slice(&[1i64, 2]), Tensor::from_slice(&[1f32, 1.]));
            let (nats, _) = cross_entropy(logits, &targets, &mask);
            assert!(nats.double_value(&[0]).is_finite() && nats.double_value(&[1]).is_nan(), "{level:?}");
        });
    }

    #[test]
    fn rows_equal_their_formula() {
        Level::each(|_| {
            for (rows, width, kind) in [(1, 1, Kind::Float), (3, 7, Kind::Float), (5, 70, Kind::BFloat16)]
                .into_iter()
                .chain([(300, 260, Kind::Float), (9, 32_128, Kind::BFloat16)])
            {
                tch::manual_seed(1);
                let options = (Kind::Float, Device::Cpu);
                let logits = (Tensor::randn([rows, width], options) * 3.).to_kind(kind);
                let targets = Tensor::randint(width, [rows], (Kind::Int64, Device::Cpu));
                let mask = Tensor::randint(2, [rows], (Kind::Float, Device::Cpu));
                let (wanted, wanted_gradient) = composed(&logits.to_kind(Kind::Double), &targets, &mask);
                let (nats, gradient) = cross_entropy(logits, &targets, &mask);
                assert_eq!(gradient.kind(), kind);
                let error = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
                assert!(error(&nats, &wanted) < 10. * ROUNDING, "{rows} {width}");
                let rounding = if kind == Kind::Float { ROUNDING } else { BFLOAT16_ROUNDING };
                assert!(error(&gradient, &wanted_gradient) < rounding, "{rows} {width}");
            }
        });
    }
}
