//! Small models of every kind, with parameters that are not at their special initial values.
#![allow(dead_code, reason = "not every test program uses all of it")]

use brt_lm::{
    Carry, CellLayout, Gate, LanguageModel, LogitDivisor, MemoryConfig, ModelConfig, PositionConfig, QkNorm,
    RecurrenceConfig, Temperature,
};
use brt_ops::{init::seeded, position::AlibiBound};
use tch::{Device, Kind, Tensor};

pub(crate) const GATES: [Gate; 3] = [Gate::Fixed, Gate::Lstm, Gate::Full];
pub(crate) const LAYOUTS: [CellLayout; 3] = [CellLayout::Skip, CellLayout::Single, CellLayout::Dual];

/// Every kind of position information.
pub(crate) const POSITIONS: [PositionConfig; 10] = [
    PositionConfig::PAPER,
    PositionConfig::None {},
    PositionConfig::Rotary { max_half_wavelength: 10_000. },
    PositionConfig::Absolute { max_half_wavelength: 10_000. },
    PositionConfig::Fourier { vector_len: 8 },
    PositionConfig::Alibi { bound: AlibiBound::Shared },
    PositionConfig::Alibi { bound: AlibiBound::PerHead },
    PositionConfig::Alibi { bound: AlibiBound::Fixed(2.) },
    PositionConfig::Neural { num_hidden: 6 },
    PositionConfig::Orthogonal { num_functions: 5, last_shift: 64. },
];

/// A sliding-window model of three layers; H·D differs from E.
pub(crate) fn plain(window_len: i64) -> ModelConfig {
    ModelConfig {
        vocab_size: 23,
        model_dim: 12,
        num_layers: 3,
        num_heads: 2,
        head_dim: 4,
        ffn_dim: 20,
        window_len,
        logit_divisor: LogitDivisor::SqrtModelDim,
        dropout: 0.,
        attention_dropout: 0.,
        ..ModelConfig::paper()
    }
}

/// The same with the middle layer recurrent.
pub(crate) fn recurrent(gate: Gate, layout: CellLayout, window_len: i64, num_states: i64) -> ModelConfig {
    let recurrence = RecurrenceConfig::new(vec![-2], gate, layout, num_states);
    ModelConfig { recurrence: Some(recurrence), ..plain(window_len) }
}

/// The same as [`plain`] with a memory in the middle layer.
pub(crate) fn memorizing(window_len: i64, local_position: bool) -> ModelConfig {
    let capacity = 2 * (2 * window_len + 1); // not a multiple of the window
    let memory = MemoryConfig { layer: 1, capacity, num_neighbours: 2, local_position };
    ModelConfig { memory: Some(memory), ..plain(window_len) }
}

/// Changes the recurrence of a configuration.
pub(crate) fn with_recurrence(
    mut config: ModelConfig,
    change: impl Fn(&mut RecurrenceConfig),
) -> ModelConfig {
    config.recurrence.iter_mut().for_each(change);
    config
}

/// Every kind of model with a window and a number of states, its name first. `segment_len`: for those that need it.
pub(crate) fn every_model(window_len: i64, num_states: i64, segment_len: i64) -> Vec<(String, ModelConfig)> {
    let segment_len = Some(segment_len);
    let mut models = vec![
        ("transformer-xl".into(), ModelConfig { carry: Carry::Detached, ..plain(window_len) }),
        ("vanilla".into(), ModelConfig { carry: Carry::None, ..plain(window_len) }),
        ("no qk norm".into(), ModelConfig { qk_norm: QkNorm::None, ..plain(window_len) }),
        ("2025".into(), ModelConfig { temperature: Temperature::Absolute, ..plain(window_len) }),
        ("√V".into(), ModelConfig { logit_divisor: LogitDivisor::SqrtVocabSize, ..plain(window_len) }),
        ("stack windows".into(), ModelConfig { stack_window_len: Some(window_len), ..plain(window_len) }),
        ("memory".into(), memorizing(window_len, true)),
        ("memory without positions".into(), memorizing(window_len, false)),
    ];
    for position in POSITIONS {
        let config = ModelConfig { position, segment_len, ..plain(window_len) };
        models.push((format!("{position:?}"), config));
    }
    for (gate, layout) in GATES.into_iter().flat_map(|gate| LAYOUTS.map(|layout| (gate, layout))) {
        let config = recurrent(gate, layout, window_len, num_states);
        let feedback = with_recurrence(config.clone(), |r| r.feedback = true);
        models.push((format!("{gate:?} {layout:?}"), config));
        models.push((format!("{gate:?} {layout:?} feedback"), feedback));
    }
    let skip = || recurrent(Gate::Fixed, CellLayout::Skip, window_len, num_states);
    let two = with_recurrence(skip(), |r| r.layers = vec![0, -1]);
    let clear = with_recurrence(ModelConfig { segment_len, ..skip() }, |r| r.clear_state = true);
    let rotary = PositionConfig::Rotary { max_half_wavelength: 10_000. };
    models.extend([
        ("two recurrent layers, feedback".into(), with_recurrence(two.clone(), |r| r.feedback = true)),
        ("two recurrent layers".into(), two),
        ("cleared state".into(), clear),
        ("recurrent, no qk norm".into(), ModelConfig { qk_norm: QkNorm::None, ..skip() }),
        ("recurrent, nothing carried".into(), ModelConfig { carry: Carry::None, ..skip() }),
        ("recurrent, rotary".into(), ModelConfig { position: rotary, ..skip() }),
        ("recurrent, stack windows".into(), ModelConfig { stack_window_len: Some(window_len), ..skip() }),
        ("recurrent with memory".into(), ModelConfig { memory: memorizing_top(window_len), ..skip() }),
    ]);
    models
}

fn memorizing_top(window_len: i64) -> Option<MemoryConfig> {
    memorizing(window_len, true).memory.map(|memory| MemoryConfig { layer: -1, ..memory })
}

/// Builds the model and moves every parameter off its special value (gains and temperatures of one, zeros).
pub(crate) fn build(config: ModelConfig) -> LanguageModel {
    build_seeded(config, 3)
}

/// As [`build`], with parameters of another seed.
pub(crate) fn build_seeded(config: ModelConfig, seed: u64) -> LanguageModel {
    let model = LanguageModel::new(config, seed, Device::Cpu).expect("a valid configuration");
    for (name, parameter) in model.params().named() {
        let shift = seeded(seed, &name, || parameter.detach().randn_like() * 0.3);
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
