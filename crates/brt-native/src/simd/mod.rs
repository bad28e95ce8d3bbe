//! Vectors of float32, one type for each instruction set, chosen when the program runs.
//!
//! A kernel is a generic function, inlined whole into one function for each instruction set ([`kernel!`]). Closures are
//! functions of their own without the instruction set: hot loops must not have any.

mod element;
mod operand;
mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::atomic::{AtomicU8, Ordering};

use self::element::{bits, of_bfloat16, to_bfloat16};
#[cfg(target_arch = "x86_64")]
pub(crate) use self::x86::{Avx2, Avx512, Avx512Bf16};
pub(crate) use self::{
    element::Element,
    operand::{Operand, Pair, Word},
    portable::Portable,
};

/// Instruction sets, the slower ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    Portable,
    Avx2,
    Avx512,
    /// AVX-512 with products of pairs in bfloat16.
    Avx512Bf16,
}

/// The best level that may be used: a test lowers it.
static ALLOWED: AtomicU8 = AtomicU8::new(Level::Avx512Bf16 as u8);

impl Level {
    /// Returns the best instruction set of this processor.
    pub(crate) fn best() -> Self {
        let allowed = ALLOWED.load(Ordering::Relaxed);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            if is_x86_feature_detected!("avx512f") {
                if allowed >= Self::Avx512Bf16 as u8 && is_x86_feature_detected!("avx512bf16") {
                    return Self::Avx512Bf16;
                }
                if allowed >= Self::Avx512 as u8 {
                    return Self::Avx512;
                }
            }
            if allowed >= Self::Avx2 as u8 {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Runs `work` at each level that this processor has, while no other test draws random numbers or changes the level.
    #[cfg(test)]
    pub(crate) fn each(work: impl Fn(Self)) {
        /// Allows all levels again, also when `work` panics.
        struct AllowAll;
        impl Drop for AllowAll {
            fn drop(&mut self) {
                ALLOWED.store(Level::Avx512Bf16 as u8, Ordering::Relaxed);
            }
        }
        let _turn = crate::tests::take_turn();
        let _allow_all = AllowAll;
        let best = Self::best();
        let all = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16];
        for level in all.into_iter().filter(|level| *level <= best) {
            ALLOWED.store(level as u8, Ordering::Relaxed);
            work(level);
        }
    }
}

/// Defines `fn name(arguments)` that calls the generic function behind the `=` for the best instruction set.
macro_rules! kernel {
    ($(#[$attribute:meta])*
     $visible:vis unsafe fn $name:ident $(<$($kind:ident: Element),*>)? ($($argument:ident: $type:ty),* $(,)?) = $generic:ident) => {
        $(#[$attribute])*
        $visible unsafe fn $name $(<$($kind: Element),*>)? ($($argument: $type),*) {
            use $crate::simd::{Level, Portable};
            #[cfg(target_arch = "x86_64")]
            use $crate::simd::{Avx2, Avx512, Avx512Bf16};

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512bf16,avx512f,avx2,fma")]
            unsafe fn avx512_bf16 $(<$($kind: Element),*>)? ($($argument: $type),*) {
                // SAFETY: the caller's.
                unsafe { $generic::<Avx512Bf16 $($(, $kind)*)?>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            unsafe fn avx512 $(<$($kind: Element),*>)? ($($argument: $type),*) {
                // SAFETY: the caller's.
                unsafe { $generic::<Avx512 $($(, $kind)*)?>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2 $(<$($kind: Element),*>)? ($($argument: $type),*) {
                // SAFETY: the caller's.
                unsafe { $generic::<Avx2 $($(, $kind)*)?>($($argument),*) }
            }
            // SAFETY: the caller's; the instruction set is there.
            unsafe {
                match Level::best() {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512Bf16 => avx512_bf16($($argument),*),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => avx512($($argument),*),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => avx2($($argument),*),
                    _ => $generic::<Portable $($(, $kind)*)?>($($argument),*),
                }
            }
        }
    };
}
pub(crate) use kernel;

/// What a vector of one instruction set can do. Every method but [`Simd::transpose`] is a handful of instructions once it is inlined
/// into a function that is compiled for that instruction set.
pub(crate) trait Simd: Copy {
    /// Values in a vector.
    const LANES: usize;
    /// Vectors side by side in a register tile of six rows.
    const PANEL: usize;
    /// What values in bfloat16 are multiplied as.
    type Bfloat16: Operand<Self>;

    /// # Safety
    /// The instruction set is there, and `LANES` values can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// The instruction set is there, and `LANES` values can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// As [`Self::load`], of bfloat16.
    ///
    /// # Safety
    /// As [`Self::load`].
    unsafe fn load_bfloat16(from: *const u16) -> Self;
    /// As [`Self::store`], rounded to bfloat16: to nearest, ties to even.
    ///
    /// # Safety
    /// As [`Self::store`].
    unsafe fn store_bfloat16(self, to: *mut u16);
    /// # Safety
    /// The instruction set is there; so for all below.
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// The larger one; `other` where one of them is no number.
    unsafe fn max(self, other: Self) -> Self;
    /// `self · factor + term`.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The nearest whole number.
    unsafe fn round(self) -> Self;
    /// `2^self` of whole numbers from −126 to 127.
    unsafe fn exp2_of_whole(self) -> Self;
    /// The sum of its values.
    unsafe fn sum(self) -> f32;
    /// Transposes a square of as many rows as a vector has values, between rows of these lengths; no bit of them changes.
    ///
    /// # Safety
    /// The instruction set is there, and `LANES` values can be read at each row, and written at each.
    #[inline(always)]
    unsafe fn transpose((from, from_row): (*const u32, usize), (to, to_row): (*mut u32, usize)) {
        for j in 0..Self::LANES {
            for i in 0..Self::LANES {
                // SAFETY: the caller's.
                unsafe { *to.add(j * to_row + i) = *from.add(i * from_row + j) };
            }
        }
    }
}

/// Returns `e^x` of values up to 0, within two units in the last place; 2⁻¹²⁶ for those below −87.3.
///
/// # Safety
/// As [`Simd::splat`].
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S) -> S {
    // e^x = 2^n · e^r with |r| ≤ ln 2 / 2; ln 2 in two parts, so that r is exact.
    const COEFFICIENTS: [f32; 6] = [1. / 720., 1. / 120., 1. / 24., 1. / 6., 0.5, 1.];
    // SAFETY: the caller's.
    unsafe {
        let x = S::splat(-87.336_54).max(x); // In this order: what is no number stays none.
        let n = x.mul(S::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(S::splat(-0.693_359_4), x);
        let r = n.mul_add(S::splat(2.121_944_4e-4), r);
        let mut sum = S::splat(COEFFICIENTS[0]);
        for coefficient in &COEFFICIENTS[1..] {
            sum = sum.mul_add(r, S::splat(*coefficient));
        }
        sum.mul_add(r, S::splat(1.)).mul(n.exp2_of_whole())
    }
}

/// Returns `Σ a b`.
///
/// # Safety
/// As [`Simd::splat`].
#[inline(always)]
pub(crate) unsafe fn dot<S: Simd, A: Element, B: Element>(a: &[A], b: &[B]) -> f32 {
    let whole = a.len() - a.len() % S::LANES;
    assert!(b.len() == a.len(), "rows of one length");
    // SAFETY: the caller's; lengths were checked.
    let mut sum = unsafe {
        let mut sums = S::splat(0.);
        for j in (0..whole).step_by(S::LANES) {
            sums = A::load::<S>(a.as_ptr().add(j)).mul_add(B::load::<S>(b.as_ptr().add(j)), sums);
        }
        sums.sum()
    };
    for j in whole..a.len() {
        sum += a[j].value() * b[j].value();
    }
    sum
}

/// Asks for a line of the cache that is read soon, if it is there.
#[inline(always)]
pub(crate) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an instruction that every such processor has, and that reads nothing.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The widest vector of any instruction set.
pub(crate) const MAX_LANES: usize = 16;
