//! Rows times the rows of a matrix.

use crate::simd::{Element, Simd, dot, kernel};

/// Rows of the matrix side by side, each a stream of memory.
const STREAMS: usize = 4;
/// Rows of `x` side by side.
const ROWS: usize = 4;

kernel! {
    /// Writes the products of all rows of `x` with each row of `weights`, one after the other.
    pub(super) unsafe fn columns<E: Element>(
        x: &[f32],
        weights: &[E],
        products: &mut [f32],
        width: usize,
    ) = columns_by
}

#[inline(always)]
unsafe fn columns_by<S: Simd, E: Element>(x: &[f32], weights: &[E], products: &mut [f32], width: usize) {
    let (num_rows, num_outputs) = (x.len() / width, weights.len() / width);
    assert!(products.len() == num_rows * num_outputs, "a product for each row and output");
    let row = |r: usize| &x[r * width..(r + 1) * width];
    for output in (0..num_outputs).step_by(STREAMS) {
        let num_streams = STREAMS.min(num_outputs - output);
        let stream = |s: usize| &weights[(output + s) * width..(output + s + 1) * width];
        for first in (0..num_rows).step_by(ROWS) {
            let rows = ROWS.min(num_rows - first);
            // SAFETY: the caller's.
            unsafe {
                if num_streams == STREAMS && rows == ROWS {
                    let tile = tile::<S, E, ROWS>(
                        std::array::from_fn(|r| row(first + r)),
                        std::array::from_fn(stream),
                    );
                    for (r, s) in (0..ROWS).flat_map(|r| (0..STREAMS).map(move |s| (r, s))) {
                        products[(output + s) * num_rows + first + r] = tile[r][s];
                    }
                } else if num_streams == STREAMS {
                    for r in first..first + rows {
                        let [tile] = tile::<S, E, 1>([row(r)], std::array::from_fn(stream));
                        for (s, product) in tile.into_iter().enumerate() {
                            products[(output + s) * num_rows + r] = product;
                        }
                    }
                } else {
                    for (s, r) in (0..num_streams).flat_map(|s| (first..first + rows).map(move |r| (s, r))) {
                        products[(output + s) * num_rows + r] = dot::<S, f32, E>(row(r), stream(s));
                    }
                }
            }
        }
    }
}

/// How many tiles ahead memory is asked for.
const AHEAD: usize = 2;

/// Asks for the memory at an address, which need not be there.
#[inline(always)]
fn prefetch<E>(address: *const E) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, to any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Products of some rows with as many rows of the matrix as there are streams.
#[inline(always)]
unsafe fn tile<S: Simd, E: Element, const R: usize>(
    x: [&[f32]; R],
    weights: [&[E]; STREAMS],
) -> [[f32; STREAMS]; R] {
    let width = x[0].len();
    let whole = width - width % S::LANES;
    assert!(
        x.iter().all(|row| row.len() == width) && weights.iter().all(|row| row.len() == width),
        "rows of one length"
    );
    // SAFETY: the caller's; lengths were checked.
    unsafe {
        let mut sums = [[S::splat(0.); STREAMS]; R];
        let mut j = 0;
        while j < whole {
            for s in 0..STREAMS {
                let weight = E::load::<S>(weights[s].as_ptr().add(j));
                prefetch(weights[s].as_ptr().wrapping_add(AHEAD * STREAMS * width + j));
                for r in 0..R {
                    sums[r][s] = S::load(x[r].as_ptr().add(j)).mul_add(weight, sums[r][s]);
                }
            }
            j += S::LANES;
        }
        let mut products = [[0.; STREAMS]; R];
        for r in 0..R {
            for s in 0..STREAMS {
                products[r][s] = sums[r][s].sum();
                for j in whole..width {
                    products[r][s] += x[r][j] * weights[s][j].value();
                }
            }
        }
        products
    }
}
