//! The backward pass of one head.

use std::ops::Range;

use super::{
    head::{Job, KEYS, TILE_QUERIES, VALUES},
    packed::{Aligned, Order, Packed, Rows, padded_len},
    rows,
    tile::{Factor, Into, ROWS, product},
    view::{Place, View},
};
use crate::simd::{Simd, dot, kernel};

/// What the backward pass of one head writes.
pub(super) struct Gradients {
    pub(super) queries: View,
    pub(super) pieces: [View; 2],
    pub(super) before: Option<[View; 2]>,
}

/// What the backward pass of one head starts from.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    /// Of what the queries have read.
    pub(super) gradients: &'a View,
    /// Block by block.
    pub(super) log_sums: &'a [f32],
    pub(super) flow: Flow,
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
        from: Incoming,
        to: &Gradients,
        [bias, temperature]: [&mut [f32]; 2],
    ) {
        let Incoming { gradients, log_sums, flow } = from;
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
            query_gradients: Rows::zeros(TILE_QUERIES, width),
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
                let of_head = [&mut *bias, &mut *temperature];
                // SAFETY: the caller's.
                unsafe {
                    let log_sums = &log_sums[block * num_queries..];
                    self.rows_backward::<S>(
                        &mut tile,
                        &packed,
                        queries.clone(),
                        (log_sums, place.head),
                        of_head,
                    );
                    for i in queries.clone() {
                        to.queries.write::<S>(place, i, tile.query_gradients.starting(i - start));
                    }
                    self.keys_backward::<S>(&mut tile, queries, flow);
                }
            }
            // SAFETY: the caller's.
            unsafe { self.leave::<S>(&mut tile.sums, place, to, flow) };
        }
    }

    /// Weights and gradients of the logits of a tile of queries, and gradients of the queries. `log_sums` are those of the block.
    ///
    /// # Safety
    /// As [`Self::backward`].
    #[inline(always)]
    unsafe fn rows_backward<S: Simd>(
        &self,
        tile: &mut Tile,
        packed: &[Packed; 2],
        queries: Range<usize>,
        (log_sums, head): (&[f32], usize),
        [bias, temperature]: [&mut [f32]; 2],
    ) {
        let width = self.queries.size()[1];
        let (row, start) = (tile.row, queries.start);
        let (weights, logits) = (&mut tile.weights, &mut tile.logits);
        // SAFETY: the caller's.
        unsafe {
            self.logits::<S>(&tile.queries, &packed[KEYS], queries.clone(), (weights, row));
            self.logits::<S>(&tile.gradients, &packed[VALUES], queries.clone(), (logits, row));
            for i in queries.clone() {
                let seen = self.visible.keys(i);
                let weights = &mut weights[(i - start) * row..][seen.clone()];
                let logits = &mut logits[(i - start) * row..][seen.clone()];
                let (bias_of_row, multiplier) = (self.bias(head, i), self.multiplier(head, i));
                rows::softmax_backward::<S>(weights, logits, bias_of_row, multiplier, log_sums[i]);
                if !bias.is_empty() {
                    rows::add::<S>(&mut bias[self.visible.bias_start(i)..][..seen.len()], logits);
                }
            }
            self.clear_unseen(weights, row, queries.clone());
            self.clear_unseen(logits, row, queries.clone());
            let sums = &mut tile.query_gradients;
            self.sums::<S>((logits, row), &packed[KEYS].rows, queries.clone(), sums);
            for i in queries {
                let gradient = &mut sums.values[(i - start) * sums.row..][..width];
                temperature[0] += dot::<S, f32, f32>(gradient, &tile.unscaled.starting(i)[..width]);
                rows::scale::<S>(gradient, self.temperature(head));
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
                let (rows, sum_row) = ((rows.starting(seeing.start), rows.row), sums.row);
                let shape = [seeing.len(), width];
                // SAFETY: the caller's.
                unsafe {
                    product::<S>(factors, rows, (sums.starting_mut(first), sum_row), shape, Into::Add);
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

kernel! {
    /// # Safety
    /// No other thread uses this head of `to`.
    pub(super) unsafe fn backward(
        job: &Job,
        head: [usize; 2],
        from: Incoming,
        to: &Gradients,
        of_head: [&mut [f32]; 2],
    ) = backward_by
}

#[inline(always)]
unsafe fn backward_by<S: Simd>(
    job: &Job,
    head: [usize; 2],
    from: Incoming,
    to: &Gradients,
    of_head: [&mut [f32]; 2],
) {
    // SAFETY: the caller's.
    unsafe { job.backward::<S>(head, from, to, of_head) }
}
