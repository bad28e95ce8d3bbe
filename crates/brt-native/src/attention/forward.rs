//! The forward pass, head by head.

use std::ops::Range;

use super::{
    head::{Job, KEYS, TILE_QUERIES, VALUES},
    packed::{Packed, Sums},
    rows,
    scratch::{Logits, Rows},
    view::{Place, View},
};
use crate::{
    memory::Slots,
    simd::{Operand, Simd, Word, kernel},
};

/// Scratch of the forward pass.
struct Scratch<T> {
    packed: [Packed<T>; 2],
    queries: Rows<T>,
    /// Of [`TILE_QUERIES`] queries.
    weights: Logits<T>,
    read: Rows<f32>,
}

impl<T: Word> Scratch<T> {
    fn new(job: &Job) -> Self {
        let [num_queries, width] = job.queries.size();
        Self {
            packed: job.pack([Sums::Features, Sums::Keys]),
            queries: Rows::zeros(num_queries, width),
            weights: Logits::zeros(TILE_QUERIES, job.visible.num_keys),
            read: Rows::zeros(TILE_QUERIES, width),
        }
    }
}

impl Job {
    /// Reads all blocks of one head; writes what they read to `out`, and the logarithm of the sum of each query's
    /// exponentials to `log_sums`, block by block.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, and no other thread uses this head of `out`.
    #[inline(always)]
    unsafe fn forward<S: Simd, T: Operand<S>>(
        &self,
        scratch: &mut Scratch<T>,
        [row, head]: [usize; 2],
        out: &View,
        log_sums: &mut [f32],
    ) {
        let num_queries = self.queries.size()[0];
        for block in 0..self.num_blocks {
            let place = Place { block, row, head };
            // SAFETY: the caller's.
            unsafe {
                self.enter::<S, T>(&mut scratch.packed, place);
                scratch.queries.read::<S>(&self.queries, place, 0);
            }
            let log_sums = &mut log_sums[block * num_queries..];
            for start in (0..num_queries).step_by(TILE_QUERIES) {
                let tile = start..num_queries.min(start + TILE_QUERIES);
                // SAFETY: the caller's.
                unsafe {
                    let factors = self.weights::<S, T>(scratch, (tile.clone(), head), log_sums);
                    let Scratch { packed, weights, read, .. } = scratch;
                    self.sums::<S, T>(weights, &packed[VALUES].rows, tile.clone(), read);
                    for (i, factor) in tile.zip(factors) {
                        out.write::<S>(place, i, read.starting(i - start), factor);
                    }
                }
            }
        }
    }

    /// Writes the weights of a tile of queries, each to be multiplied by the factor of its query, which is returned, and the
    /// logarithms of their sums of exponentials to those of the block.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    #[inline(always)]
    unsafe fn weights<S: Simd, T: Operand<S>>(
        &self,
        scratch: &mut Scratch<T>,
        (tile, head): (Range<usize>, usize),
        log_sums: &mut [f32],
    ) -> [f32; TILE_QUERIES] {
        let Scratch { packed, queries, weights, .. } = scratch;
        let mut factors = [0.; TILE_QUERIES];
        // SAFETY: the caller's.
        unsafe {
            self.logits::<S, T>(queries, &packed[KEYS], tile.clone(), weights);
            for i in tile.clone() {
                let at = i - tile.start;
                let row = &mut weights.values.starting_mut(at)[self.visible.keys(i)];
                (log_sums[i], factors[at]) =
                    rows::softmax::<S>(row, self.temperature(head), self.bias(head, i));
                if let Some(multiplier) = self.multiplier(head, i) {
                    rows::multiply::<S>(row, multiplier);
                }
            }
            self.clear_unseen(weights, tile.clone());
            weights.make_along::<S>(tile.len(), self.read_columns(&tile, weights.row_len()));
        }
        factors
    }
}

kernel! {
    /// Reads heads, by their number in `[B, H]`.
    ///
    /// # Safety
    /// No other thread uses these heads of `out` and `log_sums`.
    pub(super) unsafe fn forward(job: &Job, heads: Range<usize>, out: &View, log_sums: &Slots<f32>) = forward_by
}

#[inline(always)]
unsafe fn forward_by<S: Simd>(job: &Job, heads: Range<usize>, out: &View, log_sums: &Slots<f32>) {
    // SAFETY: the caller's.
    unsafe {
        if S::Bfloat16::VALUES > 1 && job.is_bfloat16() {
            forward_heads::<S, S::Bfloat16>(job, heads, out, log_sums);
        } else {
            forward_heads::<S, f32>(job, heads, out, log_sums);
        }
    }
}

/// # Safety
/// The processor has the instruction set of `S`; as [`forward`].
#[inline(always)]
unsafe fn forward_heads<S: Simd, T: Operand<S>>(
    job: &Job,
    heads: Range<usize>,
    out: &View,
    log_sums: &Slots<f32>,
) {
    let mut scratch = Scratch::<T>::new(job);
    for idx in heads {
        // SAFETY: the caller's.
        unsafe { job.forward::<S, T>(&mut scratch, job.head(idx), out, log_sums.of(idx)) };
    }
}
