//! Configuration of a language model.

use brt_cell::{CellConfig, CellLayout, Gate};
use brt_ops::{Carry, CrossQueries, QkNorm, Temperature};
use brt_txl::LayerConfig;
use serde::{Deserialize, Serialize};

/// What the logits are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogitDivisor {
    /// √V (the 2022 release).
    SqrtVocabSize,
    /// √E (the 2025 release).
    SqrtModelDim,
}

/// Shape and options of a language model. A file must give every key.
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
    /// Whether gradients flow from block to block: `detached` makes a Transformer-XL of a sliding-window model.
    pub carry: Carry,
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
    /// Recurrent layers; absent in the baselines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<RecurrenceConfig>,
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

impl ModelConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first key whose value no model can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("model_dim", self.model_dim),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
            ("head_dim", self.head_dim),
            ("ffn_dim", self.ffn_dim),
            ("window_len", self.window_len),
            ("recurrence.num_states", self.recurrence.as_ref().map_or(1, |r| r.num_states)),
        ];
        for (key, size) in sizes {
            check(key, "at least 1", size, size >= 1)?;
            check(key, "at most 1000000", size, size <= 1_000_000)?;
        }
        // The tables of who sees whom have 2W² entries.
        check("window_len", "at most 16384", self.window_len, self.window_len <= 16_384)?;
        for (key, rate) in [("dropout", self.dropout), ("attention_dropout", self.attention_dropout)] {
            check(key, "a rate in 0.0 .. 1.0", rate, (0. ..1.).contains(&rate))?;
        }
        let num_layers = self.num_layers;
        for &idx in self.recurrence.iter().flat_map(|r| &r.layers) {
            let range = format!("indices in {} .. {num_layers}", -num_layers);
            check("recurrence.layers", &range, idx, (-num_layers..num_layers).contains(&idx))?;
        }
        if let Some(recurrence) = &self.recurrence {
            let num = self.recurrent_layers().len();
            let expected = "one or more different layers";
            let fits = num > 0 && num == recurrence.layers.len();
            check("recurrence.layers", expected, format!("{:?}", recurrence.layers), fits)?;
        }
        Ok(())
    }

    /// Checks that a segment is a whole number of windows.
    ///
    /// # Errors
    /// Both lengths, where it is not.
    pub fn check_segment_len(&self, segment_len: i64) -> Result<(), ConfigError> {
        let fits = segment_len > 0 && segment_len % self.window_len == 0;
        let expected = format!("a divisor of the segment length {segment_len}");
        check("window_len", &expected, self.window_len, fits)
    }

    /// Returns the indices of the recurrent layers, counted from the bottom, sorted.
    pub fn recurrent_layers(&self) -> Vec<i64> {
        let indices = self.recurrence.iter().flat_map(|r| &r.layers);
        let mut layers: Vec<_> =
            indices.map(|&idx| if idx < 0 { idx + self.num_layers } else { idx }).collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }

    /// Returns one line in the paper's words, for example `Rec:fixed:skip, 4 layers, W 32, S 32`.
    pub fn description(&self) -> String {
        let (layers, window_len) = (self.num_layers, self.window_len);
        match &self.recurrence {
            Some(r) => {
                let gate = format!("{:?}", r.gate).to_lowercase();
                let layout = format!("{:?}", r.layout).to_lowercase();
                format!("Rec:{gate}:{layout}, {layers} layers, W {window_len}, S {}", r.num_states)
            }
            None if self.carry == Carry::Detached => format!("XL:{window_len}, {layers} layers"),
            None => format!("Slide:{layers}L, W {window_len}"),
        }
    }

    pub(crate) fn layer(&self, cross_queries: CrossQueries) -> LayerConfig {
        LayerConfig {
            model_dim: self.model_dim,
            num_heads: self.num_heads,
            head_dim: self.head_dim,
            ffn_dim: self.ffn_dim,
            qk_norm: self.qk_norm,
            temperature: self.temperature,
            carry: self.carry,
            cross_queries,
            dropout: self.dropout,
            attention_dropout: self.attention_dropout,
        }
    }

    pub(crate) fn cell(&self, recurrence: &RecurrenceConfig) -> CellConfig {
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

fn check(key: &'static str, expected: &str, got: impl ToString, fits: bool) -> Result<(), ConfigError> {
    if fits {
        Ok(())
    } else {
        Err(ConfigError { section: "model", key, expected: expected.into(), got: got.to_string() })
    }
}
