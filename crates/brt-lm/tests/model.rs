//! A model as its users see it: trained parameters, their names, sizes, dropout, errors of its configuration.

mod common;

use brt_lm::{
    CellLayout, Gate, LanguageModel, Mode, ModelConfig, ModelState, PositionConfig, RecurrenceConfig,
};
use brt_ops::init::seeded;
use common::{build, difference, every_model, memorizing, plain, recurrent, tokens, with_recurrence};
use tch::{Device, Kind, Tensor};

/// Every parameter gets a gradient from a segment that starts a document.
#[test]
fn every_parameter_is_trained() {
    for (variant, config) in every_model(3, 4, 9) {
        let model = build(config);
        let tokens = tokens(1, 9, 1);
        let (logits, _) = model.forward(&tokens, &model.initial_state(1), Mode::Train);
        logits.square().sum(Kind::Float).backward();
        for (name, parameter) in model.params().named() {
            if name.ends_with("position_bias.bound") {
                continue; // ALiBi's bound acts where a penalty reaches it: not in a window of 3.
            }
            let gradient = parameter.grad();
            assert!(gradient.defined() && gradient.abs().max().double_value(&[]) > 0., "{variant}: {name}");
        }
    }
}

/// Dropout is drawn from the process's generator: tests take turns at it.
fn forward(
    model: &LanguageModel,
    tokens: &Tensor,
    state: &ModelState,
    mode: Mode,
    seed: u64,
) -> (Tensor, ModelState) {
    seeded(seed, "dropout", || tch::no_grad(|| model.forward(tokens, state, mode)))
}

fn with_dropout(config: ModelConfig, dropout: f64, attention_dropout: f64) -> ModelConfig {
    ModelConfig { dropout, attention_dropout, ..config }
}

/// Dropout acts in training only, and depends on the seed alone.
#[test]
fn dropout_acts_in_training_only_and_follows_the_seed() {
    for (variant, config) in every_model(3, 4, 9) {
        for (dropout, attention_dropout) in [(0.3, 0.), (0., 0.3)] {
            let model = build(with_dropout(config.clone(), dropout, attention_dropout));
            let tokens = tokens(2, 9, 1);
            let start = model.initial_state(2);
            let run = |mode, seed| forward(&model, &tokens, &start, mode, seed).0;
            assert_eq!(run(Mode::Eval, 1), run(Mode::Eval, 2), "{variant}");
            assert_eq!(run(Mode::Train, 1), run(Mode::Train, 1), "{variant}");
            assert_ne!(run(Mode::Train, 1), run(Mode::Train, 2), "{variant}");
            assert_ne!(run(Mode::Train, 1), run(Mode::Eval, 1), "{variant}");
        }
    }
}

/// All rows share a mask: equal rows stay equal.
#[test]
fn rows_share_their_dropout_masks() {
    for (variant, config) in every_model(3, 4, 9) {
        let model = build(with_dropout(config, 0.3, 0.3));
        let tokens = tokens(1, 9, 1).repeat([2, 1]);
        let (logits, _) = forward(&model, &tokens, &model.initial_state(2), Mode::Train, 1);
        let error = difference(&logits.get(0), &logits.get(1));
        assert!(error < 1e-5, "{variant}: {error}");
    }
}

/// Attention dropout never touches what states read, nor do their own layers drop anything.
#[test]
fn nothing_is_dropped_in_the_state_path() {
    for (gate, layout) in common::GATES.into_iter().flat_map(|gate| common::LAYOUTS.map(|l| (gate, l))) {
        let lowest = with_recurrence(recurrent(gate, layout, 3, 4), |r| r.layers = vec![0]);
        let model = build(with_dropout(lowest, 0., 0.5));
        let tokens = tokens(1, 9, 1);
        let run = |mode| forward(&model, &tokens, &model.initial_state(1), mode, 1);
        let ((trained, after_training), (used, after_use)) = (run(Mode::Train), run(Mode::Eval));
        assert_ne!(trained, used, "{gate:?} {layout:?}");
        // The lowest layer's keys and values come from embeddings alone, so its states must not differ.
        let states = |state: &ModelState| state.layers[0].recurrent.as_ref().map(Tensor::copy);
        assert_eq!(states(&after_training), states(&after_use), "{gate:?} {layout:?}");
    }
}

