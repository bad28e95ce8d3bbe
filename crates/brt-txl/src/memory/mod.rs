//! kNN memory: a layer that also attends to far earlier keys and values, found by their similarity.
//!
//! Source: *Memorizing Transformers*, arXiv 2203.08913, as in the official code of *Block-Recurrent Transformers*.

use brt_ops::{Queries, Scope, composed_attention, dims, expect_shape, init::Init, probe};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Scores of queries and keys that are held at once; the store is searched in pieces of about this size, of one slot in
/// each column at least.
const MAX_SCORES: i64 = 1 << 23;
/// Score of a slot that nothing was written to.
const EMPTY: f64 = -1e6;

/// Size of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Index of the layer that has it; negative ones count from the top.
    pub layer: i64,
    /// Number of keys that it holds for each row and head; a multiple of `num_neighbours`, at least a window.
    pub capacity: i64,
    /// Number of keys that each query retrieves.
    pub num_neighbours: i64,
    /// Whether the layer's attention to its window keeps its position information (2022 release) or has none (2025).
    pub local_position: bool,
}

/// First-in-first-out store of keys and values, one for each row and head. Gradients never reach it.
#[derive(Debug)]
pub struct KnnMemory {
    /// `[B, H, capacity, D]`.
    pub keys: Tensor,
    /// `[B, H, capacity, D]`.
    pub values: Tensor,
    /// Number of tokens written since the row's document began, int64 `[B]`; the next goes to this modulo the capacity.
    pub num_written: Tensor,
}

/// What queries retrieved: `[B, H, len, neighbours, D]` each.
#[derive(Debug)]
pub struct Neighbours {
    /// Keys; zeros where the memory has too few.
    pub keys: Tensor,
    /// Values; zeros where the memory has too few.
    pub values: Tensor,
}

impl KnnMemory {
    /// Returns an empty memory, `shape` being `[B, H, capacity, D]`.
    pub fn empty(shape: [i64; 4], device: Device) -> Self {
        let zeros = || Tensor::zeros(shape, (Kind::Float, device));
        let num_written = Tensor::zeros([shape[0]], (Kind::Int64, device));
        Self { keys: zeros(), values: zeros(), num_written }
    }

    /// Returns the memory empty in the rows where a document starts.
    ///
    /// # Shapes
    /// `start_of_sequence` (bool): `[B]`.
    #[track_caller]
    pub fn reset_rows(&self, start_of_sequence: &Tensor) -> Self {
        expect_shape("start_of_sequence", start_of_sequence, &self.num_written.size());
        let num_written = self.num_written.masked_fill(start_of_sequence, 0);
        Self { num_written, ..self.map(Tensor::shallow_clone) }
    }

    /// Returns a memory made of `f` of every tensor.
    pub fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Self {
        Self { keys: f(&self.keys), values: f(&self.values), num_written: f(&self.num_written) }
    }

    /// Finds `num_neighbours` keys with a high product for each query.
    ///
    /// The slots are dealt to as many columns in turn, and the best of each column is taken: not quite the best of all,
    /// but found in one pass, and what the official code does. No tensor of all queries and all keys is made.
    ///
    /// # Shapes
    /// `queries`: `[B, H, len, D]`; `num_neighbours` divides the capacity.
    #[track_caller]
    pub fn retrieve(&self, queries: &Tensor, num_neighbours: i64) -> Neighbours {
        self.retrieve_among(queries, num_neighbours, self.most_written())
    }

    /// As [`Self::retrieve`], given the most tokens that were written to a row.
    #[track_caller]
    fn retrieve_among(&self, queries: &Tensor, num_neighbours: i64, most_written: i64) -> Neighbours {
        let capacity = dims::<4>("memory", &self.keys)[2];
        assert!(
            num_neighbours > 0 && capacity % num_neighbours == 0,
            "num_neighbours: expected a divisor of the capacity {capacity}, got {num_neighbours}"
        );
        let slots = tch::no_grad(|| self.best_slots(queries, num_neighbours, most_written)); // [B, H, len, neighbours]
        let [_, _, len, _] = dims("slots", &slots);
        let written = slots.less_tensor(&self.num_written.view([-1, 1, 1, 1])).unsqueeze(-1);
        let flat = slots.flatten(2, 3).unsqueeze(-1);
        let gather = |store: &Tensor| {
            let head_dim = store.size()[3];
            let found = store.gather(2, &flat.expand([-1, -1, -1, head_dim], false), false);
            found.unflatten(2, [len, num_neighbours]) * &written
        };
        Neighbours { keys: gather(&self.keys), values: gather(&self.values) }
    }

    /// Returns the slot of the highest score in each column, `[B, H, len, neighbours]`.
    fn best_slots(&self, queries: &Tensor, num_neighbours: i64, most_written: i64) -> Tensor {
        let [batch, num_heads, len, _] = dims("queries", queries);
        let [_, _, capacity, _] = dims("keys", &self.keys);
        let options = (Kind::Int64, queries.device());
        let column = Tensor::arange(num_neighbours, options);
        let rows_at_once = (MAX_SCORES / (batch * num_heads * len * num_neighbours)).max(1);
        let mut best: Option<(Tensor, Tensor)> = None; // Scores and slots so far.
        for start in (0..most_written.min(capacity)).step_by((rows_at_once * num_neighbours) as usize) {
            let num_slots = (rows_at_once * num_neighbours).min(capacity - start);
            let keys = self.keys.narrow(2, start, num_slots);
            let slot = Tensor::arange_start(start, start + num_slots, options);
            let empty = slot.greater_equal_tensor(&self.num_written.view([-1, 1, 1, 1])); // [B, 1, 1, slots]
            let scores = queries.matmul(&keys.transpose(-2, -1)).masked_fill(&empty, EMPTY);
            let (scores, rows) = scores.unflatten(-1, [-1, num_neighbours]).max_dim(-2, false);
            let slots = rows * num_neighbours + &column + start; // [B, H, len, neighbours]
            best = Some(match best {
                None => (scores, slots),
                Some((best_scores, best_slots)) => {
                    let better = scores.greater_tensor(&best_scores);
                    (scores.where_self(&better, &best_scores), slots.where_self(&better, &best_slots))
                }
            });
        }
        best.map_or_else(|| column.expand([batch, num_heads, len, -1], false), |(_, slots)| slots)
    }

