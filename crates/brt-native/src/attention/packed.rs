//! Scratch of one head: keys and values in float32, row by row and column by column.

use std::ops::{Deref, DerefMut};

use super::{
    tile::ROWS,
    view::{Place, View},
};
use crate::simd::{MAX_LANES, Simd};

/// Values in memory that begins where a line of the cache does.
pub(super) struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

/// A line of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Aligned {
    pub(super) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.; 16]); len.div_ceil(16)], len }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: lines are arrays of floats, one after the other, and hold so many.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// Rows of `width` values in float32, padded with zeros to whole register tiles.
pub(super) struct Rows {
    pub(super) values: Aligned,
    /// Values from row to row.
    pub(super) row: usize,
}

impl Rows {
    pub(super) fn zeros(len: usize, width: usize) -> Self {
        let row = width.next_multiple_of(MAX_LANES);
        Self { values: Aligned::zeros((len.next_multiple_of(ROWS) + ROWS) * row), row }
    }

    /// Returns the values from row `first` on.
    pub(super) fn starting(&self, first: usize) -> &[f32] {
        &self.values[first * self.row..]
    }

    pub(super) fn starting_mut(&mut self, first: usize) -> &mut [f32] {
        &mut self.values[first * self.row..]
    }

    /// Reads a head into the rows from `first` on.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn read<S: Simd>(&mut self, view: &View, place: Place, first: usize) {
        let row = self.row;
        // SAFETY: the caller's.
        unsafe { view.read::<S>(place, self.starting_mut(first), row) };
    }

    /// Writes rows from `first` on to a head.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, and no other thread uses this head.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(&self, view: &View, place: Place, first: usize) {
        for (i, row) in self.starting(first).chunks(self.row).take(view.size()[0]).enumerate() {
            // SAFETY: the caller's.
            unsafe { view.write::<S>(place, i, row) }
        }
    }

    /// Moves the rows from `len` on to the front, and leaves zeros in their place.
    pub(super) fn advance(&mut self, len: usize) {
        let middle = len * self.row;
        self.values.copy_within(middle..2 * middle, 0);
        self.values[middle..2 * middle].fill(0.);
    }
}

/// Keys or values of one head, row by row and, where a product needs them so, column by column.
pub(super) struct Packed {
    pub(super) rows: Rows,
    pub(super) columns: Option<Columns>,
    width: usize,
}

/// The same values, one row for each feature.
pub(super) struct Columns {
    pub(super) values: Aligned,
    /// Values from feature to feature.
    pub(super) row: usize,
}

/// Whether values are needed column by column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Rows,
    Both,
}

impl Packed {
    pub(super) fn new(len: usize, width: usize, order: Order) -> Self {
        let row = padded_len(len);
        let columns = (order == Order::Both).then(|| Columns { values: Aligned::zeros(width * row), row });
        Self { rows: Rows::zeros(len, width), columns, width }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Reads the rows of a head, to stand from row `first` on.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn read<S: Simd>(&mut self, view: &View, place: Place, first: usize) {
        let [len, width] = view.size();
        // SAFETY: the caller's.
        unsafe { self.rows.read::<S>(view, place, first) };
        let Some(columns) = &mut self.columns else { return };
        // Some rows at a time, so that whole lines of the cache are written.
        for start in (0..len).step_by(MAX_LANES) {
            let num = MAX_LANES.min(len - start);
            let rows = &self.rows.values[(first + start) * self.rows.row..];
            for feature in 0..width {
                let column = &mut columns.values[feature * columns.row + first + start..][..num];
                for (i, value) in column.iter_mut().enumerate() {
                    *value = rows[i * self.rows.row + feature];
                }
            }
        }
    }

    /// Moves the rows from `len` on to the front.
    pub(super) fn advance(&mut self, len: usize) {
        self.rows.advance(len);
        if let Some(columns) = &mut self.columns {
            for feature in 0..self.width {
                columns.values[feature * columns.row..].copy_within(len..2 * len, 0);
            }
        }
    }
}

/// Returns the length of a row of logits: register tiles may reach behind its end.
pub(super) fn padded_len(len: usize) -> usize {
    (len + ROWS).next_multiple_of(MAX_LANES) + MAX_LANES
}
