//! A layer: tokens upwards, and, where it is recurrent, states sideways.

use brt_cell::RecurrentCell;
use brt_native::{Pass, Segments};
use brt_ops::{Mode, Projected, Scope, Sight, WindowTables, Windows, attention, init::replayed, probe};
use brt_txl::{KvCache, MemoryAttention, TransformerLayer};
use tch::{Kind, Tensor};

use crate::{LayerState, ModelConfig};

/// Layer of a stack. In a recurrent layer tokens go upwards through the transformer layer, states go sideways through the
/// cell, and each attends to the other.
#[derive(Debug)]
pub struct Layer {
    tokens: TransformerLayer,
    cell: Option<RecurrentCell>,
    memory: Option<MemoryAttention>,
}

impl Layer {
    /// Returns the layer with index `idx`.
    pub(crate) fn new(p: &Scope, config: &ModelConfig, idx: i64) -> Self {
        let recurrence = config.recurrence.as_ref().filter(|_| config.recurrent_layers().contains(&idx));
        let memory = config.memory.filter(|_| config.memory_layer() == Some(idx));
        Self {
            tokens: TransformerLayer::new(p, config.layer(idx)),
            cell: recurrence.map(|r| RecurrentCell::new(&(p / "cell"), config.cell(r))),
            memory: memory.map(|m| MemoryAttention::new(&(p / "memory"), config.num_heads, m.num_neighbours)),
        }
    }

    /// Returns the layer's output and its state after the segment. `feedback`: keys and values of the states that an
    /// ordinary layer attends to, where the model has block feedback.
    ///
    /// # Shapes
    /// `xs` and the output: `[n, B, W, E]`; `feedback`: `[n, B, H, S, D]`.
    ///
    /// # Source
    /// *Block-Recurrent Transformers*, arXiv 2203.07852, figure 1: vertical and horizontal direction.
    pub fn forward(
        &self,
        xs: &Tensor,
        state: &LayerState,
        feedback: Option<&Windows>,
        tables: &WindowTables,
        mode: Mode,
    ) -> (Tensor, LayerState) {
        let projected = self.tokens.project(xs, mode);
        let windows = self.tokens.windows(&projected, &state.cache);
        let mut next = LayerState::of_cache(self.tokens.next_cache(&projected));

        let read_tokens = || self.tokens.self_attention(&projected, &windows, tables, mode);
        let mut attended = vec![probe::scope(|| "tokens_to_tokens".into(), read_tokens)]; // [n, B, H, W, D]
        if let (Some(memory), Some(store)) = (&self.memory, &state.memory) {
            let queries = &projected.queries;
            let (mixed, store) =
                memory.forward(queries, [&projected.keys, &projected.values], &attended[0], store);
            attended = vec![mixed];
            next.memory = Some(store);
        }
        if let Some(cell) = &self.cell {
            let scan_blocks = || cell.scan(recurrent(state), &windows); // Horizontal: the only loop over blocks.
            let scan = probe::scope(|| "cell".into(), scan_blocks);
            let states = Windows::alone(scan.keys, scan.values);
            attended.push(attend_to_states(&projected, &states));
            next.recurrent = scan.states.into_iter().last();
        } else if let Some(states) = feedback {
            attended.push(attend_to_states(&projected, states));
        }
        probe::record(|| state_share(&attended));
        (self.tokens.finish(xs, &attended, mode), next)
    }

