//! Scratch of one head after the other: what products multiply, and what they write.

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

/// Rows of operands, some more of them and wider than asked for, so that products may take whole register tiles. Where heads are
/// read, zeros stay there; behind what products write stands anything.
pub(super) struct Rows<T> {
    /// Operands of values next to each other in a row.
    along: Aligned<T>,
    /// Operands of values next to each other in a column, where one holds several and they are needed.
    across: Aligned<T>,
    /// Values from the start of a row to that of the next.
    row_len: usize,
}

impl<T: Word> Rows<T> {
    pub(super) fn zeros(len: usize, width: usize) -> Self {
        let row_len = width.next_multiple_of(MAX_LANES);
        let num_values = (len.next_multiple_of(ROWS) + ROWS) * row_len;
        Self { along: Aligned::zeros(num_values / T::VALUES), across: Aligned::zeros(0), row_len }
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
        let row_len = self.row_len / T::VALUES;
        // SAFETY: the caller's.
        unsafe { view.read::<S, T>(place, &mut self.along[first * row_len..], row_len) };
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
                &self.along[(i * self.row_len + columns.start) / T::VALUES..][..columns.len() / T::VALUES]
            };
            let to = &mut self.across[i / T::VALUES * self.row_len + columns.start..][..columns.len()];
            // SAFETY: the caller's.
            unsafe { T::across([row(i), row(i + 1)], to) };
        }
    }

    /// Returns the values from the start of a row to that of the next.
    pub(super) fn row_len(&self) -> usize {
        self.row_len
    }

    /// Returns the values from row `first` on.
    pub(super) fn starting(&self, first: usize) -> &[T::Value] {
        &T::values(&self.along)[first * self.row_len..]
    }

    /// Returns the operands along rows, from a row and a column on that begin one.
    #[inline(always)]
    pub(super) fn along(&self, row: usize, column: usize) -> Factor<'_, T> {
        let values = &self.along[(row * self.row_len + column) / T::VALUES..];
        Factor { values, row: self.row_len / T::VALUES, column: 1 }
    }

    /// Returns the operands across rows, from a row on that begins one, and how far those of one row are from the next.
    #[inline(always)]
    pub(super) fn across(&self, row: usize) -> (&[T], usize) {
        let all = if T::VALUES == 1 { &self.along } else { &self.across };
        (&all[row / T::VALUES * self.row_len..], self.row_len)
    }

    /// Moves the rows from `len` on to the front.
    pub(super) fn advance(&mut self, len: usize) {
        let middle = len * self.row_len / T::VALUES;
        self.along.copy_within(middle..2 * middle, 0);
    }
}

/// Rows in float32 that products write.
impl Rows<f32> {
    pub(super) fn starting_mut(&mut self, first: usize) -> &mut [f32] {
        &mut self.along[first * self.row_len..]
    }

    /// Returns the rows from `first` on as products write them.
    pub(super) fn written(&mut self, first: usize) -> (&mut [f32], usize) {
        let row_len = self.row_len;
        (self.starting_mut(first), row_len)
    }

    /// Writes zeros everywhere.
    pub(super) fn clear(&mut self) {
        self.along.fill(0.);
    }

    /// Writes rows from `first` on to a head, times `factor`.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, and no other thread uses this head.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(&self, view: &View, place: Place, first: usize, factor: f32) {
        for (i, row) in self.starting(first).chunks(self.row_len).take(view.size()[0]).enumerate() {
            // SAFETY: the caller's.
            unsafe { view.write::<S>(place, i, row, factor) };
        }
    }

    /// Moves the rows from `len` on to the front, and leaves zeros in their place.
    pub(super) fn advance_and_clear(&mut self, len: usize) {
        self.advance(len);
        let middle = len * self.row_len;
        self.along[middle..2 * middle].fill(0.);
    }
}

/// Logits or weights of a tile of queries, in float32, and the operands made of them.
pub(super) struct Logits<T> {
    pub(super) values: Rows<f32>,
    /// Where the values are not operands themselves.
    made: Option<Rows<T>>,
}

impl<T: Word> Logits<T> {
    pub(super) fn zeros(num_queries: usize, num_keys: usize) -> Self {
        let width = padded_len(num_keys);
        let made = (T::VALUES > 1).then(|| Rows::zeros(num_queries, width));
        Self { values: Rows::zeros(num_queries, width), made }
    }

    /// As [`Rows::row_len`].
    pub(super) fn row_len(&self) -> usize {
        self.values.row_len
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
        let Some(made) = &mut self.made else { return };
        // The last one has another to be an operand with.
        for i in 0..num_rows.next_multiple_of(T::VALUES) {
            let at = i * self.values.row_len + columns.start;
            let values = &self.values.along[at..][..columns.len()];
            // SAFETY: the caller's.
            unsafe { T::of_row::<f32>(values, &mut made.along[at / T::VALUES..]) };
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
            if let Some(made) = &mut self.made {
                made.make_across::<S>(0..num_rows, columns);
            }
        }
    }

    /// Returns the operands: the values themselves where they are.
    #[inline(always)]
    pub(super) fn operands(&self) -> &Rows<T> {
        match &self.made {
            Some(made) => made,
            None => (&self.values as &dyn Any).downcast_ref().expect("values that are operands"),
        }
    }
}

/// Returns the length of a row of logits: register tiles may reach behind its end.
pub(super) fn padded_len(len: usize) -> usize {
    (len + ROWS).next_multiple_of(MAX_LANES) + MAX_LANES
}
