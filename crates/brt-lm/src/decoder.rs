//! Token-by-token decoding that equals [`LanguageModel::forward`] to rounding, at a constant cost per token.

use brt_ops::{Mode, Projected, WindowTables, Windows, dims};
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
            let rest = cached.narrow(2, skip, cached.size()[2] - skip);
            let parts: Vec<_> = std::iter::once(&rest).chain(grown).collect();
            Tensor::cat(&parts, 2)
        };
        Windows {
            keys: join(&self.before.cache.keys, &self.keys),
            values: join(&self.before.cache.values, &self.values),
        }
    }

    /// Returns the layer's state after its block is complete: only whole blocks move the recurrent state on.
    fn complete(&self, layer: &Layer) -> LayerState {
        let recurrent = layer.cell().zip(self.states.as_ref()).map(|(cell, states)| {
            let window = self.window(0); // [B, H, 2W, D]
            cell.step(recurrent(&self.before), states, &window.keys, &window.values)
        });
        let cache = KvCache { keys: Tensor::cat(&self.keys, 2), values: Tensor::cat(&self.values, 2) };
        LayerState { cache, recurrent }
    }
}

/// Decoder of a batch of rows: feed tokens, get the logits of the next ones.
#[derive(Debug)]
pub struct Decoder<'a> {
    model: &'a LanguageModel,
    layers: Vec<Growing>,
    tables: WindowTables,
    block_len: i64,
}

impl<'a> Decoder<'a> {
    /// Returns a decoder that goes on from `state`, which stands between two blocks.
    pub fn new(model: &'a LanguageModel, state: ModelState) -> Self {
        let layers = model.layers().iter().zip(state.layers);
        Self {
            model,
            layers: tch::no_grad(|| layers.map(|(layer, state)| Growing::new(layer, state)).collect()),
            tables: WindowTables::token(model.config().window_len, model.params().device()),
            block_len: 0,
        }
    }

    /// Feeds a text to the only row and returns the logits after its last token. Whole blocks go through the model at
    /// once, so a long prompt costs what training costs forward.
    ///
    /// # Shapes
    /// Result: `[V]`.
    ///
    /// # Panics
    /// Where `tokens` is empty.
    pub fn feed(&mut self, tokens: &[i64]) -> Tensor {
        let window_len = self.model.config().window_len as usize;
        let mut rest = tokens;
        let mut logits = None;
        while !rest.is_empty() {
            let whole_block = self.block_len == 0 && rest.len() >= window_len;
            let (now, later) = rest.split_at(if whole_block { window_len } else { 1 });
            let now = Tensor::from_slice(now);
            logits = Some(if whole_block { self.block(&now) } else { self.step(&now).squeeze_dim(0) });
            rest = later;
        }
        logits.expect("tokens: at least one")
    }

    /// Feeds one whole block to the only row. `tokens`: `[W]`; result: `[V]`.
    fn block(&mut self, tokens: &Tensor) -> Tensor {
        let tokens = tokens.unsqueeze(0).to_device(self.device());
        let state = ModelState { layers: self.layers.drain(..).map(|layer| layer.before).collect() };
        let (logits, next) = tch::no_grad(|| self.model.forward(&tokens, &state, Mode::Eval));
        self.layers = Self::new(self.model, next).layers;
        logits.select(1, -1).squeeze_dim(0)
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
            for (layer, growing) in self.model.layers().iter().zip(&mut self.layers) {
                x = step_layer(layer, growing, &x, &self.tables, self.block_len);
            }
            self.block_len += 1;
            if self.block_len == self.model.config().window_len {
                self.complete_block();
            }
            self.model.unembed(&self.model.finish(&x)).squeeze_dim(1)
        })
    }

    fn complete_block(&mut self) {
        for (layer, growing) in self.model.layers().iter().zip(&mut self.layers) {
            *growing = Growing::new(layer, growing.complete(layer));
        }
        self.block_len = 0;
    }

    fn device(&self) -> Device {
        self.model.params().device()
    }
}

/// Runs one token through one layer. `x` and the result: `[B, 1, E]`.
fn step_layer(
    layer: &Layer,
    growing: &mut Growing,
    x: &Tensor,
    tables: &WindowTables,
    block_len: i64,
) -> Tensor {
    let tokens = layer.tokens();
    let projected = tokens.project(x, Mode::Eval); // [B, H, 1, D]
    let mut attended =
        vec![tokens.self_attention(&projected, &growing.window(block_len), tables, Mode::Eval)];
    if let Some(states) = &growing.states {
        let states = Windows { keys: states.keys.shallow_clone(), values: states.values.shallow_clone() };
        attended.push(attend_to_states(&projected, &states));
    }
    growing.keys.push(projected.keys);
    growing.values.push(projected.values);
    tokens.finish(x, &attended, Mode::Eval)
}
