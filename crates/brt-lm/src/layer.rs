//! The layers of a stack: ordinary ones, and recurrent ones made of an ordinary layer and a cell.

use brt_cell::RecurrentCell;
use brt_ops::{CrossQueries, Mode, Projected, Scope, WindowTables, Windows, attention};
use brt_txl::{KvCache, TransformerLayer};
use tch::Tensor;

use crate::{LayerState, ModelConfig, RecurrenceConfig};

/// One layer of the stack.
#[derive(Debug)]
pub enum Layer {
    /// Transformer-XL or sliding-window layer.
    Ordinary(TransformerLayer),
    /// The same with states that its tokens read and that read its tokens.
    Recurrent(RecurrentLayer),
}

impl Layer {
    /// Returns the layer with index `idx`.
    pub(crate) fn new(p: &Scope, config: &ModelConfig, idx: i64) -> Self {
        match &config.recurrence {
            Some(recurrence) if config.recurrent_layers().contains(&idx) => {
                Self::Recurrent(RecurrentLayer::new(p, config, recurrence))
            }
            _ => Self::Ordinary(TransformerLayer::new(p, config.layer(CrossQueries::Absent))),
        }
    }

    /// Returns the layer's output and its state after the segment.
    ///
    /// # Shapes
    /// `xs` and the output: `[n, B, W, E]`.
    pub fn forward(&self, xs: &Tensor, state: &LayerState, tables: &WindowTables, mode: Mode) -> (Tensor, LayerState) {
        match self {
            Self::Ordinary(layer) => {
                let (ys, cache) = layer.forward(xs, &state.cache, tables, mode);
                (ys, LayerState { cache, recurrent: None })
            }
            Self::Recurrent(layer) => layer.forward(xs, state, tables, mode),
        }
    }

    /// Returns `state` as it is where documents start in the given rows: caches zero, recurrent states initial.
    ///
    /// # Shapes
    /// `start_of_sequence` (bool): `[B]`.
    pub fn reset_rows(&self, state: &LayerState, start_of_sequence: &Tensor) -> LayerState {
        let cache = state.cache.reset_rows(start_of_sequence);
        let recurrent = match self {
            Self::Ordinary(_) => None,
            Self::Recurrent(layer) => Some(layer.cell.reset_rows(recurrent(state), start_of_sequence)),
        };
        LayerState { cache, recurrent }
    }

    /// Returns the part that acts on tokens.
    pub fn tokens(&self) -> &TransformerLayer {
        match self {
            Self::Ordinary(layer) => layer,
            Self::Recurrent(layer) => &layer.tokens,
        }
    }

    /// Returns the cell of a recurrent layer.
    pub fn cell(&self) -> Option<&RecurrentCell> {
        match self {
            Self::Ordinary(_) => None,
            Self::Recurrent(layer) => Some(&layer.cell),
        }
    }
}

/// Recurrent layer: tokens go through it upwards, states go through it sideways, each attends to the other.
#[derive(Debug)]
pub struct RecurrentLayer {
    tokens: TransformerLayer,
    cell: RecurrentCell,
}

impl RecurrentLayer {
    fn new(p: &Scope, config: &ModelConfig, recurrence: &RecurrenceConfig) -> Self {
        Self {
            tokens: TransformerLayer::new(p, config.layer(CrossQueries::Present)),
            cell: RecurrentCell::new(&(p / "cell"), config.cell(recurrence)),
        }
    }

    /// Returns the layer's output and its state after the segment.
    ///
    /// # Shapes
    /// `xs` and the output: `[n, B, W, E]`.
    ///
    /// # Source
    /// *Block-Recurrent Transformers*, arXiv 2203.07852, figure 1: vertical and horizontal direction.
    pub fn forward(&self, xs: &Tensor, state: &LayerState, tables: &WindowTables, mode: Mode) -> (Tensor, LayerState) {
        let projected = self.tokens.project(xs, mode);
        let windows = self.tokens.windows(&projected, &state.cache);
        let scan = self.cell.scan(recurrent(state), &windows);

        let from_tokens = self.tokens.self_attention(&projected, &windows, tables, mode); // [n, B, H, W, D]
        let from_states = attend_to_states(&projected, &Windows { keys: scan.keys, values: scan.values });
        let ys = self.tokens.finish(xs, &[from_tokens, from_states], mode);

        let cache = KvCache::last_block(&projected.keys, &projected.values);
        let last = scan.states.into_iter().last().expect("a segment has a block");
        (ys, LayerState { cache, recurrent: Some(last) })
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
