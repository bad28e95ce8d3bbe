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
    assert!(!is_product_of_few_rows(&x, &weight), "only where it is asked for");
    prefer_few_rows(|| {
        assert!(is_product_of_few_rows(&x, &weight));
        assert!(!is_product_of_few_rows(&Tensor::ones([17, 3], options), &weight));
        assert!(!is_product_of_few_rows(&x.to_kind(Kind::BFloat16), &weight));
        let trained = weight.copy().set_requires_grad(true);
        assert!(!is_product_of_few_rows(&x, &trained));
        assert!(tch::no_grad(|| is_product_of_few_rows(&x, &trained)));
    });
    assert!(!is_product_of_few_rows(&x, &weight));
}

#[test]
#[should_panic(expected = "few_rows_product: widths of x and weight")]
fn widths_are_checked() {
    let options = (Kind::Float, Device::Cpu);
    let _ = few_rows_product(&Tensor::ones([2, 3], options), &Tensor::ones([5, 4], options));
}

/// Each row against the formula, of keys and values in both kinds, with strides, rows that see few keys or none.
#[test]
fn rows_read_what_the_formula_says() {
    Level::each(|level| {
        tch::manual_seed(2);
        let draw = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        for (len, width, kind) in
            [(1, 3, Kind::Float), (9, 20, Kind::BFloat16), (70, 64, Kind::Float), (33, 83, Kind::BFloat16)]
        {
            let (queries, temperature, bias) = (draw(&[4, 2, 1, width]), draw(&[2]), draw(&[2, len + 5]));
            // Heads side by side, as a layer makes them.
            let heads = || draw(&[1, len, 2, width]).transpose(1, 2).to_kind(kind);
            let stored: Vec<[Tensor; 2]> = (0..4).map(|_| [heads(), heads()]).collect();
            let seen = [len, 0, 1.min(len), len / 2];
            let row = |(i, [keys, values]): (usize, &[Tensor; 2])| {
                (keys.shallow_clone(), values.shallow_clone(), seen[i], i as i64)
            };
            let stored: Vec<_> = stored.iter().enumerate().map(row).collect();
            let rows: Vec<RowKeys> = stored
                .iter()
                .map(|(keys, values, num_seen, start)| RowKeys {
                    keys,
                    values,
                    num_seen: *num_seen,
                    bias: Some((&bias, *start)),
                })
                .collect();
            let got = row_attention(&queries, Some(&temperature), &rows);
            for (i, row) in rows.iter().enumerate() {
                let read = |x: &Tensor| x.narrow(2, 0, row.num_seen).to_kind(Kind::Float);
                let query = queries.narrow(0, i as i64, 1) * temperature.view([-1, 1, 1]);
                let logits = query.matmul(&read(row.keys).transpose(-2, -1));
                let logits = logits + bias.narrow(1, i as i64, row.num_seen).unsqueeze(1);
                let expected = logits.softmax(-1, Kind::Float).matmul(&read(row.values));
                let error = (got.narrow(0, i as i64, 1) - expected).abs().max().double_value(&[]);
                assert!(error < 2e-5, "{level:?}: {len} keys of {width} {kind:?}, row {i}: {error}");
            }
        }
    });
}

#[test]
#[should_panic(expected = "row_attention: expected a query for each row")]
fn rows_are_counted() {
    let _ = row_attention(&Tensor::ones([2, 1, 1, 4], (Kind::Float, Device::Cpu)), None, &[]);
}