    /// As [`Self::forward`], but nothing inside the layer is kept: the backward pass computes it again, with the same
    /// masks of dropout. A layer with a memory is computed once.
    pub(crate) fn recompute<'env>(
        &'env self,
        xs: &Tensor,
        state: &LayerState,
        feedback: Option<&Windows>,
        (tables, mode): (&'env WindowTables, Mode),
        segments: &Segments<'env>,
    ) -> (Tensor, LayerState) {
        if self.memory.is_some() {
            return self.forward(xs, state, feedback, tables, mode);
        }
        let has_feedback = feedback.is_some();
        let feedback = feedback.into_iter().flat_map(|states| [&states.keys, &states.values]);
        let carried = [&state.cache.keys, &state.cache.values].into_iter().chain(&state.recurrent);
        let inputs: Vec<&Tensor> = [xs].into_iter().chain(carried).chain(feedback).collect();
        let num_outputs = 3 + usize::from(self.cell.is_some());
        let random = brt_native::generator_state(xs);
        let segment = move |inputs: &[Tensor], pass: Pass| {
            let mut inputs = inputs.iter().map(Tensor::shallow_clone);
            let mut next = || inputs.next().expect("an input for each place");
            let (xs, cache) = (next(), KvCache { keys: next(), values: next() });
            let recurrent = self.cell.as_ref().map(|_| next());
            let state = LayerState { recurrent, ..LayerState::of_cache(cache) };
            let feedback = has_feedback.then(|| Windows::alone(next(), next()));
            let forward = || self.forward(&xs, &state, feedback.as_ref(), tables, mode);
            let (ys, after) = match pass {
                Pass::First => forward(),
                Pass::Again => replayed(&xs, &random, forward),
            };
            // Of keys and values the last block goes on, not what it is a part of.
            let cache = after.cache.map(Tensor::copy);
            [ys, cache.keys, cache.values].into_iter().chain(after.recurrent).collect()
        };
        let mut outputs = segments.recompute(&inputs, num_outputs, segment).into_iter();
        let mut next = || outputs.next().expect("an output for each place");
        let (ys, cache) = (next(), KvCache { keys: next(), values: next() });
        (ys, LayerState { recurrent: self.cell.as_ref().map(|_| next()), ..LayerState::of_cache(cache) })
    }

    /// Returns `state` as it is where documents start in the given rows: caches zero, recurrent states initial, memories
    /// empty.
    ///
    /// # Shapes
    /// `start_of_sequence` (bool): `[B]`.
    pub fn reset_rows(&self, state: &LayerState, start_of_sequence: &Tensor) -> LayerState {
        LayerState {
            cache: state.cache.reset_rows(start_of_sequence),
            recurrent: self.cell.as_ref().map(|cell| cell.reset_rows(recurrent(state), start_of_sequence)),
            memory: state.memory.as_ref().map(|memory| memory.reset_rows(start_of_sequence)),
        }
    }

    /// Returns `state` with the recurrent state initial in all rows, the rest as it is.
    pub(crate) fn reset_recurrent(&self, state: LayerState) -> LayerState {
        let batch = state.cache.keys.size()[0];
        let recurrent = self.cell.as_ref().map(|cell| initial_rows(cell, batch));
        LayerState { recurrent, ..state }
    }

    /// Returns the part that acts on tokens.
    pub fn tokens(&self) -> &TransformerLayer {
        &self.tokens
    }

    /// Returns the cell of a recurrent layer.
    pub fn cell(&self) -> Option<&RecurrentCell> {
        self.cell.as_ref()
    }

    /// Returns the attention to the memory of a layer that has one.
    pub fn memory(&self) -> Option<&MemoryAttention> {
        self.memory.as_ref()
    }
}

/// Returns the share of the states in what tokens read: the length of what came from states, of that of both. Nothing where
/// tokens read tokens alone.
fn state_share(attended: &[Tensor]) -> Vec<(&'static str, f64)> {
    let [from_tokens, from_states] = attended else { return vec![] };
    let length = |x: &Tensor| x.square().sum(Kind::Double).sqrt().double_value(&[]);
    let (tokens, states) = (length(from_tokens), length(from_states));
    vec![("state_share", states / (tokens + states).max(1e-30))]
}

/// Returns the initial state for `batch` rows, `[B, S, E]`.
pub(crate) fn initial_rows(cell: &RecurrentCell, batch: i64) -> Tensor {
    cell.initial_state().unsqueeze(0).repeat([batch, 1, 1])
}

/// Returns what tokens read from the states as they were before their block.
///
/// # Shapes
/// Result: `[.., H, len, D]`; keys and values of `states`: `[.., H, S, D]`.
pub(crate) fn attend_to_states(tokens: &Projected, states: &Windows) -> Tensor {
    let queries = tokens.cross_queries.as_ref().expect("tokens that attend to states have cross queries");
    let read = || attention(queries, states, Sight::All, None);
    probe::scope(|| "tokens_to_states".into(), read)
}

/// Returns the recurrent state of a recurrent layer.
pub(crate) fn recurrent(state: &LayerState) -> &Tensor {
    state.recurrent.as_ref().expect("a recurrent layer has a recurrent state")
}
