//! Rounding, exponentials, transposed squares and operands at each level.

use tch::{Kind, Tensor};

use super::*;

const VALUES: [f32; 16] = [
    0.,
    -0.,
    1.,
    -1.004,
    2.65,
    1e-30,
    65504.5,
    f32::INFINITY,
    1.003_906_2,
    1.011_718_8,
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

/// What is no number stays none.
#[test]
fn exponentials_of_nan() {
    Level::each(|level| {
        let mut values = [f32::NAN; 16];
        unsafe { exponentials(&mut values) };
        assert!(values.iter().all(|x| x.is_nan()), "{level:?}: {values:?}");
    });
}

kernel! {
    unsafe fn transposed(from: &[u32], to: &mut [u32], side: &mut usize) = transposed_by
}

#[inline(always)]
unsafe fn transposed_by<S: Simd>(from: &[u32], to: &mut [u32], side: &mut usize) {
    *side = S::LANES;
    unsafe { S::transpose((from.as_ptr(), ROW), (to.as_mut_ptr(), ROW + 1)) };
}

/// Longer than a square of any level.
const ROW: usize = 19;

/// No bit changes, not even of what is no number.
#[test]
fn squares_are_transposed() {
    Level::each(|level| {
        let from: Vec<u32> = (0..MAX_LANES * ROW).map(|i| 0x7f80_0001 + 0x10_0001 * i as u32).collect();
        let (mut to, mut side) = (vec![0; MAX_LANES * (ROW + 1)], 0);
        unsafe { transposed(&from, &mut to, &mut side) };
        for (at, got) in to.into_iter().enumerate() {
            let (i, j) = (at / (ROW + 1), at % (ROW + 1));
            let expected = if i < side && j < side { from[j * ROW + i] } else { 0 };
            assert_eq!(got, expected, "{level:?}: row {i}, column {j}");
        }
    });
}

kernel! {
    unsafe fn operands<E: Element>(row: &[E], along: &mut [Pair], values: &mut usize) = operands_by
}

#[inline(always)]
unsafe fn operands_by<S: Simd, E: Element>(row: &[E], along: &mut [Pair], values: &mut usize) {
    *values = S::Bfloat16::VALUES;
    // SAFETY: all operands are four bytes of which every pattern is valid.
    unsafe { S::Bfloat16::of_row(row, words(along)) };
}

kernel! {
    unsafe fn operands_across(rows: [&mut [Pair]; 2], to: &mut [Pair]) = operands_across_by
}

#[inline(always)]
unsafe fn operands_across_by<S: Simd>([first, second]: [&mut [Pair]; 2], to: &mut [Pair]) {
    // SAFETY: as above.
    unsafe { S::Bfloat16::across([words(first), words(second)], words(to)) };
}

unsafe fn words<T: Word>(pairs: &mut [Pair]) -> &mut [T] {
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts_mut(pairs.as_mut_ptr().cast(), pairs.len()) }
}

const NUM: usize = 48;

/// Bits of bfloat16 stay; float32 is rounded; behind the end of the row nothing is written.
#[test]
fn rows_become_operands() {
    const BEHIND: u16 = 0x1234;
    let floats: Vec<f32> = VALUES.into_iter().cycle().take(NUM).collect();
    let halves: Vec<u16> = floats.iter().map(|value| to_bfloat16(*value)).collect();
    Level::each(|level| {
        for len in [1, 15, 16, 33, NUM] {
            let mut values = 0;
            let mut of = |row: Result<&[f32], &[u16]>| {
                let mut made = [Pair::of([BEHIND; 2]); NUM];
                match row {
                    Ok(row) => unsafe { operands::<f32>(row, &mut made, &mut values) },
                    Err(row) => unsafe { operands::<u16>(row, &mut made, &mut values) },
                }
                made
            };
            let (of_floats, of_halves) = (of(Ok(&floats[..len])), of(Err(&halves[..len])));
            if values == 1 {
                continue; // They are float32.
            }
            let (of_floats, of_halves) = (Pair::values(&of_floats), Pair::values(&of_halves));
            assert_eq!(of_halves[..len], halves[..len], "{level:?}: bits of {len}");
            for row in [of_floats, of_halves] {
                assert!(row[len..].iter().all(|half| *half == BEHIND), "{level:?}: behind {len}");
            }
            for (got, expected) in of_floats.iter().zip(&halves[..len]) {
                // The processor takes numbers below the normal ones for zeros.
                let is_small = |half: u16| of_bfloat16(half).abs() < f32::MIN_POSITIVE;
                let is_same = got == expected || (is_small(*got) && is_small(*expected));
                assert!(is_same, "{level:?}: {got:x} for {expected:x}");
            }
        }
    });
}

#[test]
fn operands_across_two_rows() {
    let row =
        |start: u16| (0..NUM as u16 / 2).map(|i| Pair::of([start + 2 * i, start + 2 * i + 1])).collect();
    Level::each(|level| {
        if matches!(level, Level::Avx2 | Level::Avx512) {
            return; // Their operands are values.
        }
        let (mut first, mut second): (Vec<Pair>, Vec<Pair>) = (row(100), row(0xff00));
        let mut across = [Pair::of([0; 2]); NUM];
        unsafe { operands_across([&mut first, &mut second], &mut across) };
        for (j, pair) in Pair::values(&across).chunks(2).enumerate() {
            assert_eq!(pair, [100 + j as u16, 0xff00 + j as u16], "{level:?}");
        }
    });
}
