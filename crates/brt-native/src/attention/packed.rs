//! Scratch of one head: what products multiply, and what they add to.

use std::{
    any::Any,
    marker::PhantomData,
    ops::{Deref, DerefMut, Range},
};

use super::{
    tile::{Factor, ROWS},
    view::{Place, View},
};
use crate::simd::{MAX_LANES, Operand, Simd, Word};

/// Values in memory that begins where a line of the cache does.
pub(super) struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    values: PhantomData<T>,
}

/// A line of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

impl<T: Word> Aligned<T> {
    pub(super) fn zeros(len: usize) -> Self {
        const { assert!(size_of::<T>() == 4 && align_of::<T>() <= 64) };
        Self { lines: vec![Line([0; 16]); len.div_ceil(16)], len, values: PhantomData }
    }
}

impl<T: Word> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: lines are words, one after the other, and hold so many.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Word> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// Rows of operands, padded with zeros to whole register tiles.
pub(super) struct Rows<T> {
    /// Operands of values next to each other in a row.
    along: Aligned<T>,
    /// Operands of values next to each other in a column, where one holds several and they are needed.
    across: Aligned<T>,
    /// Values from row to row.
    row: usize,
}

impl<T: Word> Rows<T> {
    pub(super) fn zeros(len: usize, width: usize) -> Self {
        let row = width.next_multiple_of(MAX_LANES);
        let num_values = (len.next_multiple_of(ROWS) + ROWS) * row;
        Self { along: Aligned::zeros(num_values / T::VALUES), across: Aligned::zeros(0), row }
    }

    /// Reads a head into the rows from `first` on.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn read<S: Simd>(&mut self, view: &View, place: Place, first: usize)
    where
        T: Operand<S>,
    {
        let row = self.row / T::VALUES;
        // SAFETY: the caller's.
        unsafe { view.read::<S, T>(place, &mut self.along[first * row..], row) };
    }

    /// Makes operands across some rows, the first of which begins one, of `columns`, whole vectors.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn make_across<S: Simd>(&mut self, rows: Range<usize>, columns: Range<usize>)
    where
        T: Operand<S>,
    {
        if T::VALUES == 1 {
            return;
        }
        if self.across.is_empty() {
            self.across = Aligned::zeros(self.along.len());
        }
        for i in rows.step_by(T::VALUES) {
            let row = |i: usize| {
                &self.along[(i * self.row + columns.start) / T::VALUES..][..columns.len() / T::VALUES]
            };
            let to = &mut self.across[i / T::VALUES * self.row + columns.start..][..columns.len()];
            // SAFETY: the caller's.
            unsafe { T::across([row(i), row(i + 1)], to) };
        }
    }

    /// Returns the values from row to row.
    pub(super) fn row(&self) -> usize {
        self.row
    }

    /// Returns the values from row `first` on.
    pub(super) fn starting(&self, first: usize) -> &[T::Value] {
        &T::values(&self.along)[first * self.row..]
    }

    /// Returns the operands along rows, from a row and a column on that begin one.
    #[inline(always)]
    pub(super) fn along(&self, row: usize, column: usize) -> Factor<'_, T> {
        let values = &self.along[(row * self.row + column) / T::VALUES..];
        Factor { values, row: self.row / T::VALUES, column: 1 }
    }

    /// Returns the operands across rows, from a row on that begins one, and how far those of one row are from the next.
    #[inline(always)]
    pub(super) fn across(&self, row: usize) -> (&[T], usize) {
        let all = if T::VALUES == 1 { &self.along } else { &self.across };
        (&all[row / T::VALUES * self.row..], self.row)
    }

    /// Moves the rows from `len` on to the front.
    fn advance(&mut self, len: usize) {
        let middle = len * self.row / T::VALUES;
        self.along.copy_within(middle..2 * middle, 0);
    }
}

/// Rows in float32 that products add to.
impl Rows<f32> {
    pub(super) fn starting_mut(&mut self, first: usize) -> &mut [f32] {
        &mut self.along[first * self.row..]
    }

    /// Returns the rows from `first` on as products write them.
    pub(super) fn written(&mut self, first: usize) -> (&mut [f32], usize) {
        let row = self.row;
        (self.starting_mut(first), row)
    }

    pub(super) fn clear(&mut self) {
        self.along.fill(0.);
    }

    /// Writes rows from `first` on to a head, times `factor`.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, and no other thread uses this head.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(&self, view: &View, place: Place, first: usize, factor: f32) {
        for (i, row) in self.starting(first).chunks(self.row).take(view.size()[0]).enumerate() {
            // SAFETY: the caller's.
            unsafe { view.write::<S>(place, i, row, factor) };
        }
    }

    /// Moves the rows from `len` on to the front, and leaves zeros in their place.
    pub(super) fn advance_and_clear(&mut self, len: usize) {
        self.advance(len);
        let middle = len * self.row;
        self.along[middle..2 * middle].fill(0.);
    }
}

