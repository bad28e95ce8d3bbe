//! Keys and values of one head, as products need them.

use std::ops::Range;

use super::{
    scratch::{Aligned, Rows, padded_len},
    tile::Factor,
    view::{Place, View},
};
use crate::simd::{MAX_LANES, Operand, Simd, Word};

/// Keys or values of one head, as products need them.
pub(super) struct Packed<T> {
    pub(super) rows: Rows<T>,
    columns: Option<Columns<T>>,
    sums: Sums,
    len: usize,
}

/// Row k holds the k-th operand of every key.
struct Columns<T> {
    values: Aligned<T>,
    /// Operands from the start of a row to that of the next.
    row_len: usize,
}

impl<T: Word> Columns<T> {
    /// Writes the first operands of some rows, as many rows at a time as fill a line of the cache.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn write<S: Simd>(&mut self, rows: &Rows<T>, which: Range<usize>, num_operands: usize) {
        for start in which.clone().step_by(MAX_LANES) {
            let end = which.end.min(start + MAX_LANES);
            let in_squares = num_operands - num_operands % S::LANES;
            let whole = end - (end - start) % S::LANES;
            for k in (0..in_squares).step_by(S::LANES) {
                for i in (start..whole).step_by(S::LANES) {
                    // SAFETY: the caller's.
                    unsafe { self.write_square::<S>(rows.along(i, k * T::VALUES), k, i) };
                }
            }
            for k in 0..num_operands {
                let first = if k < in_squares { whole } else { start };
                let from = rows.along(first, k * T::VALUES);
                let column = &mut self.values[k * self.row_len..][first..end];
                for (i, value) in column.iter_mut().enumerate() {
                    *value = from.values[i * from.row];
                }
            }
        }
    }

    /// Writes a square of operands: the `k`-th of row `i` and those behind it.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn write_square<S: Simd>(&mut self, from: Factor<T>, k: usize, i: usize) {
        let to = &mut self.values[k * self.row_len + i..];
        assert!((S::LANES - 1) * from.row + S::LANES <= from.values.len(), "a square of rows");
        assert!((S::LANES - 1) * self.row_len + S::LANES <= to.len(), "a square of columns");
        let (from, to) = ((from.values.as_ptr().cast(), from.row), (to.as_mut_ptr().cast(), self.row_len));
        // SAFETY: the instruction set is the caller's; lengths were checked, and operands are four bytes each.
        unsafe { S::transpose(from, to) };
    }
}

/// What products with keys or values sum over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sums {
    Features,
    Keys,
    Both,
}

impl<T: Word> Packed<T> {
    pub(super) fn new(len: usize, width: usize, sums: Sums) -> Self {
        let row_len = padded_len(len);
        let columns = (sums != Sums::Keys)
            .then(|| Columns { values: Aligned::zeros(width.div_ceil(T::VALUES) * row_len), row_len });
        Self { rows: Rows::zeros(len, width), columns, sums, len }
    }

    /// Returns the operands of keys from `first` on, in rows of the k-th operand of each, and how far a row is from the next.
    pub(super) fn columns(&self, first: usize) -> (&[T], usize) {
        let columns = self.columns.as_ref().expect("keys or values column by column");
        (&columns.values[first..], columns.row_len)
    }

    /// Reads the rows of a head, to stand from row `first` on.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn read<S: Simd>(&mut self, view: &View, place: Place, first: usize)
    where
        T: Operand<S>,
    {
        let [len, width] = view.size();
        // SAFETY: the caller's.
        unsafe { self.rows.read::<S>(view, place, first) };
        let Some(columns) = &mut self.columns else { return };
        // SAFETY: the caller's.
        unsafe { columns.write::<S>(&self.rows, first..first + len, width.div_ceil(T::VALUES)) };
    }

    /// Makes operands across all rows that were read, where they are needed.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn make_across<S: Simd>(&mut self)
    where
        T: Operand<S>,
    {
        if self.sums != Sums::Features {
            // SAFETY: the caller's.
            unsafe { self.rows.make_across::<S>(0..self.len, 0..self.rows.row_len()) };
        }
    }

    /// Moves the rows from `len` on to the front.
    pub(super) fn advance(&mut self, len: usize) {
        self.rows.advance(len);
        if let Some(columns) = &mut self.columns {
            for column in columns.values.chunks_mut(columns.row_len) {
                column.copy_within(len..2 * len, 0);
            }
        }
    }
}
