//! Products of few rows against those of libtorch, at each instruction set, odd sizes, both kinds.

use tch::{Device, Kind, Tensor};

use super::*;
use crate::simd::Level;

#[test]
fn products_are_those_of_libtorch() {
    Level::each(|level| {
        tch::manual_seed(1);
        let draw = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        for num_rows in [1, 2, 4, 5, 9, 16] {
            for (inputs, outputs) in [(1, 1), (3, 7), (16, 4), (67, 130), (300, 1029)] {
                for kind in [Kind::Float, Kind::BFloat16] {
                    let (x, weight) = (draw(&[num_rows, 1, inputs]), draw(&[outputs, inputs]).to_kind(kind));
                    let got = few_rows_product(&x, &weight);
                    assert_eq!(got.size(), [num_rows, 1, outputs]);
                    let expected = x.matmul(&weight.to_kind(Kind::Float).transpose(0, 1));
                    // The last digits of a sum of so many products.
                    let error = (got - expected).abs().max().double_value(&[]);
                    let bound = 1e-5 * (inputs as f64).sqrt();
                    assert!(error < bound, "{level:?}: {num_rows} x {inputs} x {outputs} {kind:?}: {error}");
                }
            }
        }
    });
}

/// Not of many rows, nor where a graph is recorded.
#[test]
fn where_it_does_not_pay() {
    let options = (Kind::Float, Device::Cpu);
    let (x, weight) = (Tensor::ones([2, 3], options), Tensor::ones([5, 3], options));
    assert!(is_product_of_few_rows(&x, &weight));
    assert!(!is_product_of_few_rows(&Tensor::ones([17, 3], options), &weight));
    assert!(!is_product_of_few_rows(&x.to_kind(Kind::BFloat16), &weight));
    let trained = weight.copy().set_requires_grad(true);
    assert!(!is_product_of_few_rows(&x, &trained));
    assert!(tch::no_grad(|| is_product_of_few_rows(&x, &trained)));
}

#[test]
#[should_panic(expected = "few_rows_product: widths of x and weight")]
fn widths_are_checked() {
    let options = (Kind::Float, Device::Cpu);
    let _ = few_rows_product(&Tensor::ones([2, 3], options), &Tensor::ones([5, 4], options));
}
