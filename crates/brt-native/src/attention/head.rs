//! One head of one row of the batch, over all of its blocks.

use std::ops::Range;

use super::{
    band::Visible,
    packed::{Aligned, Order, Packed, Rows, padded_len},
    rows,
    tile::{Factor, Into, ROWS, product},
    view::{Floats, Place, View},
};
use crate::simd::{MAX_LANES, Simd, kernel};

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
    /// Whether `pieces` are one block for all.
    pub(super) is_shared: bool,
    /// By head: what logits are multiplied by before the bias.
    pub(super) temperature: Option<Vec<f32>>,
    /// By head: for each distance, the largest first.
    pub(super) bias: Option<Vec<Vec<f32>>>,
    /// By head, query and key.
    pub(super) multiplier: Option<Floats>,
}

/// Keys or values of the blocks that are seen now.
pub(super) const KEYS: usize = 0;
pub(super) const VALUES: usize = 1;

impl Job {
    fn piece_len(&self) -> usize {
        self.pieces[KEYS].size()[0]
    }

    /// Row from which on the keys of a block itself stand.
    pub(super) fn own_start(&self) -> usize {
        if self.before.is_some() { self.piece_len() } else { 0 }
    }

    pub(super) fn pack(&self, [keys, values]: [Order; 2]) -> [Packed; 2] {
        let width = self.queries.size()[1];
        [keys, values].map(|order| Packed::new(self.visible.num_keys, width, order))
    }

    /// Brings keys and values of a block into their places.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn enter<S: Simd>(&self, packed: &mut [Packed; 2], place: Place) {
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

    /// Reads all blocks of one head; writes what they read to `out`, and the logarithm of the sum of each query's
    /// exponentials to `log_sums`, block by block.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, and no other thread uses this head of `out`.
    #[inline(always)]
    pub(super) unsafe fn forward<S: Simd>(&self, [row, head]: [usize; 2], out: &View, log_sums: &mut [f32]) {
        let [num_queries, width] = self.queries.size();
        let mut packed = self.pack([Order::Both, Order::Rows]);
        let mut queries = Rows::zeros(num_queries, width);
        let logit_row = padded_len(self.visible.num_keys);
        let mut logits = Aligned::zeros(TILE_QUERIES * logit_row);
        let mut read = Rows::zeros(TILE_QUERIES, width);
        for block in 0..self.num_blocks {
            let place = Place { block, row, head };
            // SAFETY: the caller's.
            unsafe {
                self.enter::<S>(&mut packed, place);
                queries.read::<S>(&self.queries, place, 0);
                rows::scale::<S>(&mut queries.values, self.temperature(head));
            }
            for start in (0..num_queries).step_by(TILE_QUERIES) {
                let tile = start..num_queries.min(start + TILE_QUERIES);
                let mut factors = [0.; TILE_QUERIES];
                // SAFETY: the caller's.
                unsafe {
                    self.logits::<S>(&queries, &packed[KEYS], tile.clone(), (&mut logits, logit_row));
                    for i in tile.clone() {
                        let row = &mut logits[(i - start) * logit_row..][self.visible.keys(i)];
                        let (log_sum, factor) = rows::softmax::<S>(row, self.bias(head, i));
                        if let Some(multiplier) = self.multiplier(head, i) {
                            rows::multiply::<S>(row, multiplier);
                        }
                        log_sums[block * num_queries + i] = log_sum;
                        factors[i - start] = factor;
                    }
                    self.clear_unseen(&mut logits, logit_row, tile.clone());
                    self.sums::<S>((&logits, logit_row), &packed[VALUES].rows, tile.clone(), &mut read);
                    for i in tile {
                        let row = &mut read.values[(i - start) * read.row..][..width];
                        rows::scale::<S>(row, factors[i - start]);
                        out.write::<S>(place, i, row);
                    }
                }
            }
        }
    }

    /// Writes the products of a tile of queries with the keys that they see: some keys after the other, which stay in the
    /// nearest cache for all queries.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn logits<S: Simd>(
        &self,
        queries: &Rows,
        keys: &Packed,
        tile: Range<usize>,
        (logits, logit_row): (&mut [f32], usize),
    ) {
        let columns = keys.columns.as_ref().expect("keys or values column by column");
        let (width, end) = (keys.width(), self.visible.keys(tile.end - 1).end);
        for near in (self.visible.keys(tile.start).start / NEAR_KEYS * NEAR_KEYS..end).step_by(NEAR_KEYS) {
            for first in tile.clone().step_by(ROWS) {
                let seen = self.visible.keys_of_rows(first);
                // Whole lines of the cache.
                let begin = (seen.start - seen.start % MAX_LANES).max(near);
                let len = seen.end.min(near + NEAR_KEYS).saturating_sub(begin);
                if len == 0 {
                    continue;
                }
                let queries = Factor { values: queries.starting(first), row: queries.row, column: 1 };
                let logits = &mut logits[(first - tile.start) * logit_row + begin..];
                let columns = (&columns.values[begin..], columns.row);
                // SAFETY: the caller's.
                unsafe { product::<S>(queries, columns, (logits, logit_row), [width, len], Into::Replace) };
            }
        }
    }

    /// Writes the sums of rows of keys or values, weighted for each query of a tile.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    pub(super) unsafe fn sums<S: Simd>(
        &self,
        (weights, weight_row): (&[f32], usize),
        rows: &Rows,
        tile: Range<usize>,
        sums: &mut Rows,
    ) {
        let (width, end) = (self.queries.size()[1], self.visible.keys(tile.end - 1).end);
        sums.values.fill(0.);
        for near in (self.visible.keys(tile.start).start / NEAR_KEYS * NEAR_KEYS..end).step_by(NEAR_KEYS) {
            for first in tile.clone().step_by(ROWS) {
                let seen = self.visible.keys_of_rows(first);
                let begin = seen.start.max(near);
                let depth = seen.end.min(near + NEAR_KEYS).saturating_sub(begin);
                if depth == 0 {
                    continue;
                }
                let (at, sum_row) = (first - tile.start, sums.row);
                let weights =
                    Factor { values: &weights[at * weight_row + begin..], row: weight_row, column: 1 };
                let (rows, sums) = ((rows.starting(begin), rows.row), (sums.starting_mut(at), sum_row));
                // SAFETY: the caller's.
                unsafe { product::<S>(weights, rows, sums, [depth, width], Into::Add) };
            }
        }
    }

    /// Writes zeros where a query does not see a key that one in a register tile with it, or next to it, does.
    #[inline(always)]
    pub(super) fn clear_unseen(&self, weights: &mut [f32], weight_row: usize, tile: Range<usize>) {
        for i in tile.clone() {
            let first = i - (i - tile.start) % ROWS;
            let all = self.visible.keys_of_rows(first);
            let all = all.start.saturating_sub(ROWS)..(all.end + ROWS).min(weight_row);
            let weights = &mut weights[(i - tile.start) * weight_row..][..weight_row];
            let seen = self.visible.keys(i);
            weights[all.start..seen.start].fill(0.);
            weights[seen.end..all.end].fill(0.);
        }
    }
}

kernel! {
    /// # Safety
    /// No other thread uses this head of `out`.
    pub(super) unsafe fn forward(job: &Job, head: [usize; 2], out: &View, log_sums: &mut [f32]) = forward_by
}

#[inline(always)]
unsafe fn forward_by<S: Simd>(job: &Job, head: [usize; 2], out: &View, log_sums: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { job.forward::<S>(head, out, log_sums) }
}
