//! What a model remembers of one text while it reads it token by token.

use std::collections::{BTreeMap, VecDeque};

use brt_cell::RecurrentCell;
use brt_ops::{Carry, Projected, RowKeys, Windows, probe};
use brt_txl::{KnnMemory, KvCache, KvRing};
use tch::{Kind, Tensor};

use crate::{LanguageModel, Layer, LayerState, ModelState, layer::recurrent};

/// What a model remembers of one text, at any token of it: a value that a [`crate::Decoder`] takes along, and that can be
/// copied, put aside, saved and loaded. Its size does not depend on how long the text is.
#[derive(Debug)]
pub struct TextState {
    pub(super) layers: Vec<LayerText>,
    pub(super) num_tokens: u64,
    /// The last W tokens, the oldest first.
    pub(super) recent: VecDeque<i64>,
    /// `[V]`, after the last token.
    pub(super) next_logits: Option<Tensor>,
}

/// What one layer remembers of a text.
#[derive(Debug)]
pub(super) struct LayerText {
    pub(super) ring: KvRing,
    pub(super) states: Option<States>,
    pub(super) memory: Option<KnnMemory>,
}

/// Recurrent state of a layer, and what follows from it for a whole block.
#[derive(Debug)]
pub(super) struct States {
    pub(super) state: Tensor, // [1, S, E]
    /// Keys, values and queries, computed once per block.
    projected: Projected,
    /// The block before: the ring loses it while the current block grows.
    pub(super) before: KvCache,
}

impl TextState {
    /// Returns the number of tokens that have been read since the text began.
    pub fn num_tokens(&self) -> u64 {
        self.num_tokens
    }

    /// Returns the logits of the next token, `[V]`; `None` before the first one.
    pub fn next_logits(&self) -> Option<&Tensor> {
        self.next_logits.as_ref()
    }

    /// Returns the last W tokens, or all there are, the oldest first.
    pub fn recent(&self) -> Vec<i64> {
        self.recent.iter().copied().collect()
    }

    /// Returns what the gates of recurrent layers would do if the block ended here: means and quantiles of their openness by
    /// name, as in a run's statistics.
    pub fn gates(&self, model: &LanguageModel) -> BTreeMap<String, f64> {
        let read = || {
            for (idx, (layer, own)) in model.layers().iter().zip(&self.layers).enumerate() {
                if let (Some(cell), Some(states)) = (layer.cell(), &own.states) {
                    let read = || states.read(cell, own.ring.tensors());
                    let _ = probe::scope(|| format!("layers.{idx}.cell"), read);
                }
            }
        };
        let (_, seen) = tch::no_grad(|| model.in_own_kind(|| probe::observe(read)));
        let is_gate = |name: &str| ["openness", "forgetting"].iter().any(|what| name.contains(what));
        seen.into_iter().filter(|(name, _)| is_gate(name)).collect()
    }

    /// Returns an independent copy.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            layers: self.layers.iter().map(LayerText::copy).collect(),
            num_tokens: self.num_tokens,
            recent: self.recent.clone(),
            next_logits: self.next_logits.as_ref().map(Tensor::copy),
        }
    }

    /// Returns how many tokens of the current block have been read: the slot of the next one.
    pub(super) fn block_len(&self, model: &LanguageModel) -> i64 {
        (self.num_tokens % model.config().window_len as u64) as i64
    }

    /// Returns the place of the next token in its segment, where the model depends on it, else 0.
    pub(super) fn segment_position(&self, model: &LanguageModel) -> i64 {
        model.config().segment_len.map_or(0, |len| (self.num_tokens % len as u64) as i64)
    }

    /// Returns the state between two blocks.
    pub(super) fn between_blocks(&self) -> ModelState {
        ModelState { layers: self.layers.iter().map(LayerText::between_blocks).collect() }
    }

    /// Counts tokens that all layers have read.
    pub(super) fn count(&mut self, tokens: &[i64], window_len: i64) {
        self.num_tokens += tokens.len() as u64;
        self.recent.extend(&tokens[tokens.len().saturating_sub(window_len as usize)..]);
        self.recent.drain(..self.recent.len().saturating_sub(window_len as usize));
    }
}

impl LayerText {
    /// Returns what `state` says of all layers, which stands between two blocks.
    pub(super) fn all(model: &LanguageModel, state: &ModelState) -> Vec<Self> {
        let config = model.config();
        let block = (config.window_len, config.carry);
        let layer = |(layer, state)| model.in_own_kind(|| Self::new(layer, state, block, model.kind()));
        model.layers().iter().zip(&state.layers).map(layer).collect()
    }

