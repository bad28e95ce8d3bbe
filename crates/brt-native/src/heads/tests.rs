//! Heads against their formula in float64.

use super::*;
use crate::simd::Level;

/// Float32 rounding of sums over a head.
const ROUNDING: f64 = 1e-6;
/// Two roundings to bfloat16: of the heads, and of the gradient that is computed from them.
const BFLOAT16_ROUNDING: f64 = 2e-2;

fn check(size: &[i64], shape: [i64; 2], kind: Kind) {
    tch::manual_seed(1);
    let parts = [HeadNorm::Unit, HeadNorm::None, HeadNorm::Unit];
    let options = (Kind::Float, Device::Cpu);
    let mut full = size.to_vec();
    full.push(3 * shape[0] * shape[1]);
    let x = Tensor::randn(&full, options).to_kind(kind).set_requires_grad(true);
    let exact = x.detach().to_kind(Kind::Double).set_requires_grad(true);
    let (got, wanted) = (split_heads(&x, parts, shape, 1e-2), composed(&exact, &parts, shape, 1e-2));
    let gradients: Vec<_> = got.iter().map(|y| Tensor::randn(y.size(), options).to_kind(kind)).collect();
    // The last output gets no gradient.
    let total = |outputs: &[Tensor]| {
        let parts = outputs.iter().zip(&gradients).take(2).map(|(y, g)| (y * g).sum(Kind::Double));
        parts.reduce(|a, b| a + b).expect("an output")
    };
    total(&got).backward();
    total(&wanted).backward();
    let rounding = if kind == Kind::Float { ROUNDING } else { BFLOAT16_ROUNDING };
    let pairs = got.into_iter().zip(wanted).chain([(x.grad(), exact.grad())]);
    for (idx, (got, wanted)) in pairs.enumerate() {
        assert_eq!(got.kind(), kind);
        let error = (&got - &wanted).abs().max().double_value(&[]);
        let size = wanted.abs().max().double_value(&[]);
        assert!(error <= rounding * size.max(1.), "{full:?} {shape:?} {idx}: error {error} of {size}");
    }
}

#[test]
fn heads_equal_their_formula() {
    Level::each(|_| {
        for (size, shape) in [(vec![1], [1, 1]), (vec![3, 5], [2, 7]), (vec![2, 1, 40], [3, 33])] {
            check(&size, shape, Kind::Float);
            check(&size, shape, Kind::BFloat16);
        }
    });
}
