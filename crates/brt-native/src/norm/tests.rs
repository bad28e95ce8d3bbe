//! Norms against their formula in float64.

use super::*;
use crate::{in_bfloat16, simd::Level};

/// Float32 rounding of sums over a row, of the largest value.
const ROUNDING: f64 = 2e-6;
/// A rounding to bfloat16, or two.
const BFLOAT16_ROUNDING: f64 = 8e-3;

/// Values and gradients against the formula in float64.
fn check(shape: &[i64], update_kind: Option<Kind>, is_bfloat16: bool) {
    tch::manual_seed(1);
    let options = (Kind::Float, Device::Cpu);
    let draw = |kind| Tensor::randn(shape, options).to_kind(kind).set_requires_grad(true);
    let mut inputs = vec![draw(Kind::Float)];
    inputs.extend(update_kind.map(draw));
    inputs.push(Tensor::randn([shape[shape.len() - 1]], options).set_requires_grad(true));
    let exact: Vec<_> =
        inputs.iter().map(|x| x.detach().to_kind(Kind::Double).set_requires_grad(true)).collect();
    let eps = 1e-2;
    let fused = || match update_kind {
        None => vec![rms_norm(&inputs[0], &inputs[1], eps)],
        Some(_) => add_rms_norm(&inputs[0], &inputs[1], &inputs[2], eps).into(),
    };
    let got = if is_bfloat16 { in_bfloat16(&inputs[0], fused) } else { fused() };
    let sum = if update_kind.is_some() { &exact[0] + &exact[1] } else { exact[0].shallow_clone() };
    let y = composed(&sum, exact.last().expect("a weight"), eps);
    let wanted = if update_kind.is_some() { vec![sum, y] } else { vec![y] };
    let gradients: Vec<_> = got.iter().map(|x| Tensor::randn(shape, options).to_kind(x.kind())).collect();
    let total = |outputs: &[Tensor], kind: Kind| {
        let parts = outputs.iter().zip(&gradients).map(|(y, g)| (y * g.to_kind(kind)).sum(kind));
        parts.reduce(|a, b| a + b).expect("an output")
    };
    total(&got, Kind::Float).backward();
    total(&wanted, Kind::Double).backward();
    let rounding =
        if is_bfloat16 || update_kind == Some(Kind::BFloat16) { BFLOAT16_ROUNDING } else { ROUNDING };
    let pairs = got.iter().map(Tensor::shallow_clone).zip(wanted);
    let pairs = pairs.chain(inputs.iter().map(Tensor::grad).zip(exact.iter().map(Tensor::grad)));
    for (idx, (got, wanted)) in pairs.enumerate() {
        let error = (&got - &wanted).abs().max().double_value(&[]);
        let size = wanted.abs().max().double_value(&[]);
        assert!(error <= rounding * size.max(1.), "{shape:?} {update_kind:?} {idx}: error {error} of {size}");
    }
}

#[test]
fn norms_equal_their_formula() {
    Level::each(|_| {
        for shape in [vec![1, 1], vec![3, 7], vec![2, 5, 63], vec![700, 129]] {
            for update_kind in [None, Some(Kind::Float), Some(Kind::BFloat16)] {
                check(&shape, update_kind, false);
                check(&shape, update_kind, true);
            }
        }
    });
}

/// The sum alone may be used, or the norm alone.
#[test]
fn outputs_without_gradient() {
    let x = Tensor::ones([2, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let weight = Tensor::ones([4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let [sum, _] = add_rms_norm(&x, &x.detach(), &weight, 0.);
    (sum * 3.).sum(Kind::Float).backward();
    assert_eq!(x.grad(), x.full_like(3.));
    assert!(!weight.grad().defined());
    let [_, y] = add_rms_norm(&x, &x.detach(), &weight, 0.);
    y.sum(Kind::Float).backward();
    assert_eq!(weight.grad(), weight.full_like(2.));
}

/// Other kinds than the kernels' are composed, and equal them.
#[test]
fn float64_is_composed() {
    let x = Tensor::from_slice(&[3f64, 4.]);
    let y = rms_norm(&x, &Tensor::from_slice(&[1f64, 2.]), 0.);
    assert!((y.double_value(&[1]) - 8. / 12.5f64.sqrt()).abs() < 1e-12);
}
