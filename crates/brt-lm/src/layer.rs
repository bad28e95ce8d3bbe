//! One layer of the stack: an ordinary one, or one with a recurrent cell beside it.

use brt_cell::RecurrentCell;
use brt_ops::{CrossQueries, Mode, Projected, Scope, WindowTables, Windows, attention};
use brt_txl::{KvCache, TransformerLayer};
use tch::Tensor;

use crate::{LayerState, ModelConfig};

/// Layer of a stack. In a recurrent layer tokens go upwards through the transformer layer, states go sideways through the
/// cell, and each attends to the other.
#[derive(Debug)]
pub struct Layer {
    tokens: TransformerLayer,
    cell: Option<RecurrentCell>,
}

impl Layer {
    /// Returns the layer with index `idx`.
    pub(crate) fn new(p: &Scope, config: &ModelConfig, idx: i64) -> Self {
        let recurrence = config.recurrence.as_ref().filter(|_| config.recurrent_layers().contains(&idx));
        let cross_queries = if recurrence.is_some() { CrossQueries::Present } else { CrossQueries::Absent };
        Self {
            tokens: TransformerLayer::new(p, config.layer(cross_queries)),
            cell: recurrence.map(|r| RecurrentCell::new(&(p / "cell"), config.cell(r))),
        }
    }

    /// Returns the layer's output and its state after the segment.
    ///
    /// # Shapes
    /// `xs` and the output: `[n, B, W, E]`.
    ///
    /// # Source
    /// *Block-Recurrent Transformers*, arXiv 2203.07852, figure 1: vertical and horizontal direction.
    pub fn forward(
        &self,
        xs: &Tensor,
        state: &LayerState,
        tables: &WindowTables,
        mode: Mode,
    ) -> (Tensor, LayerState) {
        let Some(cell) = &self.cell else {
            let (ys, cache) = self.tokens.forward(xs, &state.cache, tables, mode);
            return (ys, LayerState { cache, recurrent: None });
        };
        let projected = self.tokens.project(xs, mode);
        let windows = self.tokens.windows(&projected, &state.cache);
        let scan = cell.scan(recurrent(state), &windows); // Horizontal: the only loop over blocks.

        let from_tokens = self.tokens.self_attention(&projected, &windows, tables, mode); // [n, B, H, W, D]
        let from_states = attend_to_states(&projected, &Windows { keys: scan.keys, values: scan.values });
        let ys = self.tokens.finish(xs, &[from_tokens, from_states], mode);

        let cache = KvCache::last_block(&projected.keys, &projected.values);
        let last = scan.states.into_iter().last().expect("a segment has a block");
        (ys, LayerState { cache, recurrent: Some(last) })
    }

    /// Returns `state` as it is where documents start in the given rows: caches zero, recurrent states initial.
    ///
    /// # Shapes
    /// `start_of_sequence` (bool): `[B]`.
    pub fn reset_rows(&self, state: &LayerState, start_of_sequence: &Tensor) -> LayerState {
        LayerState {
            cache: state.cache.reset_rows(start_of_sequence),
            recurrent: self.cell.as_ref().map(|cell| cell.reset_rows(recurrent(state), start_of_sequence)),
        }
    }

    /// Returns the part that acts on tokens.
    pub fn tokens(&self) -> &TransformerLayer {
        &self.tokens
    }

    /// Returns the cell of a recurrent layer.
    pub fn cell(&self) -> Option<&RecurrentCell> {
        self.cell.as_ref()
    }
}

/// Returns what tokens read from the states as they were before their block.
///
/// # Shapes
/// Result: `[.., H, len, D]`; keys and values of `states`: `[.., H, S, D]`.
pub(crate) fn attend_to_states(tokens: &Projected, states: &Windows) -> Tensor {
    let queries = tokens.cross_queries.as_ref().expect("tokens of a recurrent layer have cross queries");
    attention(queries, &states.keys, &states.values, None, None)
}

/// Returns the recurrent state of a recurrent layer.
pub(crate) fn recurrent(state: &LayerState) -> &Tensor {
    state.recurrent.as_ref().expect("a recurrent layer has a recurrent state")
}
