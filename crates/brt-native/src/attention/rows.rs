//! What happens to rows of logits between the products.

use super::simd::{Simd, exp};
use super::tile::MAX_LANES;

/// Logit of the invisible key that only denominators count.
const INVISIBLE: f32 = -1000.;

/// Sets each value of `row` to what `f` makes of it and of the values of `others` at its place, a vector at a time. Behind
/// the end `f` gets `fill`, and zeros of the others.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
unsafe fn update<S: Simd, const N: usize>(
    row: &mut [f32],
    others: [&[f32]; N],
    fill: f32,
    mut f: impl FnMut(S, [S; N]) -> S,
) {
    let len = row.len();
    assert!(others.iter().all(|other| other.len() >= len), "rows of one length");
    let whole = len - len % S::LANES;
    // SAFETY: the instruction set is the caller's; all reads and writes end before the lengths that were checked.
    unsafe {
        for start in (0..whole).step_by(S::LANES) {
            let others = others.map(|other| S::load(other.as_ptr().add(start)));
            f(S::load(row.as_ptr().add(start)), others).store(row.as_mut_ptr().add(start));
        }
        if whole < len {
            let mut last = [fill; MAX_LANES];
            last[..len - whole].copy_from_slice(&row[whole..]);
            let others = others.map(|other| {
                let mut last = [0.; MAX_LANES];
                last[..len - whole].copy_from_slice(&other[whole..len]);
                S::load(last.as_ptr())
            });
            f(S::load(last.as_ptr()), others).store(last.as_mut_ptr());
            row[whole..].copy_from_slice(&last[..len - whole]);
        }
    }
}

/// Returns the values of a vector combined by `f`.
///
/// # Safety
/// As [`update`].
#[inline(always)]
unsafe fn fold<S: Simd>(vector: S, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut values = [0.; MAX_LANES];
    // SAFETY: the caller's; no vector is longer.
    unsafe { vector.store(values.as_mut_ptr()) };
    values[..S::LANES].iter().copied().reduce(f).unwrap_or_default()
}

/// Turns logits into `e^(logit + bias − largest)` and returns the logarithm of their sum, and the factor that makes
/// probabilities of them. The invisible key counts.
///
/// # Safety
/// As [`update`].
#[inline(always)]
pub(super) unsafe fn softmax<S: Simd>(row: &mut [f32], bias: Option<&[f32]>) -> (f32, f32) {
    // SAFETY: the caller's.
    unsafe {
        let mut largest = S::splat(INVISIBLE);
        match bias {
            Some(bias) => update(row, [bias], f32::MIN, |x: S, [bias]| {
                let x = x.add(bias);
                largest = largest.max(x);
                x
            }),
            None => update(row, [], f32::MIN, |x: S, []| {
                largest = largest.max(x);
                x
            }),
        }
        let largest = fold(largest, f32::max);
        let (shift, mut sums) = (S::splat(-largest), S::splat(0.));
        update(row, [], f32::MIN, |x: S, []| {
            let x = exp(x.add(shift));
            sums = sums.add(x);
            x
        });
        let sum = fold(sums, |a, b| a + b) + (INVISIBLE - largest).exp();
        (largest + sum.ln(), 1. / sum)
    }
}

/// Turns logits into probabilities, given the logarithm of their sum, and `gradients` of the probabilities into those of
/// the logits; afterwards the multiplier acts on the probabilities.
///
/// # Safety
/// As [`update`].
#[inline(always)]
pub(super) unsafe fn softmax_backward<S: Simd>(
    row: &mut [f32],
    gradients: &mut [f32],
    bias: Option<&[f32]>,
    multiplier: Option<&[f32]>,
    log_sum: f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let shift = S::splat(-log_sum);
        match bias {
            Some(bias) => update(row, [bias], f32::MIN, |x: S, [bias]| exp(x.add(bias).add(shift))),
            None => update(row, [], f32::MIN, |x: S, []| exp(x.add(shift))),
        }
        if let Some(multiplier) = multiplier {
            update(gradients, [multiplier], 0., |g: S, [multiplier]| g.mul(multiplier));
        }
        let mut sums = S::splat(0.);
        update(gradients, [&*row], 0., |g: S, [p]| {
            sums = g.mul_add(p, sums);
            g
        });
        let mean = S::splat(-fold(sums, |a, b| a + b)); // Σ p g
        update(gradients, [&*row], 0., |g: S, [p]| g.add(mean).mul(p));
        if let Some(multiplier) = multiplier {
            update(row, [multiplier], 0., |p: S, [multiplier]| p.mul(multiplier));
        }
    }
}

/// Multiplies a row, value by value.
///
/// # Safety
/// As [`update`].
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(row: &mut [f32], by: &[f32]) {
    // SAFETY: the caller's.
    unsafe { update(row, [by], 0., |x: S, [by]| x.mul(by)) }
}

/// Scales a row.
///
/// # Safety
/// As [`update`].
#[inline(always)]
pub(super) unsafe fn scale<S: Simd>(row: &mut [f32], by: f32) {
    // SAFETY: the caller's.
    unsafe {
        let by = S::splat(by);
        update(row, [], 0., |x: S, []| x.mul(by));
    }
}

/// Adds another row.
///
/// # Safety
/// As [`update`].
#[inline(always)]
pub(super) unsafe fn add<S: Simd>(row: &mut [f32], other: &[f32]) {
    // SAFETY: the caller's.
    unsafe { update(row, [other], 0., |x: S, [other]| x.add(other)) }
}
