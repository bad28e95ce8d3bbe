//! Token-by-token decoding that equals [`LanguageModel::forward`] to rounding, at a constant cost per token.

use brt_ops::{Carry, Mode, Projected, WindowTables, Windows, dims};
use brt_txl::KvCache;
use tch::{Device, Kind, Tensor};

use crate::{
    LanguageModel, Layer, LayerState, ModelState,
    layer::{attend_to_states, recurrent},
};

/// What a layer keeps while a block grows: the last W keys and values, and the projections of the states, computed once
/// per block.
#[derive(Debug)]
struct Growing {
    before: LayerState,
    keys: Vec<Tensor>,   // [B, H, 1, D] each
    values: Vec<Tensor>, // [B, H, 1, D] each
    states: Option<Projected>,
}

impl Growing {
    fn new(layer: &Layer, before: LayerState) -> Self {
        let states = layer.cell().map(|cell| cell.project(recurrent(&before)));
        Self { before, keys: vec![], values: vec![], states }
    }

    /// Returns the cached block without its first tokens and the growing block: W keys, or 2W with the whole cache.
    fn window(&self, skip: i64) -> Windows {
        let join = |cached: &Tensor, grown: &[Tensor]| {
            let cache_len = cached.size()[2];
            let rest = cached.narrow(2, skip.min(cache_len), (cache_len - skip).max(0));
            let parts: Vec<_> = std::iter::once(&rest).chain(grown).collect();
            Tensor::cat(&parts, 2)
        };
        Windows::alone(
            join(&self.before.cache.keys, &self.keys),
            join(&self.before.cache.values, &self.values),
        )
    }

    /// Returns the layer's state after its block is complete: only whole blocks move the recurrent state on.
    fn complete(&self, layer: &Layer, carry: Carry) -> LayerState {
        let recurrent = layer.cell().zip(self.states.as_ref()).map(|(cell, states)| {
            cell.step(recurrent(&self.before), states, &self.window(0)) // 2W keys
        });
        let [keys, values] = [&self.keys, &self.values].map(|grown| Tensor::cat(grown, 2)); // [B, H, W, D]
        let memory = self.before.memory.as_ref().map(|memory| memory.append(&keys, &values));
        let cache = KvCache::last_block(&keys.unsqueeze(0), &values.unsqueeze(0), carry);
        LayerState { cache, recurrent, memory }
    }

    /// Runs one token through the layer. `feedback`: states that an ordinary layer attends to. `x` and the result:
    /// `[B, 1, E]`.
    fn step(
        &mut self,
        layer: &Layer,
        x: &Tensor,
        feedback: Option<&Projected>,
        tables: Option<&WindowTables>,
    ) -> Tensor {
        let tokens = layer.tokens();
        let projected = tokens.project(x, Mode::Eval); // [B, H, 1, D]
        let window = self.window(self.keys.len() as i64);
        let mut attended = vec![match tables {
            Some(tables) => tokens.self_attention(&projected, &window, tables, Mode::Eval),
            None => projected.values.zeros_like(), // There is no key yet.
        }];
        if let (Some(memory), Some(store)) = (layer.memory(), &self.before.memory) {
            let neighbours = memory.retrieve(&projected.queries.ordering(), store);
            attended =
                vec![memory.mix(&projected.queries.scaled(), &attended[0], &[neighbours]).squeeze_dim(0)];
        }
        if let Some(states) = self.states.as_ref().or(feedback) {
            let states = Windows::alone(states.keys.shallow_clone(), states.values.shallow_clone());
            attended.push(attend_to_states(&projected, &states));
        }
        self.keys.push(projected.keys);
        self.values.push(projected.values);
        tokens.finish(x, &attended, Mode::Eval)
    }
}

/// Decoder of a batch of rows: feed tokens, get the logits of the next ones.
#[derive(Debug)]
pub struct Decoder<'a> {
    model: &'a LanguageModel,
    layers: Vec<Growing>,
    feedback: Option<Projected>,
    tables: WindowTables, // of one token and the W keys before it
    block_len: i64,
    /// Tokens since the segment began, where the model depends on it.
    segment_position: i64,
}

impl<'a> Decoder<'a> {
    /// Returns a decoder that goes on from `state`, which stands between two blocks, and between two segments where the
    /// model depends on them ([`crate::ModelConfig::segment_len`]).
    pub fn new(model: &'a LanguageModel, state: ModelState) -> Self {
        let config = model.config();
        let tables = config.token_tables(config.window_len, model.params().device());
        let mut decoder =
            Self { model, layers: vec![], feedback: None, tables, block_len: 0, segment_position: 0 };
        tch::no_grad(|| decoder.start_block(state));
        decoder
    }

