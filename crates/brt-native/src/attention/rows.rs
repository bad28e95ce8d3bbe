//! What happens to rows of logits between the products.

use crate::simd::{MAX_LANES, Simd, exp};

/// Logit of the invisible key that only denominators count.
const INVISIBLE: f32 = -1000.;

/// What happens to each vector of a row, given those of `N` other rows at its place. A trait and not a closure: a closure
/// would be a function without the instruction set.
trait Step<S: Simd, const N: usize> {
    /// Stands behind the end of the row.
    const FILL: f32 = 0.;

    /// # Safety
    /// The processor has the instruction set of `S`; so for all below.
    unsafe fn apply(&mut self, x: S, others: [S; N]) -> S;
}

/// Applies a step to all vectors of a row. Behind the end of the row the others are zeros.
///
/// # Safety
/// As [`Step::apply`].
#[inline(always)]
unsafe fn update<S: Simd, T: Step<S, N>, const N: usize>(
    mut step: T,
    row: &mut [f32],
    others: [&[f32]; N],
) -> T {
    let len = row.len();
    for other in others {
        assert!(other.len() >= len, "rows of one length");
    }
    let whole = len - len % S::LANES;
    // SAFETY: the instruction set is the caller's; all reads and writes end before the lengths that were checked.
    unsafe {
        let mut vectors = [S::splat(0.); N];
        for start in (0..whole).step_by(S::LANES) {
            for n in 0..N {
                vectors[n] = S::load(others[n].as_ptr().add(start));
            }
            step.apply(S::load(row.as_ptr().add(start)), vectors).store(row.as_mut_ptr().add(start));
        }
        if whole < len {
            let mut last = [T::FILL; MAX_LANES];
            last[..len - whole].copy_from_slice(&row[whole..]);
            for n in 0..N {
                let mut last = [0.; MAX_LANES];
                last[..len - whole].copy_from_slice(&others[n][whole..len]);
                vectors[n] = S::load(last.as_ptr());
            }
            step.apply(S::load(last.as_ptr()), vectors).store(last.as_mut_ptr());
            row[whole..].copy_from_slice(&last[..len - whole]);
        }
    }
    step
}

/// Returns the values of a vector.
///
/// # Safety
/// As [`Step::apply`].
#[inline(always)]
unsafe fn lanes<S: Simd>(vector: S) -> impl Iterator<Item = f32> {
    let mut values = [0.; MAX_LANES];
    // SAFETY: the caller's; no vector is longer.
    unsafe { vector.store(values.as_mut_ptr()) };
    values.into_iter().take(S::LANES)
}

/// Declares a step: the vectors that it holds, what stands behind the end of a row, and what it makes of a vector.
macro_rules! step {
    ($name:ident, |$x:ident, $others:pat_param| $result:expr, $n:literal) => {
        struct $name;
        impl<S: Simd> Step<S, $n> for $name {
            #[inline(always)]
            unsafe fn apply(&mut self, $x: S, $others: [S; $n]) -> S {
                // SAFETY: the caller's.
                unsafe { $result }
            }
        }
    };
    ($name:ident { $($field:ident),* }, fill $fill:expr, |$this:ident, $x:ident, $others:pat_param| $result:expr,
     $n:literal) => {
        struct $name<S> { $($field: S),* }
        impl<S: Simd> Step<S, $n> for $name<S> {
            const FILL: f32 = $fill;
            #[inline(always)]
            unsafe fn apply(&mut self, $x: S, $others: [S; $n]) -> S {
                let $this = self;
                // SAFETY: the caller's.
                unsafe { $result }
            }
        }
    };
}

