//! The three passes against their formulas.

use super::*;
use crate::simd::Level;

fn close(got: &Tensor, wanted: &Tensor) -> bool {
    let error = (got - wanted).abs().max().double_value(&[]);
    error <= 2e-6 * wanted.abs().max().double_value(&[]).max(1e-3)
}

/// All three passes against their formulas in float64.
#[test]
fn passes_equal_their_formulas() {
    Level::each(|_| {
        for size in [[1, 1], [3, 17], [130, 129], [700, 260]] {
            tch::manual_seed(1);
            let draw = || Tensor::randn(size, (Kind::Float, Device::Cpu));
            let (g, p, momentum) = (draw(), draw(), draw());
            let wide = |x: &Tensor| x.to_kind(Kind::Double);
            let [by_row, by_column] = mean_squares(&g, 0.5);
            let squares = wide(&g).square() + 0.5;
            assert!(close(&by_row, &squares.mean_dim(1, false, Kind::Double)));
            assert!(close(&by_column, &squares.mean_dim(0, false, Kind::Double)));

            let factors = [&by_row, &by_column];
            let y = wide(&g) * wide(&by_row).unsqueeze(1) * wide(&by_column);
            let rms = |x: &Tensor| x.square().mean(Kind::Double).sqrt().double_value(&[]);
            let [of_update, of_parameter] = matrix_rms(&g, &p, factors);
            assert!((of_update / rms(&y) - 1.).abs() < 1e-6);
            assert!((of_parameter / rms(&wide(&p)) - 1.).abs() < 1e-6);

            for beta in [None, Some(0.9)] {
                let (p, momentum) = (p.copy(), momentum.copy());
                let step = MatrixStep { scale: 0.3, beta, weight_decay: 0.1 };
                let new = match beta {
                    None => &y * 0.3,
                    Some(beta) => wide(&momentum) * beta + &y * 0.3 * (1. - beta),
                };
                let wanted = wide(&p) * 0.9 - &new;
                update_matrix(&g, &p, beta.map(|_| &momentum), factors, step);
                assert!(close(&p, &wanted), "{size:?} {beta:?}");
                assert!(beta.is_none() || close(&momentum, &new));
            }
        }
    });
}
