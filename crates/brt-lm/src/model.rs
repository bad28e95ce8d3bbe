//! The language model: embedding, stack of layers, tied logits.

use brt_ops::{Mode, Params, RmsNorm, WindowTables, dims, dropout, init::Init};
use brt_txl::KvCache;
use tch::{Device, Kind, Tensor};

use crate::{ConfigError, Layer, LayerState, LogitDivisor, ModelConfig, ModelState};

/// Language model of any of the paper's kinds, as its configuration says.
#[derive(Debug)]
pub struct LanguageModel {
    embedding: Tensor, // [V, E]
    layers: Vec<Layer>,
    final_norm: RmsNorm,
    tables: WindowTables,
    params: Params,
    config: ModelConfig,
}

impl LanguageModel {
    /// Returns a model whose parameters are drawn from `seed` by their names.
    ///
    /// # Errors
    /// A configuration that no model can have.
    pub fn new(config: ModelConfig, seed: u64, device: Device) -> Result<Self, ConfigError> {
        config.validate()?;
        let params = Params::new(seed, device);
        let p = params.root();
        let shape = [config.vocab_size, config.model_dim];
        Ok(Self {
            embedding: (&p / "embedding").param("weight", &shape, Init::Normal { std: 1. }),
            layers: (0..config.num_layers)
                .map(|idx| Layer::new(&(&p / "layers" / idx), &config, idx))
                .collect(),
            final_norm: RmsNorm::new(&(&p / "final_norm"), config.model_dim),
            tables: WindowTables::block(config.window_len, device),
            params,
            config,
        })
    }

    /// Returns the logits of every next token and the state after the segment. `state` is that before the segment, with
    /// rows already reset where documents start ([`Self::reset_rows`]).
    ///
    /// # Shapes
    /// `tokens` (int64): `[B, N]`, W divides N; logits: `[B, N, V]`.
    #[track_caller]
    pub fn forward(&self, tokens: &Tensor, state: &ModelState, mode: Mode) -> (Tensor, ModelState) {
        let [batch, segment_len] = dims("tokens", tokens);
        let window_len = self.config.window_len;
        assert!(
            segment_len % window_len == 0,
            "tokens: expected a multiple of {window_len}, got {segment_len}"
        );
        let blocks = tokens.view([batch, -1, window_len]).transpose(0, 1); // [n, B, W]

        let num_layers = self.layers.len();
        assert!(
            state.layers.len() == num_layers,
            "state: expected {num_layers} layers, got {}",
            state.layers.len()
        );

        let mut xs = self.embed(&blocks); // [n, B, W, E]
        let mut layers = vec![];
        for (layer, state) in self.layers.iter().zip(&state.layers) {
            let (ys, next) = layer.forward(&xs, state, &self.tables, mode);
            xs = ys;
            layers.push(next);
        }
        let xs = dropout::tiled_dropout(&self.final_norm.forward(&xs), self.config.dropout, mode);
        let xs = xs.transpose(0, 1).flatten(1, 2); // [B, N, E]
        (self.unembed(&xs), ModelState { layers })
    }

    /// Returns the embeddings of `tokens`; no scaling.
    ///
    /// # Shapes
    /// `tokens`: `[..]`; result: `[.., E]`.
    pub(crate) fn embed(&self, tokens: &Tensor) -> Tensor {
        Tensor::embedding(&self.embedding, tokens, -1, false, false)
    }

    /// Returns the logits of normalised outputs, by the tied embedding.
    ///
    /// # Shapes
    /// `xs`: `[.., E]`; result: `[.., V]`.
    pub(crate) fn unembed(&self, xs: &Tensor) -> Tensor {
        let divisor = match self.config.logit_divisor {
            LogitDivisor::SqrtVocabSize => self.config.vocab_size,
            LogitDivisor::SqrtModelDim => self.config.model_dim,
        };
        // Scaling x is cheaper than scaling the logits, and the same.
        (xs / (divisor as f64).sqrt()).linear::<Tensor>(&self.embedding, None)
    }

    /// Returns the final norm's output, `[.., E]`.
    pub(crate) fn finish(&self, xs: &Tensor) -> Tensor {
        self.final_norm.forward(xs)
    }

    /// Returns the state of `batch` rows whose documents are about to start.
    pub fn initial_state(&self, batch: i64) -> ModelState {
        let device = self.params.device();
        let ModelConfig { num_heads, window_len, head_dim, .. } = self.config;
        let layer = |layer: &Layer| LayerState {
            cache: KvCache::zeros([batch, num_heads, window_len, head_dim], device),
            recurrent: layer.cell().map(|cell| cell.initial_state().unsqueeze(0).repeat([batch, 1, 1])),
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

    /// Returns `state` with every recurrent state initial and the key/value caches as they are: the ablation in which
    /// nothing but attention crosses a segment.
    pub fn reset_recurrent_states(&self, state: &ModelState) -> ModelState {
        let reset = |(layer, state): (&Layer, &LayerState)| LayerState {
            cache: state.cache.map(Tensor::shallow_clone),
            recurrent: layer.cell().map(|cell| {
                let all = Tensor::ones([state.cache.keys.size()[0]], (Kind::Bool, self.params.device()));
                cell.reset_rows(crate::layer::recurrent(state), &all)
            }),
        };
        ModelState { layers: self.layers.iter().zip(&state.layers).map(reset).collect() }
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
