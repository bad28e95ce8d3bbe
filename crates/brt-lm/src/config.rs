//! Configuration of a language model.

use brt_cell::{CellConfig, CellLayout, Gate};
use brt_ops::{Carry, CrossQueries, PositionConfig, QkNorm, Temperature, WindowShape, WindowTables};
use brt_txl::{LayerConfig, MemoryConfig};
use serde::{Deserialize, Serialize};
use tch::Device;

mod validate;

/// What the logits are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogitDivisor {
    /// √V (the 2022 release).
    SqrtVocabSize,
    /// √E (the 2025 release).
    SqrtModelDim,
}

/// Shape and options of a language model. A file must give every key that is no option of one kind of model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Rows V of the embedding table.
    pub vocab_size: i64,
    /// Width E of the residual stream.
    pub model_dim: i64,
    /// Number of layers L.
    pub num_layers: i64,
    /// Number of heads H.
    pub num_heads: i64,
    /// Width D of a head.
    pub head_dim: i64,
    /// Hidden width M of the feed-forward layers.
    pub ffn_dim: i64,
    /// Window W in tokens: how far attention reaches, and how often the recurrent state moves on.
    pub window_len: i64,
    /// What flows from block to block: `detached` makes a Transformer-XL of a sliding-window model, `none` a vanilla
    /// transformer.
    pub carry: Carry,
    /// Position information of token self-attention.
    pub position: PositionConfig,
    /// Normalisation of queries and keys.
    pub qk_norm: QkNorm,
    /// How attention temperatures act.
    pub temperature: Temperature,
    /// What the logits are divided by.
    pub logit_divisor: LogitDivisor,
    /// Dropout rate of activations.
    pub dropout: f64,
    /// Dropout rate of attention probabilities.
    pub attention_dropout: f64,
    /// Tokens after which absolute positions and cleared states start again: the segment length of the training. Given
    /// where the model has either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_len: Option<i64>,
    /// Tokens that the whole stack processes before it goes on to the next ones, a multiple of the window. Absent where
    /// each layer processes the whole segment at once; feedback implies the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack_window_len: Option<i64>,
    /// Recurrent layers; absent in the baselines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<RecurrenceConfig>,
    /// The layer with a kNN memory; absent but in the Memorizing Transformer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryConfig>,
}

/// Which layers are recurrent, and their cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecurrenceConfig {
    /// Indices of the recurrent layers; negative ones count from the top.
    pub layers: Vec<i64>,
    /// Kind of gate.
    pub gate: Gate,
    /// Layout of the cell.
    pub layout: CellLayout,
    /// Number of state vectors S.
    pub num_states: i64,
    /// Whether all other layers attend to the states of the topmost recurrent layer, too.
    #[serde(default)]
    pub feedback: bool,
    /// Whether the state starts anew with every segment: an ablation.
    #[serde(default)]
    pub clear_state: bool,
}

impl RecurrenceConfig {
    /// Returns recurrence without feedback, its state carried from segment to segment.
    pub fn new(layers: Vec<i64>, gate: Gate, layout: CellLayout, num_states: i64) -> Self {
        Self { layers, gate, layout, num_states, feedback: false, clear_state: false }
    }
}

/// A configuration that no model can have.
#[derive(Debug, thiserror::Error)]
#[error("{section}.{key}: expected {expected}, got {got}")]
pub struct ConfigError {
    /// The section of the file.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
    /// What it may be.
    pub expected: String,
    /// What it is.
    pub got: String,
}

impl ConfigError {
    /// Returns the error where a value does not fit.
    ///
    /// # Errors
    /// Itself.
    pub fn check(
        section: &'static str,
        key: &'static str,
        expected: &str,
        got: impl ToString,
        fits: bool,
    ) -> Result<(), Self> {
        if fits {
            Ok(())
        } else {
            Err(Self { section, key, expected: expected.into(), got: got.to_string() })
        }
    }
}

impl ModelConfig {
    /// Returns the paper's sliding-window model of 12 layers and 151 M parameters without embeddings, in the conventions
    /// of the 2022 release: the model that the others differ from.
    pub fn paper() -> Self {
        Self {
            vocab_size: 32_128,
            model_dim: 1024,
            num_layers: 12,
            num_heads: 8,
            head_dim: 128,
            ffn_dim: 4096,
            window_len: 512,
            carry: Carry::Differentiable,
            position: PositionConfig::PAPER,
            qk_norm: QkNorm::Unit,
            temperature: Temperature::Raw,
            logit_divisor: LogitDivisor::SqrtVocabSize,
            dropout: 0.05,
            attention_dropout: 0.05,
            segment_len: None,
            stack_window_len: None,
            recurrence: None,
            memory: None,
        }
    }

