//! Rounding, exponentials and squares at each level.

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
    unsafe fn transposed(from: &[f32], to: &mut [f32], side: &mut usize) = transposed_by
}

#[inline(always)]
unsafe fn transposed_by<S: Simd>(from: &[f32], to: &mut [f32], side: &mut usize) {
    *side = S::LANES;
    unsafe { S::transpose((from.as_ptr(), ROW), (to.as_mut_ptr(), ROW + 1)) };
}

/// Longer than a square of any level.
const ROW: usize = 19;

#[test]
fn squares_are_transposed() {
    Level::each(|level| {
        let from: Vec<f32> = (0..MAX_LANES * ROW).map(|i| i as f32).collect();
        let (mut to, mut side) = (vec![-1.; MAX_LANES * (ROW + 1)], 0);
        unsafe { transposed(&from, &mut to, &mut side) };
        for (at, got) in to.into_iter().enumerate() {
            let (i, j) = (at / (ROW + 1), at % (ROW + 1));
            let expected = if i < side && j < side { from[j * ROW + i] } else { -1. };
            assert_eq!(got, expected, "{level:?}: row {i}, column {j}");
        }
    });
}
