//! Small models of every kind, with parameters that are not at their special initial values.
#![allow(dead_code, reason = "not every test program uses all of it")]

use brt_lm::{
    Carry, CellLayout, Gate, LanguageModel, LogitDivisor, ModelConfig, PositionConfig, QkNorm,
    RecurrenceConfig, Temperature,
};
use brt_ops::init::seeded;
use tch::{Device, Kind, Tensor};

/// Every gate and layout, and the baselines.
pub(crate) const VARIANTS: [Option<(Gate, CellLayout)>; 7] = [
    None,
    Some((Gate::Fixed, CellLayout::Skip)),
    Some((Gate::Fixed, CellLayout::Single)),
    Some((Gate::Fixed, CellLayout::Dual)),
    Some((Gate::Lstm, CellLayout::Skip)),
    Some((Gate::Lstm, CellLayout::Single)),
    Some((Gate::Lstm, CellLayout::Dual)),
];

/// A model of three layers, the middle one recurrent where the variant has a cell; H·D differs from E.
pub(crate) fn config(variant: Option<(Gate, CellLayout)>, window_len: i64, num_states: i64) -> ModelConfig {
    ModelConfig {
        vocab_size: 23,
        model_dim: 12,
        num_layers: 3,
        num_heads: 2,
        head_dim: 5,
        ffn_dim: 20,
        window_len,
        carry: Carry::Differentiable,
        position: PositionConfig::PAPER,
        qk_norm: QkNorm::Unit,
        temperature: Temperature::Raw,
        logit_divisor: LogitDivisor::SqrtModelDim,
        dropout: 0.,
        attention_dropout: 0.,
        segment_len: None,
        stack_window_len: None,
        recurrence: variant.map(|(gate, layout)| RecurrenceConfig::new(vec![-2], gate, layout, num_states)),
        memory: None,
    }
}

/// Builds the model and moves every parameter off its special value (gains and temperatures of one).
pub(crate) fn build(config: ModelConfig) -> LanguageModel {
    let model = LanguageModel::new(config, 7, Device::Cpu).expect("a valid configuration");
    for (name, parameter) in model.params().named() {
        let shift = seeded(3, &name, || parameter.detach().randn_like() * 0.3);
        let _ = parameter.detach().g_add_(&shift);
    }
    model
}

/// Random tokens `[batch, len]`.
pub(crate) fn tokens(batch: i64, len: i64, seed: u64) -> Tensor {
    seeded(seed, "tokens", || Tensor::randint(23, [batch, len], (Kind::Int64, Device::Cpu)))
}

/// Largest absolute difference.
pub(crate) fn difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}
