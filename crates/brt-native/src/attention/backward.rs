//! The backward pass, head by head.

use std::ops::Range;

use super::{
    head::{Job, KEYS, TILE_QUERIES, VALUES},
    packed::{Packed, Sums},
    rows,
    scratch::{Logits, Rows},
    tile::{Factor, Into, ROWS, product},
    view::{Place, View},
};
use crate::{
    memory::Slots,
    simd::{Operand, Simd, Word, dot, kernel},
};

/// What the backward pass writes.
pub(super) struct Gradients {
    pub(super) queries: View,
    pub(super) pieces: [View; 2],
    pub(super) before: Option<[View; 2]>,
}

/// What the backward pass starts from.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    /// Of what the queries have read.
    pub(super) gradients: &'a View,
    /// Of each head from the first one on, block by block.
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
struct Scratch<T> {
    packed: [Packed<T>; 2],
    queries: Rows<T>,
    gradients: Rows<T>,
    /// Weights and gradients of logits of [`TILE_QUERIES`] queries.
    weights: Logits<T>,
    logits: Logits<T>,
    query_gradients: Rows<f32>,
    /// Of keys, but for the temperature, and values: zeros before and after a head.
    sums: [Rows<f32>; 2],
}

impl<T: Word> Scratch<T> {
    fn new(job: &Job) -> Self {
        let ([num_queries, width], num_keys) = (job.queries.size(), job.visible.num_keys);
        Self {
            packed: job.pack([Sums::Both, Sums::Features]),
            queries: Rows::zeros(num_queries, width),
            gradients: Rows::zeros(num_queries, width),
            weights: Logits::zeros(TILE_QUERIES, num_keys),
            logits: Logits::zeros(TILE_QUERIES, num_keys),
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
    unsafe fn backward<S: Simd, T: Operand<S>>(
        &self,
        scratch: &mut Scratch<T>,
        [row, head]: [usize; 2],
        from: Incoming,
        to: &Gradients,
        [bias, temperature]: [&mut [f32]; 2],
    ) {
        let Incoming { gradients, log_sums, flow } = from;
        let num_queries = self.queries.size()[0];
        for block in 0..self.num_blocks {
            let place = Place { block, row, head };
            // SAFETY: the caller's.
            unsafe {
                self.enter::<S, T>(&mut scratch.packed, place);
                for (rows, view) in
                    [(&mut scratch.queries, &self.queries), (&mut scratch.gradients, gradients)]
                {
                    rows.read::<S>(view, place, 0);
                    rows.make_across::<S>(0..num_queries, 0..rows.row_len());
                }
            }
            for start in (0..num_queries).step_by(TILE_QUERIES) {
                let queries = start..num_queries.min(start + TILE_QUERIES);
                let of_head = [&mut *bias, &mut *temperature];
                let log_sums = &log_sums[block * num_queries..];
                // SAFETY: the caller's.
                unsafe {
                    self.rows_backward::<S, T>(scratch, queries.clone(), (log_sums, head), of_head);
                    for i in queries.clone() {
                        let gradient = scratch.query_gradients.starting(i - start);
                        to.queries.write::<S>(place, i, gradient, self.temperature(head));
                    }
                    self.keys_backward::<S, T>(scratch, queries, flow);
                }
            }
            // SAFETY: the caller's.
            unsafe { self.leave::<S>(&mut scratch.sums, place, to, flow) };
        }
    }

    /// Weights and gradients of the logits of a tile of queries, and gradients of the queries, but for the temperature.
    /// `log_sums` are those of the block.
    ///
    /// # Safety
    /// As [`Self::backward`].
    #[inline(always)]
    unsafe fn rows_backward<S: Simd, T: Operand<S>>(
        &self,
        scratch: &mut Scratch<T>,
        queries: Range<usize>,
        (log_sums, head): (&[f32], usize),
        [bias, temperature_gradient]: [&mut [f32]; 2],
    ) {
        let (start, temperature) = (queries.start, self.temperature(head));
        let Scratch { packed, queries: rows, gradients, weights, logits, query_gradients, .. } = scratch;
        // SAFETY: the caller's.
        unsafe {
            self.logits::<S, T>(rows, &packed[KEYS], queries.clone(), weights);
            self.logits::<S, T>(gradients, &packed[VALUES], queries.clone(), logits);
            for i in queries.clone() {
                let seen = self.visible.keys(i);
                let weights = &mut weights.values.starting_mut(i - start)[seen.clone()];
                let logits = &mut logits.values.starting_mut(i - start)[seen.clone()];
                let (bias_of_row, multiplier) = (self.bias(head, i), self.multiplier(head, i));
                let factors = (temperature, multiplier);
                rows::softmax_backward::<S>(weights, logits, factors, bias_of_row, log_sums[i]);
                if !bias.is_empty() {
                    rows::add::<S>(&mut bias[self.visible.bias_start(i)..][..seen.len()], logits);
                }
            }
            self.clear_unseen(weights, queries.clone());
            self.clear_unseen(logits, queries.clone());
            let columns = self.read_columns(&queries, logits.row_len());
            weights.make_both::<S>(queries.len(), columns.clone());
            logits.make_both::<S>(queries.len(), columns);
            self.sums::<S, T>(logits, &packed[KEYS].rows, queries.clone(), query_gradients);
            let width = self.queries.size()[1];
            for i in queries {
                let gradient = &query_gradients.starting(i - start)[..width];
                temperature_gradient[0] += dot::<S, f32, T::Value>(gradient, &rows.starting(i)[..width]);
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
        scratch: &mut Scratch<T>,
        queries: Range<usize>,
        flow: Flow,
    ) {
        const { assert!(ROWS.is_multiple_of(T::VALUES), "register tiles are whole operands") };
        let width = self.queries.size()[1];
        let first_key = if flow == Flow::Stopped { self.own_start() } else { 0 };
        let Scratch { logits, queries: rows, weights, gradients, sums, .. } = scratch;
        let sources = [(logits.operands(), &*rows), (weights.operands(), &*gradients)];
        for first in (first_key..self.visible.num_keys).step_by(ROWS) {
            let seeing = self.visible.queries(first, queries.clone());
            if seeing.is_empty() {
                continue;
            }
            // Whole operands: a tile begins with one.
            let begin = seeing.start - seeing.start % T::VALUES;
            let depth = (seeing.end - begin).div_ceil(T::VALUES);
            for ((factors, rows), sums) in sources.iter().zip(sums.iter_mut()) {
                let (values, row) = factors.across(begin - queries.start);
                let factors = Factor { values: &values[first..], row: 1, column: row };
                let size = [depth, width];
                // SAFETY: the caller's.
                unsafe {
                    product::<S, T>(factors, rows.across(begin), sums.written(first), size, Into::Add);
                }
            }
        }
    }

    /// Writes the gradients of keys and values that no later block adds to.
    ///
    /// # Safety
    /// As [`Self::backward`].
    #[inline(always)]
    unsafe fn leave<S: Simd>(&self, sums: &mut [Rows<f32>; 2], place: Place, to: &Gradients, flow: Flow) {
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
                            sums.clear();
                        } else {
                            sums.advance_and_clear(own);
                        }
                    }
                    _ if self.is_shared && !is_last => (),
                    _ => {
                        let to = at(if self.is_shared { 0 } else { place.block });
                        sums.write::<S>(pieces, to, own, factor);
                        sums.clear();
                    }
                }
            }
        }
    }
}

