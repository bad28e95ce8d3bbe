//! The language model: embedding, stack of layers, tied logits.

mod inference;

use std::cell::OnceCell;

use brt_native::Segments;
use brt_ops::{
    Carry, Mode, Params, Projected, RmsNorm, WindowTables, Windows, dims, dropout, init::Init, loss, probe,
};
use brt_txl::{KnnMemory, KvCache};
use tch::{Device, Tensor};

use crate::{
    ConfigError, Layer, LayerState, LogitDivisor, ModelConfig, ModelState,
    layer::{initial_rows, recurrent},
};

/// How a segment is run.
#[derive(Clone, Copy)]
struct Pass<'a, 'env> {
    mode: Mode,
    /// Where layers that are computed again keep themselves; `None` where all is kept.
    segments: Option<&'a Segments<'env>>,
}

/// Language model of any of the paper's kinds, as its configuration says.
#[derive(Debug)]
pub struct LanguageModel {
    embedding: Tensor, // [V, E]
    layers: Vec<Layer>,
    final_norm: RmsNorm,
    tables: WindowTables,
    params: Params,
    config: ModelConfig,
    pub(crate) hash: OnceCell<String>,
}

impl LanguageModel {
    /// Returns a model whose parameters are drawn from `seed` by their names.
    ///
    /// # Errors
    /// A configuration that no model can have.
    pub fn new(config: ModelConfig, seed: u64, device: Device) -> Result<Self, ConfigError> {
        Self::build(config, Params::new(seed, device))
    }

    /// Returns a model whose parameters have names and shapes but no values, to look at one of any size.
    ///
    /// # Errors
    /// A configuration that no model can have.
    pub fn outline(config: ModelConfig) -> Result<Self, ConfigError> {
        Self::build(config, Params::outline())
    }

    fn build(config: ModelConfig, params: Params) -> Result<Self, ConfigError> {
        config.validate()?;
        let p = params.root();
        let shape = [config.vocab_size, config.model_dim];
        Ok(Self {
            embedding: (&p / "embedding").param("weight", &shape, Init::Normal { std: 1. }),
            layers: (0..config.num_layers)
                .map(|idx| Layer::new(&(&p / "layers" / idx), &config, idx))
                .collect(),
            final_norm: RmsNorm::new(&(&p / "final_norm"), config.model_dim),
            tables: config.block_tables(params.device()),
            params,
            config,
            hash: OnceCell::new(),
        })
    }

    /// Returns the logits of every next token and the state after the segment. `state` is that before the segment, with
    /// rows already reset where documents start ([`Self::reset_rows`]).
    ///
    /// # Shapes
    /// `tokens` (int64): `[B, N]`, W divides N; logits: `[B, N, V]`.
    #[track_caller]
    pub fn forward(&self, tokens: &Tensor, state: &ModelState, mode: Mode) -> (Tensor, ModelState) {
        let (xs, state) = self.run(tokens, state, Pass { mode, segments: None });
        (self.unembed(&xs), state)
    }

