//! The backward pass of one head.

use std::ops::Range;

use super::{
    head::{Job, KEYS, TILE_QUERIES, VALUES},
    packed::{Packed, Rows, Sums, padded_len},
    rows,
    tile::{Factor, Into, ROWS, product},
    view::{Place, View},
};
use crate::simd::{Operand, Simd, Word, dot, kernel};

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
struct Tile<T> {
    queries: Rows<T>,
    gradients: Rows<T>,
    /// Weights and gradients of logits of [`TILE_QUERIES`] queries.
    weights: Rows<T>,
    logits: Rows<T>,
    query_gradients: Rows,
    /// Of keys, but for the temperature, and values.
    sums: [Rows; 2],
}

impl<T: Word> Tile<T> {
    fn new([num_queries, num_keys, width]: [usize; 3]) -> Self {
        let logits = || Rows::zeros(TILE_QUERIES, padded_len(num_keys));
        Self {
            queries: Rows::zeros(num_queries, width),
            gradients: Rows::zeros(num_queries, width),
            weights: logits(),
            logits: logits(),
            query_gradients: Rows::zeros(TILE_QUERIES, width),
            sums: [Rows::zeros(num_keys, width), Rows::zeros(num_keys, width)],
        }
    }
}

impl Job {
    /// Writes all gradients of one head, and adds those of its bias and its temperature.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, and no other thread uses this head of `to`.
    #[inline(always)]
    pub(super) unsafe fn backward<S: Simd, T: Operand<S>>(
        &self,
        [row, head]: [usize; 2],
        from: Incoming,
        to: &Gradients,
        [bias, temperature]: [&mut [f32]; 2],
    ) {
        let Incoming { gradients, log_sums, flow } = from;
        let [num_queries, width] = self.queries.size();
        let mut packed = self.pack::<T>([Sums::Both, Sums::Features]);
        let mut tile = Tile::<T>::new([num_queries, self.visible.num_keys, width]);
        for block in 0..self.num_blocks {
            let place = Place { block, row, head };
            // SAFETY: the caller's.
            unsafe {
                self.enter::<S, T>(&mut packed, place);
                for (rows, view) in [(&mut tile.queries, &self.queries), (&mut tile.gradients, gradients)] {
                    rows.read::<S>(view, place, 0);
                    rows.make_along::<S>(0..num_queries, 0..rows.row);
                    rows.make_across::<S>(0..num_queries, 0..rows.row);
                }
            }
            for start in (0..num_queries).step_by(TILE_QUERIES) {
                let queries = start..num_queries.min(start + TILE_QUERIES);
                let of_head = [&mut *bias, &mut *temperature];
                // SAFETY: the caller's.
                unsafe {
                    let log_sums = &log_sums[block * num_queries..];
                    self.rows_backward::<S, T>(
                        &mut tile,
                        &packed,
                        queries.clone(),
                        (log_sums, head),
                        of_head,
                    );
                    for i in queries.clone() {
                        to.queries.write::<S>(place, i, tile.query_gradients.starting(i - start));
                    }
                    self.keys_backward::<S, T>(&mut tile, queries, flow);
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
    unsafe fn rows_backward<S: Simd, T: Operand<S>>(
        &self,
        tile: &mut Tile<T>,
        packed: &[Packed<T>; 2],
        queries: Range<usize>,
        (log_sums, head): (&[f32], usize),
        [bias, temperature_gradient]: [&mut [f32]; 2],
    ) {
        let (start, temperature) = (queries.start, self.temperature(head));
        let Tile { weights, logits, query_gradients, .. } = tile;
        // SAFETY: the caller's.
        unsafe {
            self.logits::<S, T>(&tile.queries, &packed[KEYS], queries.clone(), weights);
            self.logits::<S, T>(&tile.gradients, &packed[VALUES], queries.clone(), logits);
            for i in queries.clone() {
                let seen = self.visible.keys(i);
                let weights = &mut weights.starting_mut(i - start)[seen.clone()];
                let logits = &mut logits.starting_mut(i - start)[seen.clone()];
                let (bias_of_row, multiplier) = (self.bias(head, i), self.multiplier(head, i));
                let factors = (temperature, multiplier);
                rows::softmax_backward::<S>(weights, logits, factors, bias_of_row, log_sums[i]);
                if !bias.is_empty() {
                    rows::add::<S>(&mut bias[self.visible.bias_start(i)..][..seen.len()], logits);
                }
            }
            self.clear_unseen(weights, queries.clone());
            self.clear_unseen(logits, queries.clone());
            let (of_tile, columns) = (0..queries.len(), self.read_columns(&queries, logits.row));
            weights.make_across::<S>(of_tile.clone(), columns.clone());
            logits.make_across::<S>(of_tile.clone(), columns.clone());
            logits.make_along::<S>(of_tile, columns);
            self.sums::<S, T>(logits, &packed[KEYS].rows, queries.clone(), query_gradients);
            let width = self.queries.size()[1];
            for i in queries {
                let gradient = &mut query_gradients.starting_mut(i - start)[..width];
                let query = &tile.queries.starting(i)[..width];
                temperature_gradient[0] += dot::<S, f32, f32>(gradient, query);
                rows::scale::<S>(gradient, temperature);
            }
        }
    }

    /// Adds to the gradients of keys, but for the temperature, and values what comes from some queries.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn keys_backward<S: Simd, T: Operand<S>>(
        &self,
        tile: &mut Tile<T>,
        queries: Range<usize>,
        flow: Flow,
    ) {
        const { assert!(ROWS.is_multiple_of(T::VALUES), "register tiles are whole operands") };
        let width = self.queries.size()[1];
        let first_key = if flow == Flow::Stopped { self.own_start() } else { 0 };
        let sources = [(&tile.logits, &tile.queries), (&tile.weights, &tile.gradients)];
        for first in (first_key..self.visible.num_keys).step_by(ROWS) {
            let seeing = self.visible.queries(first, queries.clone());
            if seeing.is_empty() {
                continue;
            }
            // Whole operands: a tile begins with one.
            let begin = seeing.start - seeing.start % T::VALUES;
            let depth = (seeing.end - begin).div_ceil(T::VALUES);
            for ((factors, rows), sums) in sources.iter().zip(tile.sums.iter_mut()) {
                let (values, row) = factors.across(begin - queries.start);
                let factors = Factor { values: &values[first..], row: 1, column: row };
                let sum_row = sums.row;
                let sums = (sums.starting_mut(first), sum_row);
                // SAFETY: the caller's.
                unsafe {
                    product::<S, T>(factors, rows.across(begin), sums, [depth, width], Into::Add);
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
            let factor = if idx == KEYS { self.temperature(place.head) } else { 1. };
            // SAFETY: the caller's.
            unsafe {
                match (&self.before, flow) {
                    (Some(_), Flow::Through) => {
                        match (place.block.checked_sub(1), &to.before) {
                            (Some(previous), _) => sums.write::<S>(pieces, at(previous), 0, factor),
                            (None, Some(before)) => sums.write::<S>(&before[idx], place, 0, factor),
                            (None, None) => (),
                        }
                        if is_last {
                            sums.write::<S>(pieces, place, own, factor);
                        }
                        sums.advance(own);
                    }
                    _ if self.is_shared && !is_last => (),
                    _ => {
                        let to = at(if self.is_shared { 0 } else { place.block });
                        sums.write::<S>(pieces, to, own, factor);
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
    unsafe {
        if S::Bfloat16::VALUES > 1 && job.is_bfloat16() {
            job.backward::<S, S::Bfloat16>(head, from, to, of_head);
        } else {
            job.backward::<S, f32>(head, from, to, of_head);
        }
    }
}