/// Logits or weights of a tile of queries, in float32, and the operands made of them.
pub(super) struct Logits<T> {
    pub(super) values: Rows<f32>,
    made: Rows<T>,
}

impl<T: Word> Logits<T> {
    pub(super) fn zeros(num_queries: usize, num_keys: usize) -> Self {
        let rows = if T::VALUES == 1 { 0 } else { num_queries };
        let width = padded_len(num_keys);
        Self { values: Rows::zeros(num_queries, width), made: Rows::zeros(rows, width) }
    }

    /// Returns the length of a row.
    pub(super) fn row(&self) -> usize {
        self.values.row
    }

    /// Makes operands along some rows, of `columns`, whole vectors.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn make_along<S: Simd>(&mut self, num_rows: usize, columns: Range<usize>)
    where
        T: Operand<S>,
    {
        if T::VALUES == 1 {
            return;
        }
        // The last one has another to be an operand with.
        for i in 0..num_rows.next_multiple_of(T::VALUES) {
            let at = i * self.values.row + columns.start;
            let values = &self.values.along[at..][..columns.len()];
            // SAFETY: the caller's.
            unsafe { T::of_row::<f32>(values, &mut self.made.along[at / T::VALUES..]) };
        }
    }

    /// Makes operands across rows as well.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn make_both<S: Simd>(&mut self, num_rows: usize, columns: Range<usize>)
    where
        T: Operand<S>,
    {
        // SAFETY: the caller's.
        unsafe {
            self.make_along::<S>(num_rows, columns.clone());
            self.made.make_across::<S>(0..num_rows, columns);
        }
    }

    /// Returns the operands: the values themselves where they are.
    #[inline(always)]
    pub(super) fn operands(&self) -> &Rows<T> {
        (&self.values as &dyn Any).downcast_ref().unwrap_or(&self.made)
    }
}

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
    /// Operands from row to row.
    row: usize,
}

impl<T: Word> Columns<T> {
    /// Writes the first operands of some rows, some rows at a time, so that whole lines of the cache are written.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn write<S: Simd>(&mut self, rows: &Rows<T>, which: Range<usize>, num_operands: usize) {
        for start in which.clone().step_by(S::LANES) {
            let num = S::LANES.min(which.end - start);
            let from = rows.along(start, 0);
            let mut k = 0;
            while num == S::LANES && k + S::LANES <= num_operands {
                let (from_row, to) = (from.row, &mut self.values[k * self.row + start..]);
                assert!((S::LANES - 1) * from_row + k + S::LANES <= from.values.len(), "a square of rows");
                assert!((S::LANES - 1) * self.row + S::LANES <= to.len(), "a square of columns");
                // SAFETY: the instruction set is the caller's; lengths were checked, and operands are four bytes each.
                unsafe {
                    let from = from.values.as_ptr().add(k).cast();
                    S::transpose((from, from_row), (to.as_mut_ptr().cast(), self.row));
                }
                k += S::LANES;
            }
            for k in k..num_operands {
                let column = &mut self.values[k * self.row + start..][..num];
                for (i, value) in column.iter_mut().enumerate() {
                    *value = from.values[i * from.row + k];
                }
            }
        }
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
        let row = padded_len(len);
        let columns = (sums != Sums::Keys)
            .then(|| Columns { values: Aligned::zeros(width.div_ceil(T::VALUES) * row), row });
        Self { rows: Rows::zeros(len, width), columns, sums, len }
    }

    /// Returns the operands of keys from `first` on, in rows of the k-th operand of each, and how far a row is from the next.
    pub(super) fn columns(&self, first: usize) -> (&[T], usize) {
        let columns = self.columns.as_ref().expect("keys or values column by column");
        (&columns.values[first..], columns.row)
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
            unsafe { self.rows.make_across::<S>(0..self.len, 0..self.rows.row) };
        }
    }

    /// Moves the rows from `len` on to the front.
    pub(super) fn advance(&mut self, len: usize) {
        self.rows.advance(len);
        if let Some(columns) = &mut self.columns {
            for column in columns.values.chunks_mut(columns.row) {
                column.copy_within(len..2 * len, 0);
            }
        }
    }
}

/// Returns the length of a row of logits: register tiles may reach behind its end.
pub(super) fn padded_len(len: usize) -> usize {
    (len + ROWS).next_multiple_of(MAX_LANES) + MAX_LANES
}