// Behind the end stands no number, which `max` passes over, whatever the sign of the factor.
step!(ScaleAndLargest { factor, largest }, fill f32::NAN, |this, x, []| {
    let x = x.mul(this.factor);
    this.largest = x.max(this.largest);
    x
}, 0);
step!(ScaleAddAndLargest { factor, largest }, fill f32::NAN, |this, x, [bias]| {
    let x = x.mul_add(this.factor, bias);
    this.largest = x.max(this.largest);
    x
}, 1);
step!(Exp { shift, sums }, fill f32::MIN, |this, x, []| {
    let x = exp(x.add(this.shift));
    this.sums = this.sums.add(x);
    x
}, 0);
// Rounded as logits are in the forward pass: the exponent of the largest must be what it was.
step!(ScaleAndExp { factor, shift }, fill 0., |this, x, []| exp(x.mul(this.factor).add(this.shift)), 0);
step!(ScaleAddAndExp { factor, shift }, fill 0., |this, x, [bias]| {
    exp(x.mul_add(this.factor, bias).add(this.shift))
}, 1);
step!(Dot { sums }, fill 0., |this, x, [other]| {
    this.sums = x.mul_add(other, this.sums);
    x
}, 1);
step!(ShiftAndMultiply { shift }, fill 0., |this, x, [other]| x.add(this.shift).mul(other), 1);
step!(Multiply, |x, [other]| x.mul(other), 1);
step!(Add, |x, [other]| x.add(other), 1);

/// Turns products into `e^(logit − largest)` with `logit = temperature · product + bias`, and returns the logarithm of the sum
/// of `e^logit`, and the factor that makes probabilities of them. The invisible key counts.
///
/// # Safety
/// As [`Step::apply`].
#[inline(always)]
pub(crate) unsafe fn softmax<S: Simd>(row: &mut [f32], temperature: f32, bias: Option<&[f32]>) -> (f32, f32) {
    // SAFETY: the caller's.
    unsafe {
        let (factor, largest) = (S::splat(temperature), S::splat(INVISIBLE));
        let largest = match bias {
            Some(bias) => update(ScaleAddAndLargest { factor, largest }, row, [bias]).largest,
            None => update(ScaleAndLargest { factor, largest }, row, []).largest,
        };
        let largest = lanes(largest).fold(INVISIBLE, f32::max);
        let sums = update(Exp { shift: S::splat(-largest), sums: S::splat(0.) }, row, []).sums;
        let sum = sums.sum() + (INVISIBLE - largest).exp();
        (largest + sum.ln(), 1. / sum)
    }
}

/// Turns products into probabilities, as [`softmax`] does, given the logarithm of their sum, and `gradients` of the
/// probabilities into those of the logits; afterwards the multiplier acts on the probabilities.
///
/// # Safety
/// As [`Step::apply`].
#[inline(always)]
pub(super) unsafe fn softmax_backward<S: Simd>(
    row: &mut [f32],
    gradients: &mut [f32],
    (temperature, multiplier): (f32, Option<&[f32]>),
    bias: Option<&[f32]>,
    log_sum: f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let (factor, shift, zero) = (S::splat(temperature), S::splat(-log_sum), S::splat(0.));
        match bias {
            Some(bias) => _ = update(ScaleAddAndExp { factor, shift }, row, [bias]),
            None => _ = update(ScaleAndExp { factor, shift }, row, []),
        }
        if let Some(multiplier) = multiplier {
            multiply::<S>(gradients, multiplier);
        }
        let mean: f32 = update(Dot { sums: zero }, gradients, [row]).sums.sum(); // Σ p g
        update(ShiftAndMultiply { shift: S::splat(-mean) }, gradients, [row]);
        if let Some(multiplier) = multiplier {
            multiply::<S>(row, multiplier);
        }
    }
}

/// Multiplies a row, value by value.
///
/// # Safety
/// As [`Step::apply`].
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(row: &mut [f32], by: &[f32]) {
    // SAFETY: the caller's.
    unsafe {
        update::<S, _, 1>(Multiply, row, [by]);
    }
}

/// Adds another row.
///
/// # Safety
/// As [`Step::apply`].
#[inline(always)]
pub(super) unsafe fn add<S: Simd>(row: &mut [f32], other: &[f32]) {
    // SAFETY: the caller's.
    unsafe {
        update::<S, _, 1>(Add, row, [other]);
    }
}
