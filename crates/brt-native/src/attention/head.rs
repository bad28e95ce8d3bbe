//! What both passes of one head share: keys and values of a block, logits, weighted sums.

use std::ops::Range;

use super::{
    band::Visible,
    packed::{Packed, Sums},
    scratch::{Logits, Rows},
    tile::{Into, ROWS, product},
    view::{Floats, Place, View},
};
use crate::simd::{MAX_LANES, Operand, Simd, Word};

/// Queries whose logits are kept at once.
pub(super) const TILE_QUERIES: usize = 8 * ROWS;
/// Keys that are multiplied with all queries of a tile before the next ones are: as many as stay in the nearest cache.
const NEAR_KEYS: usize = 64;

/// What both passes read.
pub(super) struct Job {
    pub(super) queries: View,
    /// Keys and values of each block, or one block that all queries see.
    pub(super) pieces: [View; 2],
    /// Those that stand before the first block: every block then also sees the block before it.
    pub(super) before: Option<[View; 2]>,
    pub(super) visible: Visible,
    pub(super) num_blocks: usize,
    pub(super) num_heads: usize,
    /// Whether `pieces` are one block for all.
    pub(super) is_shared: bool,
    /// By head: what logits are multiplied by before the bias.
    pub(super) temperature: Option<Vec<f32>>,
    /// By head: for each distance, the largest first.
    pub(super) bias: Option<Vec<Vec<f32>>>,
    /// By head, query and key.
    pub(super) multiplier: Option<Floats>,
}

/// Places of keys, and of values, in what holds both.
pub(super) const KEYS: usize = 0;
pub(super) const VALUES: usize = 1;

impl Job {
    /// Whether queries, keys and values of the blocks are bfloat16. Where pairs are multiplied, what stands before is rounded to it.
    pub(super) fn is_bfloat16(&self) -> bool {
        self.queries.is_bfloat16() && self.pieces.iter().all(View::is_bfloat16)
    }

    /// Returns row of the batch and head of a number in `[B, H]`.
    pub(super) fn head(&self, idx: usize) -> [usize; 2] {
        [idx / self.num_heads, idx % self.num_heads]
    }

    fn piece_len(&self) -> usize {
        self.pieces[KEYS].size()[0]
    }

    /// Row from which on the keys of a block itself stand.
    pub(super) fn own_start(&self) -> usize {
        if self.before.is_some() { self.piece_len() } else { 0 }
    }

    pub(super) fn pack<T: Word>(&self, sums: [Sums; 2]) -> [Packed<T>; 2] {
        let width = self.queries.size()[1];
        sums.map(|sums| Packed::new(self.visible.num_keys, width, sums))
    }

