use tch::{Device, Kind, Tensor};

use super::*;
use crate::{backward, in_bfloat16, tests::take_turn};

const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Largest error relative to the largest value, against products in float64.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let largest = expected.abs().max().double_value(&[]);
    (found.to_kind(Kind::Double) - expected).abs().max().double_value(&[]) / largest
}

/// Output and gradients of a product with a weight are those in float64, of any number of rows and axes, also where an
/// input or a gradient is not contiguous.
#[test]
fn linear_is_that_in_float64() {
    let _turn = take_turn();
    tch::manual_seed(1);
    let draw = |size: &[i64]| Tensor::randn(size, OPTIONS);
    let cases = [
        (draw(&[1, 3]), 1),
        // One row, one output, sums of one and two terms: `gemm` has kernels for these.
        (draw(&[1, 40]), 300),
        (draw(&[300, 40]), 1),
        (draw(&[2, 40]), 7),
        (draw(&[300, 1]), 4),
        (draw(&[300, 2]), 4),
        (draw(&[7]), 5),
        (draw(&[2, 3, 17]), 33),
        (draw(&[130, 64]), 97),
        (draw(&[4, 300]), 128),
        (draw(&[9, 5, 6]).transpose(0, 1), 4), // rows apart
        (draw(&[12, 40]).tr(), 7),             // columns
        (draw(&[1, 8]).expand([6, 8], false), 3),
        (draw(&[6, 16]).slice(1, 1, 15, 2), 3),
    ];
    for (x, num_outputs) in cases {
        let width = *x.size().last().unwrap();
        let (x, weight) = (x.set_requires_grad(true), draw(&[num_outputs, width]).set_requires_grad(true));
        let y = linear_by_gemm(&x, &weight);
        let wide = [&x, &weight].map(|t| t.detach().to_kind(Kind::Double).set_requires_grad(true));
        let expected = wide[0].linear::<Tensor>(&wide[1], None);
        assert_eq!(y.size(), expected.size());
        assert!(error(&y, &expected) < 1e-6);
        let dy = draw(&y.size());
        backward(&[&y], &[&dy]);
        backward(&[&expected], &[&dy.to_kind(Kind::Double)]);
        for (found, expected) in [&x, &weight].iter().zip(&wide) {
            assert!(error(&found.grad(), &expected.grad()) < 1e-6, "{x:?}, {num_outputs} outputs");
        }
        // A gradient that is one value everywhere, which has no memory of its own.
        let _ = x.grad().zero_();
        backward(&[&linear_by_gemm(&x, &weight)], &[&Tensor::ones([1], OPTIONS).expand_as(&y)]);
        assert!(
            error(&x.grad(), &wide[1].detach().sum_dim_intlist(0, false, Kind::Double).expand_as(&x)) < 1e-6
        );
    }
}

/// Only the gradients that are asked for are computed, and there is no graph without any.
#[test]
fn gradients_go_where_they_are_needed() {
    let _turn = take_turn();
    let (x, weight) = (Tensor::randn([3, 4], OPTIONS), Tensor::randn([5, 4], OPTIONS));
    assert!(!linear_by_gemm(&x, &weight).requires_grad());
    let learned = weight.copy().set_requires_grad(true);
    let y = linear_by_gemm(&x, &learned);
    backward(&[&y], &[&y.ones_like()]);
    assert!(learned.grad().defined() && !x.grad().defined());
    for needs in [[false, true], [true, false]] {
        let gradients = linear_backward(&y.ones_like(), &x, &weight, needs);
        assert_eq!(gradients.map(|g| g.is_some()), needs);
    }
    assert!(!tch::no_grad(|| linear_by_gemm(&x, &learned)).requires_grad());
}

/// The number of threads changes no bit, of products larger and smaller than what pays to be split.
#[test]
fn threads_change_nothing() {
    let _turn = take_turn();
    let num_threads = tch::get_num_threads();
    tch::manual_seed(1);
    for [m, k, n] in [[5, 8, 9], [300, 700, 257], [2, 5000, 64], [1024, 96, 33]] {
        let (a, b) = (Tensor::randn([m, k], OPTIONS), Tensor::randn([k, n], OPTIONS));
        let products = [1, 2, 3, 4].map(|threads| {
            tch::set_num_threads(threads);
            [product_by_gemm(&a, &b), product_by_gemm(&b.tr(), &a.tr())]
        });
        tch::set_num_threads(num_threads);
        for threads in &products[1..] {
            assert_eq!(threads, &products[0], "[{m}, {k}] · [{k}, {n}]");
        }
    }
}

