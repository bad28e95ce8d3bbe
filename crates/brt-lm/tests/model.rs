//! A model as its users see it: trained parameters, their names, dropout, errors of its configuration.

mod common;

use brt_lm::{LanguageModel, Mode};
use common::{VARIANTS, build, config, tokens};
use tch::{Device, Kind};

/// Every parameter gets a gradient from a segment that starts a document.
#[test]
fn every_parameter_is_trained() {
    for variant in VARIANTS {
        let model = build(config(variant, 3, 4));
        let tokens = tokens(1, 9, 1);
        let (logits, _) = model.forward(&tokens, &model.initial_state(1), Mode::Train);
        logits.square().sum(Kind::Float).backward();
        for (name, parameter) in model.params().named() {
            let gradient = parameter.grad();
            assert!(gradient.defined() && gradient.abs().max().double_value(&[]) > 0., "{variant:?}: {name}");
        }
    }
}

/// Dropout acts in training only.
#[test]
fn dropout_acts_in_training_only() {
    let rates = brt_lm::ModelConfig { dropout: 0.3, attention_dropout: 0.3, ..config(VARIANTS[1], 3, 4) };
    let model = build(rates);
    let tokens = tokens(1, 9, 1);
    let run = |mode| tch::no_grad(|| model.forward(&tokens, &model.initial_state(1), mode).0);
    assert_eq!(run(Mode::Eval), run(Mode::Eval));
    assert_ne!(run(Mode::Train), run(Mode::Eval));
    assert_ne!(run(Mode::Train), run(Mode::Train));
}

/// The parameters of the paper's best variant, by name: what files of weights hold.
#[test]
fn parameter_names() {
    let model = build(config(VARIANTS[1], 3, 4));
    let expected = [
        "embedding.weight [23, 12]",
        "final_norm.weight [12]",
        "layers.1.attention.cross_query.weight [10, 12]",
        "layers.1.attention.cross_temperature [2]",
        "layers.1.attention.key.weight [10, 12]",
        "layers.1.attention.norm.weight [12]",
        "layers.1.attention.query.weight [10, 12]",
        "layers.1.attention.temperature [2]",
        "layers.1.attention.value.weight [10, 12]",
        "layers.1.attention_out.weight [12, 20]",
        "layers.1.cell.attention.cross_query.weight [10, 12]",
        "layers.1.cell.attention.cross_temperature [2]",
        "layers.1.cell.attention.key.weight [10, 12]",
        "layers.1.cell.attention.norm.weight [12]",
        "layers.1.cell.attention.query.weight [10, 12]",
        "layers.1.cell.attention.state_ids [4, 12]",
        "layers.1.cell.attention.temperature [2]",
        "layers.1.cell.attention.value.weight [10, 12]",
        "layers.1.cell.attention_gate.gate_bias [12]",
        "layers.1.cell.attention_out.weight [12, 20]",
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
    let error = |change: &dyn Fn(&mut brt_lm::ModelConfig)| {
        let mut config = config(VARIANTS[1], 3, 4);
        change(&mut config);
        LanguageModel::new(config, 1, Device::Cpu).unwrap_err().to_string()
    };
    let recurrence = |config: &mut brt_lm::ModelConfig, layers: &[i64]| {
        config.recurrence.as_mut().unwrap().layers = layers.to_vec();
    };
    assert_eq!(error(&|c| c.num_heads = 0), "model.num_heads: expected at least 1, got 0");
    assert_eq!(error(&|c| c.dropout = 1.), "model.dropout: expected a rate in 0.0 .. 1.0, got 1");
    assert_eq!(
        error(&|c| recurrence(c, &[3])),
        "model.recurrence.layers: expected indices in -3 .. 3, got 3"
    );
    assert_eq!(
        error(&|c| recurrence(c, &[1, -2])),
        "model.recurrence.layers: expected one or more different layers, got [1, -2]"
    );
    let config = config(None, 3, 1);
    let error = config.check_segment_len(10).unwrap_err().to_string();
    assert_eq!(error, "model.window_len: expected a divisor of the segment length 10, got 3");
}
