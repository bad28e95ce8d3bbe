//! Vectors of float32, one type for each instruction set, chosen when the program runs.

/// What a vector of one instruction set can do. Every method is a handful of instructions once it is inlined into a
/// function that is compiled for that instruction set.
pub(super) trait Simd: Copy {
    /// Values in a vector.
    const LANES: usize;
    /// Vectors side by side in a register tile of [`super::tile::ROWS`] rows.
    const PANEL: usize;

    /// # Safety
    /// The instruction set is there, and `LANES` values can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// The instruction set is there, and `LANES` values can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// The instruction set is there; so for all below.
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// `self · factor + term`.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The nearest whole number.
    unsafe fn round(self) -> Self;
    /// `2^self` of whole numbers from −126 to 127.
    unsafe fn exp2_of_whole(self) -> Self;
}

/// Returns `e^x` of values up to 0, within two units in the last place; 2⁻¹²⁶ for those below −87.3.
///
/// # Safety
/// As [`Simd::splat`].
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S) -> S {
    // e^x = 2^n · e^r with |r| ≤ ln 2 / 2; ln 2 in two parts, so that r is exact.
    const COEFFICIENTS: [f32; 6] = [1. / 720., 1. / 120., 1. / 24., 1. / 6., 0.5, 1.];
    // SAFETY: the caller's.
    unsafe {
        let x = x.max(S::splat(-87.336_54));
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

/// Any processor: the compiler makes of it what it can.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable([f32; 4]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

impl Simd for Portable {
    const LANES: usize = 4;
    const PANEL: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, f32::max)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // Not `f32::mul_add`, which is a call where the processor has no such instruction.
        self.zip(factor, |a, b| a * b).zip(term, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }
    #[inline(always)]
    unsafe fn exp2_of_whole(self) -> Self {
        Self(self.0.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23)))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd;

    /// Implements [`Simd`] by one instruction for each method.
    macro_rules! simd {
        ($name:ident($vector:ty), $lanes:literal, $panel:literal, $load:ident, $store:ident, $splat:ident, $add:ident,
         $mul:ident, $max:ident, $fma:ident, $round:expr, $exp2:expr) => {
            /// Vector of one instruction set.
            #[derive(Debug, Clone, Copy)]
            pub(in crate::attention) struct $name($vector);

            // SAFETY of all methods: the caller's.
            impl Simd for $name {
                const LANES: usize = $lanes;
                const PANEL: usize = $panel;

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    Self(unsafe { $load(from) })
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    unsafe { $store(to, self.0) }
                }
                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    Self(unsafe { $splat(value) })
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    Self(unsafe { $add(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn mul(self, other: Self) -> Self {
                    Self(unsafe { $mul(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn max(self, other: Self) -> Self {
                    Self(unsafe { $max(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
                    Self(unsafe { $fma(self.0, factor.0, term.0) })
                }
                #[inline(always)]
                unsafe fn round(self) -> Self {
                    Self(unsafe { $round(self.0) })
                }
                #[inline(always)]
                unsafe fn exp2_of_whole(self) -> Self {
                    Self(unsafe { $exp2(self.0) })
                }
            }
        };
    }

    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

    simd!(
        Avx512(__m512),
        16,
        4,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_mul_ps,
        _mm512_max_ps,
        _mm512_fmadd_ps,
        _mm512_roundscale_ps::<NEAREST>,
        |n| _mm512_scalef_ps(_mm512_set1_ps(1.), n)
    );
    simd!(
        Avx2(__m256),
        8,
        2,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_add_ps,
        _mm256_mul_ps,
        _mm256_max_ps,
        _mm256_fmadd_ps,
        _mm256_round_ps::<NEAREST>,
        |n| {
            let bits = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits))
        }
    );
}