    /// Takes the recurrent state of another text; keys and values stay.
    pub(super) fn replace_states(&mut self, other: Self) {
        if let (Some(states), Some(other)) = (&mut self.states, other.states) {
            states.state = other.state;
            states.projected = other.projected;
        }
    }

    /// Returns what `state` says, which stands between two blocks. `block`: W, and what goes from one to the next; `kind`: of
    /// keys and values.
    fn new(layer: &Layer, state: &LayerState, block: (i64, Carry), kind: Kind) -> Self {
        let own = |x: &Tensor| x.to_kind(kind).copy();
        let states =
            layer.cell().map(|cell| States::new(cell, recurrent(state).copy(), state.cache.map(own)));
        let memory = state.memory.as_ref().map(|memory| memory.map(Tensor::copy));
        Self { ring: KvRing::new(&state.cache, block, kind), states, memory }
    }

    /// Computes anew what follows from a state that was read from a file.
    pub(super) fn restore(&mut self, layer: &Layer) {
        if let (Some(states), Some(cell)) = (&mut self.states, layer.cell()) {
            states.projected = cell.project(&states.state);
        }
    }

    fn copy(&self) -> Self {
        Self {
            ring: self.ring.map(Tensor::copy),
            states: self.states.as_ref().map(States::copy),
            memory: self.memory.as_ref().map(|memory| memory.map(Tensor::copy)),
        }
    }

    fn between_blocks(&self) -> LayerState {
        LayerState {
            cache: self.ring.cache(),
            recurrent: self.states.as_ref().map(|states| states.state.shallow_clone()),
            memory: self.memory.as_ref().map(|memory| memory.map(Tensor::shallow_clone)),
        }
    }

    /// Goes on to the next block: the memory takes the keys of the one that is complete, and states read it, or start anew.
    pub(super) fn complete_block(&mut self, layer: &Layer, start: BlockStart) {
        if let Some(memory) = &mut self.memory {
            let [keys, values] = self.ring.tensors();
            memory.write(keys, values);
        }
        if let (Some(states), Some(cell)) = (&mut self.states, layer.cell()) {
            let cache = self.ring.cache().map(Tensor::copy);
            let next = match start {
                BlockStart::Carried => states.read(cell, self.ring.tensors()),
                BlockStart::Cleared => cell.initial_state().unsqueeze(0),
            };
            *states = States::new(cell, next, cache);
        }
    }
}

/// With which recurrent state a block starts.
#[derive(Debug, Clone, Copy)]
pub(super) enum BlockStart {
    /// With what the block before has made of it.
    Carried,
    /// With the initial one.
    Cleared,
}

impl States {
    fn new(cell: &RecurrentCell, state: Tensor, before: KvCache) -> Self {
        Self { projected: cell.project(&state), state, before }
    }

    fn copy(&self) -> Self {
        // Projections are never written to.
        let queries = |q: &brt_ops::Queries| brt_ops::Queries {
            heads: q.heads.shallow_clone(),
            temperature: q.temperature.as_ref().map(Tensor::shallow_clone),
        };
        let Projected { keys, values, queries: own, cross_queries } = &self.projected;
        let projected = Projected {
            keys: keys.shallow_clone(),
            values: values.shallow_clone(),
            queries: queries(own),
            cross_queries: cross_queries.as_ref().map(queries),
        };
        Self { state: self.state.copy(), projected, before: self.before.map(Tensor::copy) }
    }

    /// Returns the state after a block whose keys and values these are.
    fn read(&self, cell: &RecurrentCell, [keys, values]: [&Tensor; 2]) -> Tensor {
        let join = |before: &Tensor, block: &Tensor| Tensor::cat(&[before, block], 2);
        let window = Windows::alone(join(&self.before.keys, keys), join(&self.before.values, values));
        cell.step(&self.state, &self.projected, &window)
    }

    /// Returns what tokens see of the states.
    pub(super) fn seen(&self) -> RowKeys<'_> {
        RowKeys::all(&self.projected.keys, &self.projected.values)
    }

    /// Returns keys and values of the states, `[1, H, S, D]` each.
    pub(super) fn windows(&self) -> Windows {
        Windows::alone(self.projected.keys.shallow_clone(), self.projected.values.shallow_clone())
    }
}
