//! Vectors of float32, one type for each instruction set, chosen when the program runs.
//!
//! A kernel is a generic function, inlined whole into one function for each instruction set ([`kernel!`]). Closures are
//! functions of their own without the instruction set: hot loops must not have any.

use std::sync::atomic::{AtomicU8, Ordering};

/// Instruction sets, the slower ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    Portable,
    Avx2,
    Avx512,
}

/// The best level that may be used: a test lowers it.
static ALLOWED: AtomicU8 = AtomicU8::new(Level::Avx512 as u8);

impl Level {
    /// Returns the best instruction set of this processor.
    pub(crate) fn best() -> Self {
        let allowed = ALLOWED.load(Ordering::Relaxed);
        #[cfg(target_arch = "x86_64")]
        {
            if allowed >= Self::Avx512 as u8 && is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if allowed >= Self::Avx2 as u8
                && is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
            {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Runs `work` at each level that this processor has.
    #[cfg(test)]
    pub(crate) fn each(work: impl Fn(Self)) {
        let best = Self::best();
        for level in [Self::Portable, Self::Avx2, Self::Avx512].into_iter().filter(|level| *level <= best) {
            ALLOWED.store(level as u8, Ordering::Relaxed);
            work(level);
        }
        ALLOWED.store(Self::Avx512 as u8, Ordering::Relaxed);
    }
}

/// Defines `fn name(arguments)` that calls the generic function behind the `=` for the best instruction set.
macro_rules! kernel {
    ($(#[$attribute:meta])*
     unsafe fn $name:ident $(<$($kind:ident: Element),*>)? ($($argument:ident: $type:ty),* $(,)?) = $generic:ident) => {
        $(#[$attribute])*
        unsafe fn $name $(<$($kind: Element),*>)? ($($argument: $type),*) {
            use $crate::simd::{Level, Portable};
            #[cfg(target_arch = "x86_64")]
            use $crate::simd::{Avx2, Avx512};

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

/// What a vector of one instruction set can do. Every method is a handful of instructions once it is inlined into a
/// function that is compiled for that instruction set.
pub(crate) trait Simd: Copy {
    /// Values in a vector.
    const LANES: usize;
    /// Vectors side by side in a register tile of six rows.
    const PANEL: usize;

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
pub(crate) unsafe fn exp<S: Simd>(x: S) -> S {
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

/// Returns the sum of the values of a vector.
///
/// # Safety
/// As [`Simd::splat`].
#[inline(always)]
pub(crate) unsafe fn sum_lanes<S: Simd>(vector: S) -> f32 {
    let mut values = [0.; MAX_LANES];
    // SAFETY: the caller's; no vector is longer.
    unsafe { vector.store(values.as_mut_ptr()) };
    values[..S::LANES].iter().sum()
}

/// The widest vector of any instruction set.
pub(crate) const MAX_LANES: usize = 16;

/// Returns a bfloat16 as float32.
#[inline(always)]
pub(crate) fn of_bfloat16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Rounds to bfloat16: to nearest, ties to even.
#[inline(always)]
pub(crate) fn to_bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    if value.is_nan() { 0x7fc0 } else { (rounded >> 16) as u16 }
}

/// A kind of number in memory.
pub(crate) trait Element: Copy + Send + Sync {
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

impl Element for f32 {
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

/// Bits of a bfloat16.
impl Element for u16 {
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

/// Any processor: the compiler makes of it what it can.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable([f32; 4]);

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
    unsafe fn load_bfloat16(from: *const u16) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<[u16; 4]>().read_unaligned() }.map(of_bfloat16))
    }
    #[inline(always)]
    unsafe fn store_bfloat16(self, to: *mut u16) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[u16; 4]>().write_unaligned(self.0.map(to_bfloat16)) }
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
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd;

    /// Implements [`Simd`] by one instruction for each method.
    macro_rules! simd {
        ($name:ident($vector:ty), $lanes:literal, $panel:literal, $load:ident, $store:ident, $splat:ident, $add:ident,
         $mul:ident, $max:ident, $fma:ident, $round:expr, $exp2:expr, $load_bfloat16:ident, $store_bfloat16:ident) => {
            /// Vector of one instruction set.
            #[derive(Debug, Clone, Copy)]
            pub(crate) struct $name($vector);

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
                unsafe fn load_bfloat16(from: *const u16) -> Self {
                    Self(unsafe { $load_bfloat16(from) })
                }
                #[inline(always)]
                unsafe fn store_bfloat16(self, to: *mut u16) {
                    unsafe { $store_bfloat16(self.0, to) }
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
        exp2_512,
        load_bfloat16_512,
        store_bfloat16_512
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
        exp2_256,
        load_bfloat16_256,
        store_bfloat16_256
    );

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn exp2_512(n: __m512) -> __m512 {
        _mm512_scalef_ps(_mm512_set1_ps(1.), n)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn exp2_256(n: __m256) -> __m256 {
        let bits = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits))
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn load_bfloat16_512(from: *const u16) -> __m512 {
        // SAFETY: the caller's.
        let bits = unsafe { _mm256_loadu_si256(from.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn store_bfloat16_512(x: __m512, to: *mut u16) {
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
        let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        let rounded = _mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32(0x7fc0_0000));
        let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
        // SAFETY: the caller's.
        unsafe { _mm256_storeu_si256(to.cast(), halves) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load_bfloat16_256(from: *const u16) -> __m256 {
        // SAFETY: the caller's.
        let bits = unsafe { _mm_loadu_si128(from.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn store_bfloat16_256(x: __m256, to: *mut u16) {
        let bits = _mm256_castps_si256(x);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
        let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        let rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0_0000), is_nan);
        let halves = _mm256_srli_epi32::<16>(rounded);
        let packed = _mm256_packus_epi32(halves, halves); // Each half of the register by itself.
        let packed = _mm256_permute4x64_epi64::<0b1000>(packed);
        // SAFETY: the caller's.
        unsafe { _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed)) }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};

    use super::*;

    const VALUES: [f32; 16] = [
        0.,
        -0.,
        1.,
        -1.004,
        3.14159,
        1e-30,
        65504.5,
        f32::INFINITY,
        1.00390625,
        1.01171875,
        f32::NAN,
        -1e30,
        0.1,
        -0.2,
        1e-40,
        3.3895e38,
    ];

    kernel! {
        unsafe fn round_trip(from: &[f32], halves: &mut [u16], back: &mut [f32]) = round_trip_by
    }

    #[inline(always)]
    unsafe fn round_trip_by<S: Simd>(from: &[f32], halves: &mut [u16], back: &mut [f32]) {
        for start in (0..from.len()).step_by(S::LANES) {
            unsafe {
                S::load(from.as_ptr().add(start)).store_bfloat16(halves.as_mut_ptr().add(start));
                S::load_bfloat16(halves.as_ptr().add(start)).store(back.as_mut_ptr().add(start));
            }
        }
    }

    kernel! {
        unsafe fn exponentials(values: &mut [f32]) = exponentials_by
    }

    #[inline(always)]
    unsafe fn exponentials_by<S: Simd>(values: &mut [f32]) {
        for start in (0..values.len()).step_by(S::LANES) {
            unsafe {
                let at = values.as_mut_ptr().add(start);
                exp(S::load(at)).store(at);
            }
        }
    }

    #[test]
    fn bfloat16_is_rounded_as_libtorch_does() {
        let expected = Tensor::from_slice(&VALUES).to_kind(Kind::BFloat16).to_kind(Kind::Float);
        let expected = Vec::<f32>::try_from(expected).expect("floats");
        let same = |got: &[f32]| got.iter().zip(&expected).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
        assert!(same(&VALUES.map(|value| of_bfloat16(to_bfloat16(value)))));
        Level::each(|level| {
            let (mut halves, mut back) = ([0; 16], [0.; 16]);
            unsafe { round_trip(&VALUES, &mut halves, &mut back) };
            assert!(same(&back), "{level:?}: {back:?}");
        });
    }

    #[test]
    fn exponentials_are_exact_to_two_units() {
        Level::each(|level| {
            let x: Vec<f32> = (0..16_000).map(|i| -87.3 * i as f32 / 16_000.).collect();
            let mut values = x.clone();
            unsafe { exponentials(&mut values) };
            for (x, got) in x.iter().zip(values) {
                let exact = f64::from(*x).exp();
                let error = (f64::from(got) - exact).abs() / exact;
                assert!(error < 2.4e-7, "{level:?}: e^{x}: error {error:e}");
            }
        });
    }
}
