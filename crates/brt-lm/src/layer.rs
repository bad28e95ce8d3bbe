//! A layer: tokens upwards, and, where it is recurrent, states sideways.

use brt_cell::RecurrentCell;
use brt_ops::{Mode, Projected, Scope, WindowTables, Windows, attention};
use brt_txl::{MemoryAttention, TransformerLayer};
use tch::Tensor;

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

        let mut attended = vec![self.tokens.self_attention(&projected, &windows, tables, mode)]; // [n, B, H, W, D]
        if let (Some(memory), Some(store)) = (&self.memory, &state.memory) {
            let ordering_queries = self.tokens.projection().ordering_queries(&projected.queries);
            let queries = [&projected.queries, &ordering_queries];
            let (mixed, store) =
                memory.forward(queries, [&projected.keys, &projected.values], &attended[0], store);
            attended = vec![mixed];
            next.memory = Some(store);
        }
        if let Some(cell) = &self.cell {
            let scan = cell.scan(recurrent(state), &windows); // Horizontal: the only loop over blocks.
            let states = Windows { keys: scan.keys, values: scan.values };
            attended.push(attend_to_states(&projected, &states));
            next.recurrent = scan.states.into_iter().last();
        } else if let Some(states) = feedback {
            attended.push(attend_to_states(&projected, states));
        }
        (self.tokens.finish(xs, &attended, mode), next)
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
    attention(queries, &states.keys, &states.values, None, None)
}

/// Returns the recurrent state of a recurrent layer.
pub(crate) fn recurrent(state: &LayerState) -> &Tensor {
    state.recurrent.as_ref().expect("a recurrent layer has a recurrent state")
}