    /// Brings keys and values of a block into their places.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn enter<S: Simd, T: Operand<S>>(&self, packed: &mut [Packed<T>; 2], place: Place) {
        if place.block > 0 && self.is_shared {
            return;
        }
        let (own, first) = (self.own_start(), Place { block: 0, ..place });
        for (idx, packed) in packed.iter_mut().enumerate() {
            // SAFETY: the caller's.
            unsafe {
                match &self.before {
                    Some(before) if place.block == 0 => packed.read::<S>(&before[idx], first, 0),
                    Some(_) => packed.advance(own),
                    None => (),
                }
                packed.read::<S>(&self.pieces[idx], place, own);
                packed.make_across::<S>();
            }
        }
    }

    pub(super) fn temperature(&self, head: usize) -> f32 {
        self.temperature.as_ref().map_or(1., |heads| heads[head])
    }

    pub(super) fn bias(&self, head: usize, i: usize) -> Option<&[f32]> {
        self.bias.as_ref().map(|heads| &heads[head][self.visible.bias_start(i)..])
    }

    pub(super) fn multiplier(&self, head: usize, i: usize) -> Option<&[f32]> {
        let row = (head * self.queries.size()[0] + i) * self.visible.num_keys;
        self.multiplier.as_ref().map(|all| &all.values()[row + self.visible.keys(i).start..])
    }

    /// Returns the columns of a tile of logits, whole vectors of a row, that products with any of them read.
    pub(super) fn read_columns(&self, tile: &Range<usize>, row_len: usize) -> Range<usize> {
        let (start, end) = (self.visible.keys(tile.start).start, self.visible.keys(tile.end - 1).end);
        let start = start.saturating_sub(ROWS);
        start - start % MAX_LANES..(end + ROWS).next_multiple_of(MAX_LANES).min(row_len)
    }

    /// Writes the products of a tile of queries with the keys that they see: some keys after the other, which stay in the
    /// nearest cache for all queries.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn logits<S: Simd, T: Operand<S>>(
        &self,
        queries: &Rows<T>,
        keys: &Packed<T>,
        tile: Range<usize>,
        logits: &mut Logits<T>,
    ) {
        let depth = self.queries.size()[1].div_ceil(T::VALUES);
        let end = self.visible.keys(tile.end - 1).end;
        for near in (self.visible.keys(tile.start).start / NEAR_KEYS * NEAR_KEYS..end).step_by(NEAR_KEYS) {
            for first in tile.clone().step_by(ROWS) {
                let seen = self.visible.keys_of_rows(first);
                // Whole lines of the cache.
                let begin = (seen.start - seen.start % MAX_LANES).max(near);
                let len = seen.end.min(near + NEAR_KEYS).saturating_sub(begin);
                if len == 0 {
                    continue;
                }
                let (queries, columns) = (queries.along(first, 0), keys.columns(begin));
                let (logits, row) = logits.values.written(first - tile.start);
                let logits = (&mut logits[begin..], row);
                // SAFETY: the caller's.
                unsafe { product::<S, T>(queries, columns, logits, [depth, len], Into::Replace) };
            }
        }
    }

    /// Writes the sums of rows of keys or values, weighted for each query of a tile.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn sums<S: Simd, T: Operand<S>>(
        &self,
        weights: &Logits<T>,
        rows: &Rows<T>,
        tile: Range<usize>,
        sums: &mut Rows<f32>,
    ) {
        let (width, end) = (self.queries.size()[1], self.visible.keys(tile.end - 1).end);
        let weights = weights.operands();
        sums.clear();
        for near in (self.visible.keys(tile.start).start / NEAR_KEYS * NEAR_KEYS..end).step_by(NEAR_KEYS) {
            for first in tile.clone().step_by(ROWS) {
                let seen = self.visible.keys_of_rows(first);
                // Whole operands.
                let begin = (seen.start - seen.start % T::VALUES).max(near);
                let depth = seen.end.min(near + NEAR_KEYS).saturating_sub(begin).div_ceil(T::VALUES);
                if depth == 0 {
                    continue;
                }
                let at = first - tile.start;
                let (weights, rows) = (weights.along(at, begin), rows.across(begin));
                // SAFETY: the caller's.
                unsafe { product::<S, T>(weights, rows, sums.written(at), [depth, width], Into::Add) };
            }
        }
    }

    /// Writes zeros where a query does not see a key that one in a register tile with it, or next to it, does; and behind an
    /// odd tile, whose last row has no other to be an operand with.
    #[inline(always)]
    pub(super) fn clear_unseen<T: Word>(&self, weights: &mut Logits<T>, tile: Range<usize>) {
        let (row_len, weights) = (weights.row_len(), &mut weights.values);
        if !tile.len().is_multiple_of(2) {
            weights.starting_mut(tile.len())[..row_len].fill(0.);
        }
        for i in tile.clone() {
            let first = i - (i - tile.start) % ROWS;
            let all = self.visible.keys_of_rows(first);
            let all = all.start.saturating_sub(ROWS)..(all.end + ROWS).min(row_len);
            let weights = &mut weights.starting_mut(i - tile.start)[..row_len];
            let seen = self.visible.keys(i);
            weights[all.start..seen.start].fill(0.);
            weights[seen.end..all.end].fill(0.);
        }
    }
}
