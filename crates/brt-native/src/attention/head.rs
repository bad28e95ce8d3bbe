//! One head of one row of the batch, over all of its blocks: forward and backward.

use std::ops::Range;

use super::{
    band::Visible,
    packed::{Aligned, Order, Packed, Rows, padded_len},
    rows,
    tile::{Factor, Into, ROWS, product},
    view::{Floats, Place, View},
};
use crate::{
    norm::dot,
    simd::{MAX_LANES, Simd},
};

/// Queries whose logits are kept at once in the backward pass.
const TILE_QUERIES: usize = 8 * ROWS;

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
const KEYS: usize = 0;
const VALUES: usize = 1;

impl Job {
    fn piece_len(&self) -> usize {
        self.pieces[KEYS].size()[0]
    }

    /// Row from which on the keys of a block itself stand.
    fn own_start(&self) -> usize {
        if self.before.is_some() { self.piece_len() } else { 0 }
    }

    fn pack(&self, [keys, values]: [Order; 2]) -> [Packed; 2] {
        let width = self.queries.size()[1];
        [keys, values].map(|order| Packed::new(self.visible.num_keys, width, order))
    }

    /// Brings keys and values of a block into their places.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn enter<S: Simd>(&self, packed: &mut [Packed; 2], place: Place) {
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

    fn temperature(&self, head: usize) -> f32 {
        self.temperature.as_ref().map_or(1., |heads| heads[head])
    }

    fn bias(&self, head: usize, i: usize) -> Option<&[f32]> {
        self.bias.as_ref().map(|heads| &heads[head][self.visible.bias_start(i)..])
    }

    fn multiplier(&self, head: usize, i: usize) -> Option<&[f32]> {
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
        let mut logits = Aligned::zeros(ROWS * logit_row);
        let mut read = Rows::zeros(ROWS, width);
        for block in 0..self.num_blocks {
            let place = Place { block, row, head };
            // SAFETY: the caller's.
            unsafe {
                self.enter::<S>(&mut packed, place);
                queries.read::<S>(&self.queries, place, 0);
                rows::scale::<S>(&mut queries.values, self.temperature(head));
            }
            for first in (0..num_queries).step_by(ROWS) {
                let num_rows = ROWS.min(num_queries - first);
                let mut factors = [0.; ROWS];
                // SAFETY: the caller's.
                unsafe {
                    self.logits::<S>(&queries, &packed[KEYS], first, (&mut logits, logit_row));
                    for i in 0..num_rows {
                        let (seen, logits) = (self.visible.keys(first + i), &mut logits[i * logit_row..]);
                        let row = &mut logits[seen];
                        let (log_sum, factor) = rows::softmax::<S>(row, self.bias(head, first + i));
                        if let Some(multiplier) = self.multiplier(head, first + i) {
                            rows::multiply::<S>(row, multiplier);
                        }
                        log_sums[block * num_queries + first + i] = log_sum;
                        factors[i] = factor;
                    }
                    let seen = self.visible.keys_of_rows(first);
                    self.clear_unseen(&mut logits, logit_row, first, num_rows);
                    let weights = Factor { values: &logits[seen.start..], row: logit_row, column: 1 };
                    let values = (packed[VALUES].rows.from(seen.start), packed[VALUES].rows.row);
                    let shape = [seen.len(), width];
                    if seen.is_empty() {
                        read.values.fill(0.);
                    }
                    product::<S>(weights, values, (&mut read.values, read.row), shape, Into::Replace);
                    for (i, factor) in factors.iter().enumerate().take(num_rows) {
                        let row = &mut read.values[i * read.row..][..width];
                        rows::scale::<S>(row, *factor);
                        out.write::<S>(place, first + i, row);
                    }
                }
            }
        }
    }