kernel! {
    /// Writes the gradients of heads, by their number in `[B, H]`; adds those of the bias to the slot of each, which holds zeros,
    /// and that of the temperature to the slot's last value.
    ///
    /// # Safety
    /// No other thread uses these heads of `to` and `by_head`.
    pub(super) unsafe fn backward(
        job: &Job,
        heads: Range<usize>,
        from: Incoming,
        to: &Gradients,
        by_head: &Slots<f32>,
    ) = backward_by
}

#[inline(always)]
unsafe fn backward_by<S: Simd>(
    job: &Job,
    heads: Range<usize>,
    from: Incoming,
    to: &Gradients,
    by_head: &Slots<f32>,
) {
    // SAFETY: the caller's.
    unsafe {
        if S::Bfloat16::VALUES > 1 && job.is_bfloat16() {
            backward_heads::<S, S::Bfloat16>(job, heads, from, to, by_head);
        } else {
            backward_heads::<S, f32>(job, heads, from, to, by_head);
        }
    }
}

/// # Safety
/// The processor has the instruction set of `S`; as [`backward`].
#[inline(always)]
unsafe fn backward_heads<S: Simd, T: Operand<S>>(
    job: &Job,
    heads: Range<usize>,
    from: Incoming,
    to: &Gradients,
    by_head: &Slots<f32>,
) {
    let mut scratch = Scratch::<T>::new(job);
    let of_head = job.num_blocks * job.queries.size()[0];
    for idx in heads {
        let from = Incoming { log_sums: &from.log_sums[idx * of_head..], ..from };
        // SAFETY: the caller's.
        unsafe {
            let (temperature, bias) =
                by_head.of(idx).split_last_mut().expect("a temperature behind the bias");
            let of_head = [bias, std::slice::from_mut(temperature)];
            job.backward::<S, T>(&mut scratch, job.head(idx), from, to, of_head);
        }
    }
}