    /// Returns the loss of a training step, the sum over all predictions in nats, and the state after the segment. Logits
    /// are never all there at once. With `segments` each layer keeps its input alone, and is computed again in the
    /// backward pass: for little memory.
    ///
    /// # Shapes
    /// `tokens`, `targets` (int64), `mask` (float): `[B, N]`; loss: a scalar.
    #[track_caller]
    pub fn loss<'env>(
        &'env self,
        tokens: &Tensor,
        [targets, mask]: [&Tensor; 2],
        state: &ModelState,
        segments: Option<&Segments<'env>>,
    ) -> (Tensor, ModelState) {
        let (xs, state) = self.run(tokens, state, Pass { mode: Mode::Train, segments });
        (loss::summed_cross_entropy(&self.scale_outputs(&xs), &self.embedding, targets, mask), state)
    }

    /// Returns the nats of every prediction, without gradient, and the state after the segment. Logits are never all there
    /// at once.
    ///
    /// # Shapes
    /// `tokens`, `targets` (int64), `mask` (float) and the nats: `[B, N]`.
    #[track_caller]
    pub fn score(
        &self,
        tokens: &Tensor,
        [targets, mask]: [&Tensor; 2],
        state: &ModelState,
    ) -> (Tensor, ModelState) {
        let (xs, state) = self.outputs(tokens, state);
        (loss::unembedded_cross_entropy(&self.scale_outputs(&xs), &self.embedding, targets, mask), state)
    }

    /// Returns the last norm's outputs, `[B, N, E]`, and the state after the segment.
    #[track_caller]
    fn run<'env>(
        &'env self,
        tokens: &Tensor,
        state: &ModelState,
        pass: Pass<'_, 'env>,
    ) -> (Tensor, ModelState) {
        let mode = pass.mode;
        let xs = self.embed_segment(tokens); // [n, B, W, E]
        let cleared = self.clear_state(state);
        let (xs, state) = match self.config.stack_window_len() {
            None => self.stack(&xs, &cleared, pass),
            Some(len) => self.stack_by_windows(&xs.split(len / self.config.window_len, 0), cleared, pass),
        };
        let xs = dropout::tiled_dropout(&self.final_norm.forward(&xs), self.config.dropout, mode);
        (xs.transpose(0, 1).flatten(1, 2), state)
    }

    /// Runs all layers over a segment, or a window of one: `[n, B, W, E]` in and out.
    fn stack<'env>(
        &'env self,
        xs: &Tensor,
        state: &ModelState,
        pass: Pass<'_, 'env>,
    ) -> (Tensor, ModelState) {
        let feedback = self.feedback(state);
        let mut xs = xs.shallow_clone();
        let mut layers = vec![];
        for (idx, (layer, state)) in self.layers.iter().zip(&state.layers).enumerate() {
            let (feedback, tables) = (feedback.as_ref(), &self.tables);
            let (ys, next) = probe::scope(
                || format!("layers.{idx}"),
                || match pass.segments {
                    None => layer.forward(&xs, state, feedback, tables, pass.mode),
                    Some(segments) => layer.recompute(&xs, state, feedback, (tables, pass.mode), segments),
                },
            );
            xs = ys;
            layers.push(next);
        }
        (xs, ModelState { layers })
    }

    /// Runs the stack window by window. Gradients cross windows as they cross blocks.
    fn stack_by_windows<'env>(
        &'env self,
        windows: &[Tensor],
        state: ModelState,
        pass: Pass<'_, 'env>,
    ) -> (Tensor, ModelState) {
        let (mut state, mut outputs) = (state, vec![]);
        for xs in windows {
            let (ys, next) = self.stack(xs, &state, pass);
            outputs.push(ys);
            state = if self.config.carry == Carry::Detached { next.detach_caches() } else { next };
        }
        (Tensor::cat(&outputs, 0), state)
    }

    /// Returns keys and values of the topmost recurrent layer's states, which all other layers attend to under feedback:
    /// `[1, B, H, S, D]`.
    fn feedback(&self, state: &ModelState) -> Option<Windows> {
        self.feedback_states(state)
            .map(|states| Windows::alone(states.keys.unsqueeze(0), states.values.unsqueeze(0)))
    }

    /// Returns the projections of the topmost recurrent layer's states, `[B, H, S, D]`; `None` without feedback.
    pub(crate) fn feedback_states(&self, state: &ModelState) -> Option<Projected> {
        let topmost = self.layers.iter().zip(&state.layers).rfind(|(layer, _)| layer.cell().is_some());
        let (layer, state) = topmost.filter(|_| self.config.has_feedback())?;
        layer.cell().map(|cell| cell.project(recurrent(state)))
    }

    /// Returns `state` as a segment starts from it: recurrent states initial where they live for one segment only.
    pub(crate) fn clear_state(&self, state: &ModelState) -> ModelState {
        let clears = self.config.recurrence.as_ref().is_some_and(|r| r.clear_state);
        if clears { self.reset_recurrent_states(state) } else { state.map(Tensor::shallow_clone) }
    }

    /// Returns the embeddings of a segment, block by block: `[B, N]` → `[n, B, W, E]`.
    #[track_caller]
    fn embed_segment(&self, tokens: &Tensor) -> Tensor {
        let [batch, segment_len] = dims("tokens", tokens);
        let window_len = self.config.window_len;
        assert!(
            segment_len % window_len == 0,
            "tokens: expected a multiple of {window_len}, got {segment_len}"
        );
        let xs = self.embed(&tokens.view([batch, -1, window_len]).transpose(0, 1)); // [n, B, W, E]
        match self.absolute_encoding(0, segment_len) {
            Some(encoding) => xs + encoding.unflatten(0, [-1, window_len]).unsqueeze(1),
            None => xs,
        }
    }

    /// Returns normalised outputs divided as the logits are: the same, and cheaper.
    fn scale_outputs(&self, xs: &Tensor) -> Tensor {
        let divisor = match self.config.logit_divisor {
            LogitDivisor::SqrtVocabSize => self.config.vocab_size,
            LogitDivisor::SqrtModelDim => self.config.model_dim,
        };
        xs / (divisor as f64).sqrt()
    }

    /// Returns the state of `batch` rows whose documents are about to start.
    pub fn initial_state(&self, batch: i64) -> ModelState {
        let device = self.params.device();
        let ModelConfig { num_heads, window_len, head_dim, carry, memory, .. } = self.config;
        let cache_len = if carry == Carry::None { 0 } else { window_len };
        let layer = |layer: &Layer| LayerState {
            cache: KvCache::zeros([batch, num_heads, cache_len, head_dim], device),
            recurrent: layer.cell().map(|cell| initial_rows(cell, batch)),
            memory: memory
                .filter(|_| layer.memory().is_some())
                .map(|m| KnnMemory::empty([batch, num_heads, m.capacity, head_dim], device)),
        };
        ModelState { layers: self.layers.iter().map(layer).collect() }
    }

    /// Returns `state` with the rows reset where documents start. The learned initial states keep their gradient.
    ///
    /// # Shapes
    /// `start_of_sequence` (bool): `[B]`.
    pub fn reset_rows(&self, state: &ModelState, start_of_sequence: &Tensor) -> ModelState {
        let layers = self.layers.iter().zip(&state.layers);
        ModelState {
            layers: layers.map(|(layer, state)| layer.reset_rows(state, start_of_sequence)).collect(),
        }
    }

    /// Returns `state` with every recurrent state initial and the rest as it is: the ablation in which nothing but
    /// attention crosses a segment.
    pub fn reset_recurrent_states(&self, state: &ModelState) -> ModelState {
        let ModelState { layers } = state.map(Tensor::shallow_clone);
        let layers = self.layers.iter().zip(layers);
        ModelState { layers: layers.map(|(layer, state)| layer.reset_recurrent(state)).collect() }
    }

    /// Returns the tables of a block, shared by all layers.
    pub fn tables(&self) -> &WindowTables {
        &self.tables
    }

    /// Returns the parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Returns the layers, from the bottom.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Returns the configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }
}
