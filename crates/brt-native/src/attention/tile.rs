//! Products of small matrices: register tiles of six rows.

use crate::simd::{Operand, Simd};

/// Rows of a register tile.
pub(super) const ROWS: usize = 6;

/// Where the operands of a factor lie: operand (i, k) at `values[i · row + k · column]`.
#[derive(Clone, Copy)]
pub(super) struct Factor<'a, T> {
    pub(super) values: &'a [T],
    pub(super) row: usize,
    pub(super) column: usize,
}

/// What happens to what a product is written over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    Replace,
    Add,
}

/// `c[i, j] (+)= Σ_k a[i, k] · b[k, j]` for [`ROWS`] rows i, `depth` operands k and `width` columns j. Rows of `b` and `c`
/// are contiguous, `b_row` and `c_row` apart; up to `LANES − 1` columns behind the last one are computed as well.
///
/// # Panics
/// Where a slice is too short for that.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn product<S: Simd, T: Operand<S>>(
    a: Factor<T>,
    (b, b_row): (&[T], usize),
    (c, c_row): (&mut [f32], usize),
    [depth, width]: [usize; 2],
    into: Into,
) {
    if depth == 0 || width == 0 {
        return;
    }
    let padded = width.next_multiple_of(S::LANES);
    assert!((ROWS - 1) * a.row + (depth - 1) * a.column < a.values.len(), "product: a");
    assert!((depth - 1) * b_row + padded <= b.len(), "product: b");
    assert!((ROWS - 1) * c_row + padded <= c.len(), "product: c");
    let mut start = 0;
    while start < padded {
        let num_vectors = ((padded - start) / S::LANES).min(S::PANEL);
        // SAFETY: the instruction set is the caller's; the lengths were checked above.
        unsafe {
            let (b, c) = (b.as_ptr().add(start), c.as_mut_ptr().add(start));
            match num_vectors {
                1 => tile::<S, T, 1>(a, (b, b_row), (c, c_row), depth, into),
                2 => tile::<S, T, 2>(a, (b, b_row), (c, c_row), depth, into),
                3 => tile::<S, T, 3>(a, (b, b_row), (c, c_row), depth, into),
                _ => tile::<S, T, 4>(a, (b, b_row), (c, c_row), depth, into),
            }
        }
        start += num_vectors * S::LANES;
    }
}

#[expect(clippy::needless_range_loop, reason = "iterators hide the vectors from the instruction set")]
/// One register tile: `V` vectors wide.
///
/// # Safety
/// As [`product`], which checks that all that is read and written is there.
#[inline(always)]
unsafe fn tile<S: Simd, T: Operand<S>, const V: usize>(
    a: Factor<T>,
    (b, b_row): (*const T, usize),
    (c, c_row): (*mut f32, usize),
    depth: usize,
    into: Into,
) {
    // Loops over indices: closures would be functions without the instruction set.
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[S::splat(0.); V]; ROWS];
        if into == Into::Add {
            for i in 0..ROWS {
                for v in 0..V {
                    sums[i][v] = S::load(c.add(i * c_row + v * S::LANES));
                }
            }
        }
        let values = a.values.as_ptr();
        for k in 0..depth {
            let mut row = [S::splat(0.); V];
            for v in 0..V {
                row[v] = S::load(b.add(k * b_row + v * S::LANES).cast());
            }
            for i in 0..ROWS {
                let a = (*values.add(i * a.row + k * a.column)).splat();
                for v in 0..V {
                    sums[i][v] = T::mul_add(a, row[v], sums[i][v]);
                }
            }
        }
        for i in 0..ROWS {
            for v in 0..V {
                sums[i][v].store(c.add(i * c_row + v * S::LANES));
            }
        }
    }
}