/// The parameters of the paper's best variant, by name: what files of weights hold.
#[test]
fn parameter_names() {
    let model = build(recurrent(Gate::Fixed, CellLayout::Skip, 3, 4));
    let expected = [
        "embedding.weight [23, 12]",
        "final_norm.weight [12]",
        "layers.1.attention.cross_query.weight [8, 12]",
        "layers.1.attention.cross_temperature [2]",
        "layers.1.attention.key.weight [8, 12]",
        "layers.1.attention.norm.weight [12]",
        "layers.1.attention.query.weight [8, 12]",
        "layers.1.attention.temperature [2]",
        "layers.1.attention.value.weight [8, 12]",
        "layers.1.attention_out.weight [12, 16]",
        "layers.1.cell.attention.cross_query.weight [8, 12]",
        "layers.1.cell.attention.cross_temperature [2]",
        "layers.1.cell.attention.key.weight [8, 12]",
        "layers.1.cell.attention.norm.weight [12]",
        "layers.1.cell.attention.query.weight [8, 12]",
        "layers.1.cell.attention.state_ids [4, 12]",
        "layers.1.cell.attention.temperature [2]",
        "layers.1.cell.attention.value.weight [8, 12]",
        "layers.1.cell.attention_gate.gate_bias [12]",
        "layers.1.cell.attention_out.weight [12, 16]",
        "layers.1.cell.initial_state [4, 12]",
        "layers.1.ffn.hidden.weight [20, 12]",
        "layers.1.ffn.out.weight [12, 20]",
        "layers.1.ffn_norm.weight [12]",
        "layers.1.position_bias.weight [2, 32]",
    ];
    let named = model.params().named();
    let recurrent_and_outer = |name: &str| !name.starts_with("layers.0.") && !name.starts_with("layers.2.");
    let got: Vec<String> = named
        .iter()
        .filter(|(name, _)| recurrent_and_outer(name))
        .map(|(name, p)| format!("{name} {:?}", p.size()))
        .collect();
    assert_eq!(got, expected);
}

/// Errors name the key, what it may be and what it is.
#[test]
fn configuration_errors() {
    let error = |config: ModelConfig| LanguageModel::new(config, 1, Device::Cpu).unwrap_err().to_string();
    let recurrent = || recurrent(Gate::Fixed, CellLayout::Skip, 3, 4);
    let layers = |layers: &[i64]| with_recurrence(recurrent(), |r| r.layers = layers.to_vec());
    let memory = |change: &dyn Fn(&mut brt_lm::MemoryConfig)| {
        let mut config = memorizing(3, true);
        config.memory.iter_mut().for_each(change);
        config
    };
    let absolute = PositionConfig::Absolute { max_half_wavelength: 1e4 };
    let rotary = PositionConfig::Rotary { max_half_wavelength: 1e4 };
    let table = [
        (ModelConfig { num_heads: 0, ..plain(3) }, "num_heads: expected at least 1, got 0"),
        (with_dropout(plain(3), 1., 0.), "dropout: expected a rate in 0.0 .. 1.0, got 1"),
        (layers(&[3]), "recurrence.layers: expected indices in -3 .. 3, got 3"),
        (layers(&[1, -2]), "recurrence.layers: expected one or more different layers, got [1, -2]"),
        (
            with_recurrence(recurrent(), |r| r.num_states = 0),
            "recurrence.num_states: expected at least 1, got 0",
        ),
        (
            ModelConfig { position: absolute, ..plain(3) },
            "segment_len: expected the segment length, where positions are absolute or states are cleared, got nothing",
        ),
        (
            ModelConfig { position: rotary, head_dim: 5, ..plain(3) },
            "head_dim: expected an even number of at least 2, got 5",
        ),
        (
            ModelConfig { stack_window_len: Some(4), ..plain(3) },
            "stack_window_len: expected a multiple of the window 3, got 4",
        ),
        (
            ModelConfig { stack_window_len: Some(6), ..with_recurrence(recurrent(), |r| r.feedback = true) },
            "stack_window_len: expected 3, as feedback implies, got 6",
        ),
        (
            memory(&|m| m.capacity = 128_000_000_000),
            "memory.capacity: expected at most 1000000, got 128000000000",
        ),
        (
            ModelConfig { position: PositionConfig::Neural { num_hidden: 1 << 40 }, ..plain(3) },
            "position.num_hidden: expected at most 1000000, got 1099511627776",
        ),
        (
            ModelConfig {
                position: PositionConfig::Orthogonal { num_functions: 7, last_shift: 1e-6 },
                ..plain(3)
            },
            "position.last_shift: expected a number of at least 1, got 0.000001",
        ),
        (
            memory(&|m| m.capacity = 7),
            "memory.capacity: expected a multiple of the 2 neighbours, at least a window of 3, got 7",
        ),
        (
            ModelConfig { recurrence: recurrent().recurrence, ..memory(&|m| m.layer = 1) },
            "memory.layer: expected a layer that is not recurrent, got 1",
        ),
    ];
    for (config, expected) in table {
        assert_eq!(error(config), format!("model.{expected}"));
    }
    let error = plain(3).check_segment_len(10).unwrap_err().to_string();
    assert_eq!(error, "model.window_len: expected a divisor of the segment length 10, got 3");
    let error =
        ModelConfig { segment_len: Some(6), ..plain(3) }.check_segment_len(9).unwrap_err().to_string();
    assert_eq!(error, "model.segment_len: expected the segment length of the data, 9, got 6");
}