/// Whatever libtorch alone can do stays libtorch's, and infinities and numbers that are none come through.
#[test]
fn other_products_are_libtorchs() {
    let _turn = take_turn();
    let x = Tensor::randn([3, 4], OPTIONS);
    assert!(can_multiply(&x, &x));
    assert!(!can_multiply(&x, &x.to_kind(Kind::Double)) && !can_multiply(&x.narrow(0, 0, 0), &x));
    assert!(!in_bfloat16(&x, || can_multiply(&x, &x)));
    assert_eq!(in_bfloat16(&x, || linear(&x, &x, None)).kind(), Kind::BFloat16);
    assert_eq!(linear(&x.narrow(0, 0, 0), &x, None).size(), [0, 3]);
    let bad = |value: f64| product_by_gemm(&x.full_like(value), &x.tr().ones_like());
    assert_eq!(bad(f64::INFINITY).isinf().all().int64_value(&[]), 1);
    assert_eq!(bad(f64::NAN).isnan().all().int64_value(&[]), 1);
}

/// Both libraries add the bias, and give its gradient.
#[test]
fn a_bias_is_added() {
    let _turn = take_turn();
    tch::manual_seed(1);
    let (x, weight) = (Tensor::randn([2, 3, 4], OPTIONS), Tensor::randn([5, 4], OPTIONS));
    for library in [ProductLibrary::Gemm, ProductLibrary::Libtorch] {
        let (weight, bias) =
            (weight.copy().set_requires_grad(true), Tensor::randn([5], OPTIONS).set_requires_grad(true));
        let y = linear_by(library, &x, &weight, Some(&bias));
        let expected =
            x.to_kind(Kind::Double).matmul(&weight.detach().to_kind(Kind::Double).tr()) + bias.detach();
        assert!(error(&y, &expected) < 1e-6, "{library:?}");
        backward(&[&y], &[&y.ones_like()]);
        assert_eq!(bias.grad(), bias.full_like(6.), "{library:?}");
        let sums = x.to_kind(Kind::Double).view([6, 4]).sum_dim_intlist(0, false, Kind::Double);
        assert!(error(&weight.grad(), &sums.expand([5, 4], false)) < 1e-6, "{library:?}");
    }
}

/// What was in the memory of the result does not matter, by each of the kernels of `gemm`.
#[test]
fn results_are_written_over_what_was_there() {
    let _turn = take_turn();
    for [m, k, n] in
        [[1, 40, 300], [300, 40, 1], [300, 1, 4], [300, 2, 4], [5, 9, 7], [80, 1100, 90], [700, 64, 512]]
    {
        let (a, b) = (Tensor::randn([m, k], OPTIONS), Tensor::randn([k, n], OPTIONS));
        for (a, b) in [(a.shallow_clone(), b.shallow_clone()), (b.tr(), a.tr())] {
            let out = Tensor::full([a.size()[0], b.size()[1]], f64::NAN, OPTIONS);
            write_product(&a, &b, &out);
            assert_eq!(out, product_by_gemm(&a, &b), "[{m}, {k}] · [{k}, {n}]");
        }
    }
}

#[test]
#[should_panic(expected = "x: expected rows of 4 values, got [2, 3]")]
fn widths_that_differ_are_refused() {
    let _ = linear(&Tensor::ones([2, 3], OPTIONS), &Tensor::ones([2, 4], OPTIONS), None);
}

#[test]
#[should_panic(expected = "bias: expected [2], got [1, 2]")]
fn a_bias_of_another_length_is_refused() {
    let [x, bias] = [[2, 3], [1, 2]].map(|size| Tensor::ones(size, OPTIONS));
    let _ = linear(&x, &x, Some(&bias));
}

#[test]
#[should_panic(expected = "without gradients")]
fn a_product_that_wants_a_gradient_is_refused() {
    let x = Tensor::ones([2, 2], OPTIONS).set_requires_grad(true);
    let _ = product(&x, &x);
}

/// What comes out may be written over, as an activation function does.
#[test]
fn the_output_may_be_written_over() {
    let _turn = take_turn();
    let weight = Tensor::ones([1, 2], OPTIONS).set_requires_grad(true);
    let x = Tensor::from_slice(&[1f32, 2., -3., -4.]).view([2, 1, 2]);
    let y = linear_by_gemm(&x, &weight).relu_();
    backward(&[&y], &[&y.ones_like()]);
    assert_eq!(weight.grad(), Tensor::from_slice(&[1f32, 2.]).view([1, 2]));
}