    /// Writes the products of [`ROWS`] queries and the keys that any of them sees.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn logits<S: Simd>(
        &self,
        queries: &Rows,
        keys: &Packed,
        first: usize,
        (logits, logit_row): (&mut [f32], usize),
    ) {
        let mut seen = self.visible.keys_of_rows(first);
        seen.start -= seen.start % MAX_LANES; // Whole lines of the cache.
        let columns = keys.columns.as_ref().expect("keys or values column by column");
        let (width, queries) =
            (keys.width(), Factor { values: queries.from(first), row: queries.row, column: 1 });
        let logits = &mut logits[seen.start..];
        // SAFETY: the caller's.
        unsafe {
            let columns = (&columns.values[seen.start..], columns.row);
            product::<S>(queries, columns, (logits, logit_row), [width, seen.len()], Into::Replace);
        }
    }

    /// Writes zeros where a query does not see a key that one in a register tile with it, or next to it, does.
    fn clear_unseen(&self, weights: &mut [f32], weight_row: usize, first: usize, num_rows: usize) {
        let all = self.visible.keys_of_rows(first);
        let all = all.start.saturating_sub(ROWS)..(all.end + ROWS).min(weight_row);
        for (i, weights) in weights.chunks_mut(weight_row).take(num_rows).enumerate() {
            let seen = self.visible.keys(first + i);
            weights[all.start..seen.start].fill(0.);
            weights[seen.end..all.end].fill(0.);
        }
    }
}

/// What the backward pass of one head writes.
pub(super) struct Gradients {
    pub(super) queries: View,
    pub(super) pieces: [View; 2],
    pub(super) before: Option<[View; 2]>,
}

/// Whether gradients reach the block before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Through,
    Stopped,
}

/// Scratch of the backward pass.
struct Tile {
    /// As they are, and multiplied by the temperature.
    unscaled: Rows,
    queries: Rows,
    gradients: Rows,
    /// Weights and gradients of logits of [`TILE_QUERIES`] queries.
    weights: Aligned,
    logits: Aligned,
    row: usize,
    query_gradients: Rows,
    /// Of keys and values.
    sums: [Rows; 2],
}

impl Job {
    /// Writes all gradients of one head, and adds those of its bias and its temperature.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, and no other thread uses this head of `to`.
    #[inline(always)]
    pub(super) unsafe fn backward<S: Simd>(
        &self,
        [row, head]: [usize; 2],
        gradients: &View,
        log_sums: &[f32],
        to: &Gradients,
        flow: Flow,
        [bias, temperature]: [&mut [f32]; 2],
    ) {
        let [num_queries, width] = self.queries.size();
        let num_keys = self.visible.num_keys;
        let mut packed = self.pack([Order::Both, Order::Both]);
        let logit_row = padded_len(num_keys);
        let mut tile = Tile {
            unscaled: Rows::zeros(num_queries, width),
            queries: Rows::zeros(num_queries, width),
            gradients: Rows::zeros(num_queries, width),
            weights: Aligned::zeros(TILE_QUERIES * logit_row),
            logits: Aligned::zeros(TILE_QUERIES * logit_row),
            row: logit_row,
            query_gradients: Rows::zeros(ROWS, width),
            sums: [Rows::zeros(num_keys, width), Rows::zeros(num_keys, width)],
        };
        for block in 0..self.num_blocks {
            let place = Place { block, row, head };
            // SAFETY: the caller's.
            unsafe {
                self.enter::<S>(&mut packed, place);
                tile.unscaled.read::<S>(&self.queries, place, 0);
                tile.queries.values.copy_from_slice(&tile.unscaled.values);
                rows::scale::<S>(&mut tile.queries.values, self.temperature(head));
                tile.gradients.read::<S>(gradients, place, 0);
            }
            for start in (0..num_queries).step_by(TILE_QUERIES) {
                let queries = start..num_queries.min(start + TILE_QUERIES);
                // SAFETY: the caller's.
                unsafe {
                    for first in queries.clone().step_by(ROWS) {
                        self.rows_backward::<S>(
                            &mut tile,
                            &packed,
                            (place, start, first),
                            log_sums,
                            [bias, temperature],
                            &to.queries,
                        );
                    }
                    self.keys_backward::<S>(&mut tile, queries, flow);
                }
            }
            // SAFETY: the caller's.
            unsafe { self.leave::<S>(&mut tile.sums, place, to, flow) };
        }
    }