    /// Checks that a segment is a whole number of windows, and the one that the model was made for.
    ///
    /// # Errors
    /// Both lengths, where it is not.
    pub fn check_segment_len(&self, segment_len: i64) -> Result<(), ConfigError> {
        let fits = segment_len > 0 && segment_len % self.window_len == 0;
        let expected = format!("a divisor of the segment length {segment_len}");
        validate::check("window_len", &expected, self.window_len, fits)?;
        let (expected, got) = ("the segment length of the data", self.segment_len.unwrap_or(segment_len));
        validate::check("segment_len", &format!("{expected}, {segment_len}"), got, got == segment_len)
    }

    /// Returns the indices of the recurrent layers, counted from the bottom, sorted.
    pub fn recurrent_layers(&self) -> Vec<i64> {
        let indices = self.recurrence.iter().flat_map(|r| &r.layers);
        let mut layers: Vec<_> = indices.map(|&idx| self.counted_from_bottom(idx)).collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }

    /// Returns the layer with a memory, counted from the bottom.
    pub fn memory_layer(&self) -> Option<i64> {
        self.memory.map(|memory| self.counted_from_bottom(memory.layer))
    }

    /// Returns the index of a layer counted from the bottom.
    fn counted_from_bottom(&self, idx: i64) -> i64 {
        if idx < 0 { idx + self.num_layers } else { idx }
    }

    /// Returns whether the layers attend to the states of a recurrent layer above or below them.
    pub fn has_feedback(&self) -> bool {
        self.recurrence.as_ref().is_some_and(|r| r.feedback)
    }

    /// Returns after how many tokens the whole stack goes on to the next ones; `None` where layers go on by themselves.
    pub(crate) fn stack_window_len(&self) -> Option<i64> {
        if self.has_feedback() { Some(self.window_len) } else { self.stack_window_len }
    }

    /// Returns one line in the paper's words, for example `Rec:fixed:skip, 4 layers, W 32, S 32`.
    pub fn description(&self) -> String {
        let (layers, window_len) = (self.num_layers, self.window_len);
        let name = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
        if let Some(r) = &self.recurrence {
            let kind = if r.feedback { "Feedback" } else { "Rec" };
            let (gate, layout) = (name(&r.gate), name(&r.layout));
            let memory = self.memory.map_or(String::new(), |m| format!(", memory {}", m.capacity));
            return format!(
                "{kind}:{gate}:{layout}, {layers} layers, W {window_len}, S {}{memory}",
                r.num_states
            );
        }
        if let Some(memory) = self.memory {
            return format!("Memorizing:{}, {layers} layers, W {window_len}", memory.capacity);
        }
        match self.carry {
            Carry::Differentiable => format!("Slide:{layers}L, W {window_len}"),
            Carry::Detached => format!("XL:{window_len}, {layers} layers"),
            Carry::None => format!("Vanilla:{window_len}, {layers} layers"),
        }
    }

    /// Returns the tables of a block, which all layers share.
    pub(crate) fn block_tables(&self, device: Device) -> WindowTables {
        let shape = match self.carry {
            Carry::Differentiable | Carry::Detached => WindowShape::block(self.window_len),
            Carry::None => WindowShape::alone(self.window_len),
        };
        WindowTables::new(shape, &self.position, self.head_dim, device)
    }

    /// Returns the tables of one token after the `num_keys` that it sees.
    pub(crate) fn token_tables(&self, num_keys: i64, device: Device) -> WindowTables {
        WindowTables::new(
            WindowShape::token(self.window_len, num_keys),
            &self.position,
            self.head_dim,
            device,
        )
    }

    /// Returns the configuration of the token half of layer `idx`.
    pub(crate) fn layer(&self, idx: i64) -> LayerConfig {
        let is_recurrent = self.recurrent_layers().contains(&idx);
        let has_states = is_recurrent || self.has_feedback();
        let is_local = self.memory_layer() == Some(idx) && self.memory.is_some_and(|m| !m.local_position);
        LayerConfig {
            model_dim: self.model_dim,
            num_heads: self.num_heads,
            head_dim: self.head_dim,
            ffn_dim: self.ffn_dim,
            qk_norm: self.qk_norm,
            temperature: self.temperature,
            carry: self.carry,
            position: if is_local { PositionConfig::None {} } else { self.position },
            cross_queries: if has_states { CrossQueries::Present } else { CrossQueries::Absent },
            dropout: self.dropout,
            attention_dropout: self.attention_dropout,
        }
    }

    /// Returns shape and options of the cell of a recurrent layer.
    pub fn cell(&self, recurrence: &RecurrenceConfig) -> CellConfig {
        CellConfig {
            gate: recurrence.gate,
            layout: recurrence.layout,
            num_states: recurrence.num_states,
            model_dim: self.model_dim,
            num_heads: self.num_heads,
            head_dim: self.head_dim,
            ffn_dim: self.ffn_dim,
            qk_norm: self.qk_norm,
            temperature: self.temperature,
        }
    }
}
