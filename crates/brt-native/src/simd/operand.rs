//! What products multiply: values in float32, or pairs in bfloat16.

use super::{Portable, Simd, of_bfloat16, to_bfloat16};

/// What each lane of a product multiplies: one value, or two that stand next to each other in the sum.
///
/// # Safety
/// Four bytes without padding, of which every pattern is valid, and zeros are values of zero.
pub(crate) unsafe trait Word: Copy + 'static {
    /// Values in one operand.
    const VALUES: usize;

    /// Returns what multiplies: `values` where they are operands themselves, else `made` of them.
    fn pick<'a>(values: &'a [f32], made: &'a [Self]) -> &'a [Self];
}

// SAFETY: all bits are values.
unsafe impl Word for f32 {
    const VALUES: usize = 1;

    #[inline(always)]
    fn pick<'a>(values: &'a [f32], _: &'a [f32]) -> &'a [f32] {
        values
    }
}

/// Two values in bfloat16: the first in the lower half.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Pair(u32);

// SAFETY: any four bytes are two values.
unsafe impl Word for Pair {
    const VALUES: usize = 2;

    #[inline(always)]
    fn pick<'a>(_: &'a [f32], made: &'a [Self]) -> &'a [Self] {
        made
    }
}

impl Pair {
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    fn rounded(first: f32, second: f32) -> Self {
        Self(u32::from(to_bfloat16(first)) | u32::from(to_bfloat16(second)) << 16)
    }
}

/// Operands for the vectors of an instruction set. What makes them is never called where values are operands themselves.
pub(crate) trait Operand<S: Simd>: Word {
    /// Makes operands of the values of a row, next to each other in one operand.
    ///
    /// # Panics
    /// Where a row is not whole vectors, or `to` not as many values.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`; so for all below.
    unsafe fn along(row: &[f32], to: &mut [Self]);

    /// Makes operands of two rows, each of one value of either.
    ///
    /// # Panics
    /// As [`Self::along`].
    ///
    /// # Safety
    /// As [`Self::along`].
    unsafe fn across(rows: [&[f32]; 2], to: &mut [Self]);

    /// Returns the operand in all lanes.
    ///
    /// # Safety
    /// As [`Self::along`].
    unsafe fn splat(self) -> S;

    /// Returns `sum` and the products of the values of all lanes.
    ///
    /// # Safety
    /// As [`Self::along`].
    unsafe fn mul_add(a: S, b: S, sum: S) -> S;
}

impl<S: Simd> Operand<S> for f32 {
    #[inline(always)]
    unsafe fn along(_: &[f32], _: &mut [f32]) {}
    #[inline(always)]
    unsafe fn across(_: [&[f32]; 2], _: &mut [f32]) {}
    #[inline(always)]
    unsafe fn splat(self) -> S {
        // SAFETY: the caller's.
        unsafe { S::splat(self) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: S, b: S, sum: S) -> S {
        // SAFETY: the caller's.
        unsafe { a.mul_add(b, sum) }
    }
}

impl Operand<Portable> for Pair {
    #[inline(always)]
    unsafe fn along(row: &[f32], to: &mut [Self]) {
        assert!(row.len() == 2 * to.len(), "pairs of a row");
        for (pair, values) in to.iter_mut().zip(row.chunks_exact(2)) {
            *pair = Self::rounded(values[0], values[1]);
        }
    }
    #[inline(always)]
    unsafe fn across([first, second]: [&[f32]; 2], to: &mut [Self]) {
        assert!(first.len() == to.len() && second.len() == to.len(), "pairs of two rows");
        for (pair, (first, second)) in to.iter_mut().zip(first.iter().zip(second)) {
            *pair = Self::rounded(*first, *second);
        }
    }
    #[inline(always)]
    unsafe fn splat(self) -> Portable {
        // SAFETY: the caller's.
        unsafe { Portable::splat(f32::from_bits(self.0)) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: Portable, b: Portable, sum: Portable) -> Portable {
        let first = |x: f32| of_bfloat16(x.to_bits() as u16);
        let second = |x: f32| of_bfloat16((x.to_bits() >> 16) as u16);
        a.zip(b, |a, b| first(a) * first(b))
            .zip(sum, |x, y| x + y)
            .zip(a.zip(b, |a, b| second(a) * second(b)), |x, y| x + y)
    }
}
