//! What products multiply: values in float32, or pairs in bfloat16.

use super::{Element, Portable, Simd, bits, of_bfloat16};

/// What each lane of a product multiplies: one value, or two that stand next to each other in the sum.
///
/// # Safety
/// Four bytes that are [`Self::VALUES`] values one after the other, of which every pattern is valid, and zeros are zero.
pub(crate) unsafe trait Word: Copy + 'static {
    type Value: Element;
    /// Values in one operand.
    const VALUES: usize = size_of::<Self>() / size_of::<Self::Value>();

    /// Returns the values of operands.
    #[inline(always)]
    fn values(operands: &[Self]) -> &[Self::Value] {
        // SAFETY: operands are values, one after the other.
        unsafe { std::slice::from_raw_parts(operands.as_ptr().cast(), operands.len() * Self::VALUES) }
    }

    #[inline(always)]
    fn values_mut(operands: &mut [Self]) -> &mut [Self::Value] {
        // SAFETY: as above, and all values are valid.
        unsafe { std::slice::from_raw_parts_mut(operands.as_mut_ptr().cast(), operands.len() * Self::VALUES) }
    }
}

// SAFETY: all bits are values.
unsafe impl Word for f32 {
    type Value = Self;
}

/// Two values in bfloat16.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(4))]
pub(crate) struct Pair([u16; 2]);

// SAFETY: any four bytes are two values.
unsafe impl Word for Pair {
    type Value = u16;
}

impl Pair {
    #[cfg(test)]
    pub(super) fn of(values: [u16; 2]) -> Self {
        Self(values)
    }

    /// Returns its four bytes as they lie in memory.
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        let [[a, b], [c, d]] = self.0.map(u16::to_ne_bytes);
        u32::from_ne_bytes([a, b, c, d])
    }
}

/// Operands for the vectors of an instruction set.
pub(crate) trait Operand<S: Simd>: Word {
    /// Makes operands of the values of a row; behind its end an operand keeps what it had.
    ///
    /// # Panics
    /// Where `to` holds fewer values.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`; so for all below.
    unsafe fn of_row<E: Element>(row: &[E], to: &mut [Self]);

    /// Makes operands of two rows of them, each of one value of either. It is never called where operands are single values.
    ///
    /// # Panics
    /// Where rows are not whole vectors, or `to` not as many operands as one has values.
    ///
    /// # Safety
    /// As [`Self::of_row`].
    unsafe fn across(rows: [&[Self]; 2], to: &mut [Self]);

    /// Returns the operand in all lanes.
    ///
    /// # Safety
    /// As [`Self::of_row`].
    unsafe fn splat(self) -> S;

    /// Returns `sum` and the products of the values of all lanes.
    ///
    /// # Safety
    /// As [`Self::of_row`].
    unsafe fn mul_add(a: S, b: S, sum: S) -> S;
}

impl<S: Simd> Operand<S> for f32 {
    #[inline(always)]
    unsafe fn of_row<E: Element>(row: &[E], to: &mut [Self]) {
        let to = &mut to[..row.len()];
        let whole = row.len() - row.len() % S::LANES;
        for j in (0..whole).step_by(S::LANES) {
            // SAFETY: the caller's; lengths were checked.
            unsafe { E::load::<S>(row.as_ptr().add(j)).store(to.as_mut_ptr().add(j)) };
        }
        for (to, value) in to[whole..].iter_mut().zip(&row[whole..]) {
            *to = value.value();
        }
    }
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
    unsafe fn of_row<E: Element>(row: &[E], to: &mut [Self]) {
        let to = &mut Self::values_mut(to)[..row.len()];
        if let Some(bits) = bits(row) {
            return to.copy_from_slice(bits);
        }
        for (to, value) in to.iter_mut().zip(row) {
            *to = u16::of(value.value());
        }
    }
    #[inline(always)]
    unsafe fn across([first, second]: [&[Self]; 2], to: &mut [Self]) {
        let (first, second) = (Self::values(first), Self::values(second));
        assert!(first.len() == to.len() && second.len() == to.len(), "pairs of two rows");
        for (pair, values) in to.iter_mut().zip(first.iter().zip(second)) {
            *pair = Self([*values.0, *values.1]);
        }
    }
    #[inline(always)]
    unsafe fn splat(self) -> Portable {
        // SAFETY: the caller's.
        unsafe { Portable::splat(f32::from_bits(self.bits())) }
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