    /// Weights and gradients of the logits of [`ROWS`] queries; gradients of the queries are written.
    ///
    /// # Safety
    /// As [`Self::backward`].
    #[inline(always)]
    unsafe fn rows_backward<S: Simd>(
        &self,
        tile: &mut Tile,
        packed: &[Packed; 2],
        (place, start, first): (Place, usize, usize),
        log_sums: &[f32],
        [bias, temperature]: [&mut [f32]; 2],
        to: &View,
    ) {
        let [num_queries, width] = self.queries.size();
        let num_rows = ROWS.min(num_queries - first);
        let at = (first - start) * tile.row;
        let (weights, logits) = (&mut tile.weights[at..], &mut tile.logits[at..]);
        // SAFETY: the caller's.
        unsafe {
            self.logits::<S>(&tile.queries, &packed[KEYS], first, (weights, tile.row));
            self.logits::<S>(&tile.gradients, &packed[VALUES], first, (logits, tile.row));
            for i in 0..num_rows {
                let (query, seen) = (first + i, self.visible.keys(first + i));
                let weights = &mut weights[i * tile.row..][seen.clone()];
                let logits = &mut logits[i * tile.row..][seen.clone()];
                let multiplier = self.multiplier(place.head, query);
                let log_sum = log_sums[place.block * num_queries + query];
                rows::softmax_backward::<S>(
                    weights,
                    logits,
                    self.bias(place.head, query),
                    multiplier,
                    log_sum,
                );
                if !bias.is_empty() {
                    rows::add::<S>(&mut bias[self.visible.bias_start(query)..][..seen.len()], logits);
                }
            }
            self.clear_unseen(weights, tile.row, first, num_rows);
            self.clear_unseen(logits, tile.row, first, num_rows);
            let seen = self.visible.keys_of_rows(first);
            let sums = &mut tile.query_gradients;
            if seen.is_empty() {
                sums.values.fill(0.);
            }
            let logits = Factor { values: &logits[seen.start..], row: tile.row, column: 1 };
            let keys = (packed[KEYS].rows.from(seen.start), packed[KEYS].rows.row);
            product::<S>(logits, keys, (&mut sums.values, sums.row), [seen.len(), width], Into::Replace);
            for i in 0..num_rows {
                let gradient = &mut sums.values[i * sums.row..][..width];
                let query = &tile.unscaled.from(first + i)[..width];
                temperature[0] += dot::<S>(gradient, query);
                rows::scale::<S>(gradient, self.temperature(place.head));
                to.write::<S>(place, first + i, gradient);
            }
        }
    }

    /// Adds to the gradients of keys and values what comes from some queries.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn keys_backward<S: Simd>(&self, tile: &mut Tile, queries: Range<usize>, flow: Flow) {
        let width = self.queries.size()[1];
        let first_key = if flow == Flow::Stopped { self.own_start() } else { 0 };
        let Tile { weights, logits, row, sums, .. } = tile;
        let sources = [(&*logits, &tile.queries), (&*weights, &tile.gradients)];
        let start = queries.start;
        for first in (first_key..self.visible.num_keys).step_by(ROWS) {
            let seeing = self.visible.queries(first, queries.clone());
            if seeing.is_empty() {
                continue;
            }
            for ((factors, rows), sums) in sources.iter().zip(sums.iter_mut()) {
                let factors = &factors[(seeing.start - start) * *row + first..];
                let factors = Factor { values: factors, row: 1, column: *row };
                let (rows, sum_row) = ((rows.from(seeing.start), rows.row), sums.row);
                let shape = [seeing.len(), width];
                // SAFETY: the caller's.
                unsafe {
                    product::<S>(factors, rows, (sums.from_mut(first), sum_row), shape, Into::Add);
                }
            }
        }
    }

    /// Writes the gradients of keys and values that no later block adds to.
    ///
    /// # Safety
    /// As [`Self::backward`].
    #[inline(always)]
    unsafe fn leave<S: Simd>(&self, sums: &mut [Rows; 2], place: Place, to: &Gradients, flow: Flow) {
        let is_last = place.block + 1 == self.num_blocks;
        let (own, at) = (self.own_start(), |block| Place { block, ..place });
        for (idx, sums) in sums.iter_mut().enumerate() {
            let pieces = &to.pieces[idx];
            // SAFETY: the caller's.
            unsafe {
                match (&self.before, flow) {
                    (Some(_), Flow::Through) => {
                        match (place.block.checked_sub(1), &to.before) {
                            (Some(previous), _) => sums.write::<S>(pieces, at(previous), 0),
                            (None, Some(before)) => sums.write::<S>(&before[idx], place, 0),
                            (None, None) => (),
                        }
                        if is_last {
                            sums.write::<S>(pieces, place, own);
                        }
                        sums.advance(own);
                    }
                    _ if self.is_shared && !is_last => (),
                    _ => {
                        sums.write::<S>(pieces, at(if self.is_shared { 0 } else { place.block }), own);
                        sums.values.fill(0.);
                    }
                }
            }
        }
    }
}
