//! From a sidecar to the configuration of a model.

use anyhow::{Result, bail};
use brt_lm::{
    Carry, CellLayout, Gate, LogitDivisor, ModelConfig, PositionConfig, QkNorm, RecurrenceConfig, Temperature,
};
use brt_ops::position::AlibiBound;
use serde_json::Value;

use crate::golden::Golden;

/// Returns the model of a file, in the conventions of the 2025 release that made it.
pub(crate) fn config(golden: &Golden) -> Result<ModelConfig> {
    let sidecar = &golden.config;
    let layers = sidecar["recurrent_layers"].as_array().map(|layers| layers.iter().filter_map(Value::as_i64));
    let recurrence = recurrence(golden, layers.map_or(vec![0], Iterator::collect))?;
    let position = position(golden)?;
    let is_absolute = matches!(position, PositionConfig::Absolute { .. });
    let segment_len = golden.int("segment_length")?;
    Ok(ModelConfig {
        vocab_size: sidecar["vocab"].as_i64().unwrap_or(2),
        model_dim: golden.int("d_model")?,
        num_layers: sidecar["num_layers"].as_i64().unwrap_or(1),
        num_heads: golden.int("num_heads")?,
        head_dim: golden.int("head_dim")?,
        ffn_dim: golden.int("mlp_dim")?,
        window_len: golden.int("window_length")?,
        carry: match sidecar["transformer_xl_cache"].as_bool() {
            Some(false) => Carry::None,
            _ => Carry::Differentiable,
        },
        position,
        qk_norm: match sidecar["normalize_keys_queries"].as_bool() {
            Some(false) => QkNorm::None,
            _ => QkNorm::Unit,
        },
        temperature: Temperature::Absolute,
        logit_divisor: LogitDivisor::SqrtModelDim,
        dropout: 0.,
        attention_dropout: 0.,
        segment_len: is_absolute.then_some(segment_len),
        stack_window_len: None,
        recurrence,
        memory: None,
    })
}

fn recurrence(golden: &Golden, layers: Vec<i64>) -> Result<Option<RecurrenceConfig>> {
    let Some(gate) = golden.config["gate"].as_str() else { return Ok(None) };
    let gate = match gate {
        "fixed" => Gate::Fixed,
        "lstm" => Gate::Lstm,
        other => bail!("config.gate: expected fixed or lstm, got {other}"),
    };
    let layout = match golden.config["cell"].as_str() {
        Some("dual") => CellLayout::Dual,
        Some("single") => CellLayout::Single,
        Some("skip") => CellLayout::Skip,
        other => bail!("config.cell: expected dual, single or skip, got {other:?}"),
    };
    let feedback = golden.config["feedback"].as_bool().unwrap_or(false);
    let num_states = golden.int("num_states")?;
    Ok(Some(RecurrenceConfig { layers, gate, layout, num_states, feedback, clear_state: false }))
}

fn position(golden: &Golden) -> Result<PositionConfig> {
    let number = |key: &str, usual: i64| golden.config[key].as_i64().unwrap_or(usual);
    let max_half_wavelength = number("rotary_max_half_wavelength", 10_000) as f64;
    Ok(match golden.config["positions"].as_str() {
        Some("t5") => PositionConfig::T5 {
            num_buckets: number("t5_num_buckets", 32),
            max_distance: number("t5_max_distance", 128),
        },
        Some("rotary") => PositionConfig::Rotary { max_half_wavelength },
        Some("absolute") => PositionConfig::Absolute { max_half_wavelength },
        Some("fourier") => PositionConfig::Fourier { vector_len: number("fourier_vector_size", 128) },
        Some("alibi") => PositionConfig::Alibi { bound: AlibiBound::Shared },
        Some("nn") => PositionConfig::Neural { num_hidden: 128 },
        Some("orthogonal") => PositionConfig::Orthogonal { num_functions: 7, last_shift: 64. },
        Some("none") => PositionConfig::None {},
        other => bail!("config.positions: expected a kind of position, got {other:?}"),
    })
}