    /// Goes on from `state`, which stands between two blocks.
    fn start_block(&mut self, state: ModelState) {
        let segment_len = self.model.config().segment_len;
        self.segment_position %= segment_len.unwrap_or(i64::MAX);
        let state = if self.segment_position == 0 { self.model.clear_state(&state) } else { state };
        self.feedback = self.model.feedback_states(&state);
        let layers = self.model.layers().iter().zip(state.layers);
        self.layers = layers.map(|(layer, state)| Growing::new(layer, state)).collect();
        self.block_len = 0;
    }

    /// Feeds a text to the only row and returns the logits after its last token. Whole blocks go through the model at
    /// once, so a long prompt costs what training costs forward; only whole segments do in a model that depends on them
    /// ([`crate::ModelConfig::segment_len`]).
    ///
    /// # Shapes
    /// Result: `[V]`.
    ///
    /// # Panics
    /// Where `tokens` is empty.
    pub fn feed(&mut self, tokens: &[i64]) -> Tensor {
        let config = self.model.config();
        // A model that depends on segments is fed whole ones.
        let chunk_len = config.segment_len.unwrap_or(config.window_len) as usize;
        let mut rest = tokens;
        let mut logits = None;
        while !rest.is_empty() {
            let at_start =
                self.block_len == 0 && (config.segment_len.is_none() || self.segment_position == 0);
            let whole = at_start && rest.len() >= chunk_len;
            let (now, later) = rest.split_at(if whole { chunk_len } else { 1 });
            let now = Tensor::from_slice(now);
            logits = Some(if whole { self.chunk(&now) } else { self.step(&now).squeeze_dim(0) });
            rest = later;
        }
        logits.expect("tokens: at least one")
    }

    /// Feeds one whole block or segment to the only row. `tokens`: `[len]`; result: `[V]`.
    fn chunk(&mut self, tokens: &Tensor) -> Tensor {
        let tokens = tokens.unsqueeze(0).to_device(self.device());
        let state = ModelState { layers: self.layers.drain(..).map(|layer| layer.before).collect() };
        tch::no_grad(|| {
            let (logits, next) = self.model.forward(&tokens, &state, Mode::Eval);
            self.start_block(next); // Whole segments: the next one starts at position 0 as well.
            logits.select(1, -1).squeeze_dim(0)
        })
    }

    /// Feeds one token per row and returns the logits of the next ones.
    ///
    /// # Shapes
    /// `tokens` (int64): `[B]`; result: `[B, V]`.
    pub fn step(&mut self, tokens: &Tensor) -> Tensor {
        let [_batch] = dims("tokens", tokens);
        let tokens = tokens.to_device(self.device()).to_kind(Kind::Int64);
        tch::no_grad(|| {
            let mut x = self.model.embed(&tokens.unsqueeze(1)); // [B, 1, E]
            if let Some(encoding) = self.model.absolute_encoding(self.segment_position, 1) {
                x = x + encoding;
            }
            let few = self.few_keys();
            let tables = few.as_ref().map_or(Some(&self.tables), Option::as_ref);
            for (layer, growing) in self.model.layers().iter().zip(&mut self.layers) {
                x = growing.step(layer, &x, self.feedback.as_ref(), tables);
            }
            self.block_len += 1;
            self.segment_position += 1;
            if self.block_len == self.model.config().window_len {
                self.complete_block();
            }
            self.model.unembed(&self.model.finish(&x)).squeeze_dim(1)
        })
    }

    /// Returns the tables of a token that sees less than W keys, as in a model that carries none from block to block:
    /// `Some(None)` for one that sees none, `None` where every token sees W keys.
    fn few_keys(&self) -> Option<Option<WindowTables>> {
        let config = self.model.config();
        let tables = || config.token_tables(self.block_len, self.device());
        (config.carry == Carry::None).then(|| (self.block_len > 0).then(tables))
    }

    fn complete_block(&mut self) {
        let carry = self.model.config().carry;
        let layers = self.model.layers().iter().zip(&self.layers);
        let layers = layers.map(|(layer, growing)| growing.complete(layer, carry)).collect();
        self.start_block(ModelState { layers });
    }

    fn device(&self) -> Device {
        self.model.params().device()
    }
}
