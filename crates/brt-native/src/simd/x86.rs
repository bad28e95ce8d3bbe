//! Vectors of x86-64: AVX2 with FMA, AVX-512, and AVX-512 with products in bfloat16.

use std::arch::x86_64::*;

use super::{Element, Operand, Pair, Simd, Word, bits};

/// Implements [`Simd`] by one instruction or function for each method.
macro_rules! simd {
    ($name:ident($vector:ty), $bfloat16:ty, $lanes:literal, $panel:literal, $load:ident, $store:ident, $splat:ident, $add:ident,
     $mul:ident, $max:ident, $fma:ident, $round:expr, $exp2:expr, $sum:expr, $load_bfloat16:ident, $store_bfloat16:ident $(, $transpose:ident)?) => {
        /// Vector of one instruction set.
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name($vector);

        // SAFETY of all methods: the caller's.
        impl Simd for $name {
            const LANES: usize = $lanes;
            const PANEL: usize = $panel;
            type Bfloat16 = $bfloat16;

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
            #[inline(always)]
            unsafe fn sum(self) -> f32 {
                unsafe { $sum(self.0) }
            }
            $(#[inline(always)]
            unsafe fn transpose(from: (*const u32, usize), to: (*mut u32, usize)) {
                unsafe { $transpose(from, to) }
            })?
        }
    };
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// AVX-512, and what it multiplies bfloat16 as.
macro_rules! avx512 {
    ($name:ident, $bfloat16:ty) => {
        simd!(
            $name(__m512),
            $bfloat16,
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
            _mm512_reduce_add_ps,
            load_bfloat16_512,
            store_bfloat16_512,
            transpose_512
        );
    };
}

avx512!(Avx512, f32);
avx512!(Avx512Bf16, Pair);
simd!(
    Avx2(__m256),
    f32,
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
    sum_256,
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

#[target_feature(enable = "avx2")]
#[inline]
fn sum_256(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
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

/// Transposes a square of 16 rows: makes pairs of rows, of these fours, of these whole columns.
///
/// # Safety
/// The processor has AVX-512, and 16 values can be read and written at each of 16 rows.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn transpose_512((from, from_row): (*const u32, usize), (to, to_row): (*mut u32, usize)) {
    let mut pairs = [_mm512_setzero_si512(); 16];
    for i in (0..16).step_by(2) {
        // SAFETY: the caller's.
        let (first, second) = unsafe {
            (
                _mm512_loadu_si512(from.add(i * from_row).cast()),
                _mm512_loadu_si512(from.add((i + 1) * from_row).cast()),
            )
        };
        pairs[i] = _mm512_unpacklo_epi32(first, second);
        pairs[i + 1] = _mm512_unpackhi_epi32(first, second);
    }
    let mut fours = [_mm512_setzero_si512(); 16]; // In quarter q of i + j: column 4q + j of rows i to i + 3.
    for i in (0..16).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for j in 0..4 {
        let low = _mm512_shuffle_i32x4::<0b01_00_01_00>(fours[j], fours[4 + j]);
        let low_below = _mm512_shuffle_i32x4::<0b01_00_01_00>(fours[8 + j], fours[12 + j]);
        let high = _mm512_shuffle_i32x4::<0b11_10_11_10>(fours[j], fours[4 + j]);
        let high_below = _mm512_shuffle_i32x4::<0b11_10_11_10>(fours[8 + j], fours[12 + j]);
        let columns = [
            _mm512_shuffle_i32x4::<0b10_00_10_00>(low, low_below),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(low, low_below),
            _mm512_shuffle_i32x4::<0b10_00_10_00>(high, high_below),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(high, high_below),
        ];
        for (q, column) in columns.into_iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { _mm512_storeu_si512(to.add((4 * q + j) * to_row).cast(), column) };
        }
    }
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

impl Operand<Avx512Bf16> for Pair {
    #[inline(always)]
    unsafe fn of_row<E: Element>(row: &[E], to: &mut [Self]) {
        let to = &mut Self::values_mut(to)[..row.len()];
        if let Some(bits) = bits(row) {
            return to.copy_from_slice(bits);
        }
        let whole = row.len() - row.len() % 16;
        for j in (0..whole).step_by(16) {
            // SAFETY: the caller's; lengths were checked.
            unsafe {
                let vector = E::load::<Avx512Bf16>(row.as_ptr().add(j));
                to.as_mut_ptr().add(j).cast::<__m256bh>().write_unaligned(_mm512_cvtneps_pbh(vector.0));
            }
        }
        for (to, value) in to[whole..].iter_mut().zip(&row[whole..]) {
            *to = u16::of(value.value());
        }
    }
    #[inline(always)]
    unsafe fn across([first, second]: [&[Self]; 2], to: &mut [Self]) {
        let (first, second, len) = (Self::values(first), Self::values(second), to.len());
        assert!(
            first.len() == len && second.len() == len && len.is_multiple_of(16),
            "whole vectors of pairs of two rows"
        );
        for j in (0..len).step_by(16) {
            // SAFETY: the caller's; lengths were checked.
            unsafe {
                let pairs = interleave(first.as_ptr().add(j), second.as_ptr().add(j));
                _mm512_storeu_si512(to.as_mut_ptr().add(j).cast(), pairs);
            }
        }
    }
    #[inline(always)]
    unsafe fn splat(self) -> Avx512Bf16 {
        // SAFETY: the caller's.
        unsafe { Avx512Bf16(_mm512_castsi512_ps(_mm512_set1_epi32(self.bits().cast_signed()))) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: Avx512Bf16, b: Avx512Bf16, sum: Avx512Bf16) -> Avx512Bf16 {
        // SAFETY: the caller's; vectors of one size, of which all bits are values.
        unsafe {
            let a = std::mem::transmute::<__m512, __m512bh>(a.0);
            let b = std::mem::transmute::<__m512, __m512bh>(b.0);
            Avx512Bf16(_mm512_dpbf16_ps(sum.0, a, b))
        }
    }
}

/// Returns 16 pairs: a value of the first row, and one of the second.
///
/// # Safety
/// The processor has AVX-512, and 16 values can be read at either.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn interleave(first: *const u16, second: *const u16) -> __m512i {
    // SAFETY: the caller's.
    let (first, second) = unsafe { (_mm256_loadu_si256(first.cast()), _mm256_loadu_si256(second.cast())) };
    _mm512_or_si512(_mm512_cvtepu16_epi32(first), _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(second)))
}
