//! What products multiply: values in float32, or pairs in bfloat16.

use super::Simd;

/// Four bytes, any of which are a value; all zero is zero.
///
/// # Safety
/// A type that is so.
pub(crate) unsafe trait Word: Copy + 'static {}

// SAFETY: it is so.
unsafe impl Word for f32 {}

/// What each lane of a product multiplies: one value, or several that stand next to each other in the sum.
pub(crate) trait Operand<S: Simd>: Word {
    /// Values in one operand.
    const VALUES: usize;

    /// Returns what multiplies: `values` where they are operands themselves, else `made` of them.
    fn pick<'a>(values: &'a [f32], made: &'a [Self]) -> &'a [Self];

    /// Makes operands of the values of a row, next to each other in one operand. Nothing where values are operands.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`; so for all below. The lengths are multiples of `S::LANES`.
    unsafe fn along(row: &[f32], to: &mut [Self]);

    /// Makes operands of two rows, each of one value of either. Nothing where values are operands.
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
    const VALUES: usize = 1;

    #[inline(always)]
    fn pick<'a>(values: &'a [f32], _: &'a [f32]) -> &'a [f32] {
        values
    }
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
