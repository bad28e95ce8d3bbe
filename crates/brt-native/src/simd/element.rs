//! Kinds of numbers in memory: float32 and bfloat16.

use super::Simd;

/// Returns a bfloat16 as float32.
#[inline(always)]
pub(super) fn of_bfloat16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Rounds to bfloat16: to nearest, ties to even.
#[inline(always)]
pub(super) fn to_bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    if value.is_nan() { 0x7fc0 } else { (rounded >> 16) as u16 }
}

/// Returns a row's bits where it is bfloat16.
#[inline(always)]
pub(super) fn bits<E: Element>(row: &[E]) -> Option<&[u16]> {
    // SAFETY: values of this kind are two bytes, of which every pattern is valid.
    let halves = || unsafe { std::slice::from_raw_parts(row.as_ptr().cast(), row.len()) };
    (E::KIND == tch::Kind::BFloat16).then(halves)
}

/// A kind of number in memory.
///
/// # Safety
/// Values are those of [`Self::KIND`].
pub(crate) unsafe trait Element: Copy + Send + Sync {
    /// Its name in libtorch.
    const KIND: tch::Kind;

    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load<S: Simd>(from: *const Self) -> S;
    /// # Safety
    /// As [`Simd::store`].
    unsafe fn store<S: Simd>(vector: S, to: *mut Self);
    fn of(value: f32) -> Self;
    fn value(self) -> f32;
}

// SAFETY: float32.
unsafe impl Element for f32 {
    const KIND: tch::Kind = tch::Kind::Float;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S {
        // SAFETY: the caller's.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(vector: S, to: *mut Self) {
        // SAFETY: the caller's.
        unsafe { vector.store(to) }
    }
    #[inline(always)]
    fn of(value: f32) -> Self {
        value
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

// SAFETY: bits of a bfloat16.
unsafe impl Element for u16 {
    const KIND: tch::Kind = tch::Kind::BFloat16;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S {
        // SAFETY: the caller's.
        unsafe { S::load_bfloat16(from) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(vector: S, to: *mut Self) {
        // SAFETY: the caller's.
        unsafe { vector.store_bfloat16(to) }
    }
    #[inline(always)]
    fn of(value: f32) -> Self {
        to_bfloat16(value)
    }
    #[inline(always)]
    fn value(self) -> f32 {
        of_bfloat16(self)
    }
}