/// A memory may be in any layer, with or without positions of its own.
#[test]
fn a_memory_in_any_layer() {
    for layer in [0, 1, 2, -1, -3] {
        for local_position in [true, false] {
            let mut config = memorizing(3, local_position);
            config.memory.iter_mut().for_each(|memory| memory.layer = layer);
            let model = build(config);
            let (logits, _) = model.forward(&tokens(1, 9, 1), &model.initial_state(1), Mode::Eval);
            assert!(logits.isfinite().all().int64_value(&[]) == 1, "layer {layer}");
        }
    }
}

/// A model with 4096 states and a window of 1, and one with a single state and a window of 4096: S is independent of W.
#[test]
fn the_number_of_states_is_independent_of_the_window() {
    for (num_states, window_len, segment_len) in [(4096, 1, 2), (1, 4096, 4096)] {
        let model = build(recurrent(Gate::Fixed, CellLayout::Skip, window_len, num_states));
        let (logits, state) =
            tch::no_grad(|| model.forward(&tokens(1, segment_len, 1), &model.initial_state(1), Mode::Eval));
        assert_eq!(logits.size(), [1, segment_len, 23]);
        let states = state.layers[1].recurrent.as_ref().map(Tensor::size);
        assert_eq!(states, Some(vec![1, num_states, 12]));
    }
}

/// Parameters of the paper's models, in millions, as the specification derives them for E = HD = 1024, M = 4096, S = 512.
#[test]
fn sizes_of_the_paper() {
    let count = |config: &ModelConfig| config.num_layer_parameters().unwrap() as f64 / 1e6;
    let table = [
        (Gate::Fixed, CellLayout::Skip, 160.43),
        (Gate::Fixed, CellLayout::Dual, 168.82),
        (Gate::Fixed, CellLayout::Single, 170.92),
        (Gate::Lstm, CellLayout::Skip, 164.63),
        (Gate::Lstm, CellLayout::Dual, 181.40),
        (Gate::Lstm, CellLayout::Single, 179.31),
    ];
    for (gate, layout, millions) in table {
        let recurrence = RecurrenceConfig::new(vec![-3], gate, layout, 512);
        let config = ModelConfig { recurrence: Some(recurrence), ..ModelConfig::paper() };
        let got = count(&config);
        assert!((got - millions).abs() <= 0.005, "{gate:?} {layout:?}: {got} M, expected {millions} M");
        // Feedback gives each of the other 11 layers second queries and a second half of the projection.
        let feedback = with_recurrence(config, |r| r.feedback = true);
        assert!((count(&feedback) - got - 23.07).abs() <= 0.005);
    }
    assert!((count(&ModelConfig::paper()) - 150.99).abs() <= 0.005);
    assert!((count(&ModelConfig { num_layers: 13, ..ModelConfig::paper() }) - 163.58).abs() <= 0.005);
}