    /// Returns the most tokens that were written to a row; waits for the device.
    fn most_written(&self) -> i64 {
        self.num_written.max().int64_value(&[])
    }

    /// Returns the memory with the keys and values of a block written over the oldest ones.
    ///
    /// # Shapes
    /// `keys`, `values`: `[B, H, len, D]`, `len` at most the capacity.
    #[must_use]
    #[track_caller]
    pub fn append(&self, keys: &Tensor, values: &Tensor) -> Self {
        let mut next = self.map(Tensor::copy);
        next.write(keys, values);
        next
    }

    /// As [`Self::append`], in place: for a memory whose tensors nobody else holds.
    ///
    /// # Shapes
    /// `keys`, `values`: `[B, H, len, D]`, `len` at most the capacity.
    #[track_caller]
    pub fn write(&mut self, keys: &Tensor, values: &Tensor) {
        let [batch, num_heads, capacity, head_dim] = dims("memory", &self.keys);
        let [_, _, len, _] = dims("keys", keys);
        assert!(len <= capacity, "keys: expected at most {capacity} of them, got {len}");
        let position = Tensor::arange(len, (Kind::Int64, keys.device()));
        let slots = (self.num_written.unsqueeze(1) + position).remainder(capacity).view([batch, 1, len, 1]);
        for (name, store, new) in [("keys", &mut self.keys, keys), ("values", &mut self.values, values)] {
            expect_shape(name, new, &[batch, num_heads, len, head_dim]);
            // In mixed precision what comes is bfloat16, the store is not.
            let new = new.detach().to_kind(store.kind());
            let _ = store.scatter_(2, &slots.expand_as(&new), &new);
        }
        self.num_written = &self.num_written + len;
    }
}

/// Attention of a layer to its memory, mixed with that to its window by a learned gate for each head.
#[derive(Debug)]
pub struct MemoryAttention {
    gate_bias: Tensor, // [H]
    num_neighbours: i64,
}

impl MemoryAttention {
    /// Returns an attention whose gates are half open.
    pub fn new(p: &Scope, num_heads: i64, num_neighbours: i64) -> Self {
        Self { gate_bias: p.param("gate_bias", &[num_heads], Init::Zeros), num_neighbours }
    }

    /// Returns `(1 − γ) · local + γ · memory` with `γ = σ(gate_bias)`, where queries attend to their neighbours alone.
    ///
    /// # Shapes
    /// `queries` (scaled), `local` and the result: `[n, B, H, W, D]`; neighbours: one entry for each of the n blocks.
    pub fn mix(&self, queries: &Tensor, local: &Tensor, neighbours: &[Neighbours]) -> Tensor {
        let stack = |of: fn(&Neighbours) -> &Tensor| {
            Tensor::stack(&neighbours.iter().map(of).collect::<Vec<_>>(), 0) // [n, B, H, W, neighbours, D]
        };
        let (keys, values) = (stack(|n| &n.keys), stack(|n| &n.values));
        let read = || composed_attention(&queries.unsqueeze(-2), &keys, &values, None, None).squeeze_dim(-2);
        let read = probe::scope(|| "tokens_to_memory".into(), read);
        let gate = self.gate_bias.sigmoid().view([-1, 1, 1]);
        local.to_kind(gate.kind()).lerp_tensor(&read.to_kind(gate.kind()), &gate)
    }

    /// Reads the memory block by block, each block finding those before it, and returns the mix and the memory after the
    /// last block.
    ///
    /// # Shapes
    /// `queries`, `keys`, `values`, `local` and the result: `[n, B, H, W, D]`.
    pub fn forward(
        &self,
        queries: &Queries,
        [keys, values]: [&Tensor; 2],
        local: &Tensor,
        memory: &KnnMemory,
    ) -> (Tensor, KnnMemory) {
        let (ordering_queries, mut memory) = (queries.ordering(), memory.map(Tensor::copy));
        let [num_blocks, _, _, block_len, _] = dims("keys", keys);
        let most_written = memory.most_written(); // Known of all blocks by that of the first.
        let read = |t| {
            let queries = ordering_queries.get(t);
            let neighbours =
                memory.retrieve_among(&queries, self.num_neighbours, most_written + t * block_len);
            memory.write(&keys.get(t), &values.get(t));
            neighbours
        };
        let neighbours: Vec<_> = (0..num_blocks).map(read).collect();
        (self.mix(&queries.scaled(), local, &neighbours), memory)
    }

    /// Returns what `queries` find, `[B, H, len, D]`.
    pub fn retrieve(&self, queries: &Tensor, memory: &KnnMemory) -> Neighbours {
        memory.retrieve(queries, self.num_neighbours)
    }
}

#[cfg(test)]
mod tests;
