//! Layers and models against the numbers of the official code: outputs, carried state, gradients, over three segments
//! of which one resets a row. `tests/golden/README.md` says where the files come from.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;

use brt_lm::{
    Carry, CellLayout, Gate, LanguageModel, LayerState, LogitDivisor, Mode, ModelConfig, ModelState, QkNorm,
    RecurrenceConfig, Temperature,
};
use brt_ops::{WindowTables, golden::Golden, loss};
use brt_txl::KvCache;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const NUM_SEGMENTS: i64 = 3;

fn open(name: &str) -> Golden {
    Golden::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), name)
}

/// The configuration of a case, in the conventions of the 2025 release that made the files.
fn config(golden: &Golden, recurrent_layers: &[i64]) -> ModelConfig {
    let text = |key: &str| golden.config()[key].as_str().map(str::to_string);
    let recurrence = text("gate").map(|gate| RecurrenceConfig {
        layers: recurrent_layers.to_vec(),
        gate: serde_json::from_value(Value::String(gate)).unwrap(),
        layout: serde_json::from_value(Value::String(text("cell").unwrap())).unwrap(),
        num_states: golden.config_i64("num_states"),
    });
    ModelConfig {
        vocab_size: golden.config()["vocab"].as_i64().unwrap_or(2),
        model_dim: golden.config_i64("d_model"),
        num_layers: golden.config()["num_layers"].as_i64().unwrap_or(1),
        num_heads: golden.config_i64("num_heads"),
        head_dim: golden.config_i64("head_dim"),
        ffn_dim: golden.config_i64("mlp_dim"),
        window_len: golden.config_i64("window_length"),
        carry: Carry::Differentiable,
        qk_norm: QkNorm::Unit,
        temperature: Temperature::Absolute,
        logit_divisor: LogitDivisor::SqrtModelDim,
        dropout: 0.,
        attention_dropout: 0.,
        recurrence,
    }
}

/// `[B, N, E]` → `[n, B, W, E]`.
fn to_blocks(x: &Tensor, window_len: i64) -> Tensor {
    x.unflatten(1, [-1, window_len]).transpose(0, 1)
}

/// `[n, B, W, E]` → `[B, N, E]`.
fn from_blocks(x: &Tensor) -> Tensor {
    x.transpose(0, 1).flatten(1, 2)
}

/// Reads the state after a segment, `[B, W, H, D]` in the files.
fn read_state(golden: &Golden, prefix: &str, has_state: bool) -> LayerState {
    let heads_first = |name: &str| golden.tensor(&format!("{prefix}{name}")).transpose(1, 2);
    LayerState {
        cache: KvCache { keys: heads_first("keys"), values: heads_first("values") },
        recurrent: has_state.then(|| golden.tensor(&format!("{prefix}recurrent_state"))),
    }
}

fn check_state(golden: &Golden, prefix: &str, state: &LayerState) {
    golden.check(&format!("{prefix}keys"), &state.cache.keys.transpose(1, 2));
    golden.check(&format!("{prefix}values"), &state.cache.values.transpose(1, 2));
    if let Some(recurrent) = &state.recurrent {
        golden.check(&format!("{prefix}recurrent_state"), recurrent);
    }
}

/// One layer: three segments with our own state carried, then the gradients of segment 1 from the file's state.
fn check_layer(name: &str) {
    let golden = open(name);
    let config = config(&golden, &[0]);
    let window_len = config.window_len;
    let tables = WindowTables::block(window_len, Device::Cpu);
    let model = LanguageModel::new(config, 1, Device::Cpu).unwrap();
    golden.load_params("param.", "layers.0.", model.params(), &["embedding.weight", "final_norm.weight"]);
    let layer = &model.layers()[0];

    let run = |segment: i64, x: &Tensor, before: &LayerState| {
        let before = layer.reset_rows(before, &golden.tensor(&format!("seg{segment}.in.start_of_sequence")));
        let (ys, after) = layer.forward(&to_blocks(x, window_len), &before, &tables, Mode::Eval);
        (from_blocks(&ys), after)
    };
    let mut state = model.initial_state(golden.config_i64("batch")).layers.remove(0);
    for segment in 0..NUM_SEGMENTS {
        let (ys, after) = run(segment, &golden.tensor(&format!("seg{segment}.in.x")), &state);
        golden.check(&format!("seg{segment}.out.y"), &ys);
        check_state(&golden, &format!("seg{segment}.state."), &after);
        state = after;
    }

    let x = golden.tensor("seg1.in.x").set_requires_grad(true);
    let before = read_state(&golden, "seg0.state.", layer.cell().is_some());
    let (ys, _) = run(1, &x, &before);
    (ys * golden.tensor("seg1.in.dy")).sum(Kind::Float).backward();
    golden.check("grad.seg1.in.x", &x.grad());
    golden.check_gradients("grad.", "layers.0.", model.params());
    golden.finish(&["seg0.debug", "seg1.debug", "seg2.debug"]);
}

/// The states after every block and what tokens could read of them, on a file that lists them.
#[test]
fn states_block_by_block() {
    let golden = open("layer_rec_fixed_skip_eq");
    let config = config(&golden, &[0]);
    let window_len = config.window_len;
    let model = LanguageModel::new(config, 1, Device::Cpu).unwrap();
    golden.load_params("param.", "layers.0.", model.params(), &["embedding.weight", "final_norm.weight"]);
    let layer = &model.layers()[0];
    let cell = layer.cell().unwrap();
    for segment in 1..NUM_SEGMENTS {
        let before = read_state(&golden, &format!("seg{}.state.", segment - 1), true);
        let before = layer.reset_rows(&before, &golden.tensor(&format!("seg{segment}.in.start_of_sequence")));
        let xs = to_blocks(&golden.tensor(&format!("seg{segment}.in.x")), window_len);
        let tokens = layer.tokens();
        let windows = tokens.windows(&tokens.project(&xs, Mode::Eval), &before.cache);
        let scan = cell.scan(before.recurrent.as_ref().unwrap(), &windows);
        golden.check(&format!("seg{segment}.debug.window_states"), &Tensor::stack(&scan.states, 0));
        for block in 0..4 {
            let name = |kind: &str| format!("seg{segment}.debug.window{block}.recurrent_{kind}");
            golden.check(&name("keys"), &scan.keys.get(block).transpose(1, 2));
            golden.check(&name("values"), &scan.values.get(block).transpose(1, 2));
        }
    }
}

/// A whole model: logits, losses and state of three segments, gradients of the mean loss of segment 1.
fn check_model(name: &str) {
    let golden = open(name);
    let layers: Vec<i64> = golden.config()["recurrent_layers"]
        .as_array()
        .map(|layers| layers.iter().map(|idx| idx.as_i64().unwrap()).collect())
        .unwrap_or_default();
    let model = LanguageModel::new(config(&golden, &layers), 1, Device::Cpu).unwrap();
    golden.load_params("param.", "", model.params(), &[]);

    let run = |segment: i64, before: &ModelState| {
        let input = |name: &str| golden.tensor(&format!("seg{segment}.in.{name}"));
        let before = model.reset_rows(before, &input("start_of_sequence"));
        let (logits, after) = model.forward(&input("tokens"), &before, Mode::Eval);
        let output = |name: &str| golden.tensor(&format!("seg{segment}.out.{name}"));
        let nats =
            |mask: &Tensor| loss::cross_entropy(&logits, &output("targets"), &mask.to_kind(Kind::Float));
        let mask = output("loss_mask");
        (logits.shallow_clone(), nats(&mask.ones_like()), nats(&mask).sum(Kind::Float), after)
    };
    let mut state = model.initial_state(golden.config_i64("batch"));
    for segment in 0..NUM_SEGMENTS {
        let (logits, token_loss, loss_sum, after) = run(segment, &state);
        golden.check(&format!("seg{segment}.out.logits"), &logits);
        golden.check(&format!("seg{segment}.out.token_loss"), &token_loss);
        golden.check(&format!("seg{segment}.out.loss_sum"), &loss_sum.view(1));
        for (idx, layer) in after.layers.iter().enumerate() {
            check_state(&golden, &format!("seg{segment}.state.layer{idx}."), layer);
        }
        state = after;
    }

    if golden.has("grad.embed.embedding") {
        let layer = |(idx, layer): (usize, &brt_lm::Layer)| {
            read_state(&golden, &format!("seg0.state.layer{idx}."), layer.cell().is_some())
        };
        let before = ModelState { layers: model.layers().iter().enumerate().map(layer).collect() };
        let (_, _, loss_sum, _) = run(1, &before);
        (loss_sum / golden.tensor("seg1.out.loss_count")).sum(Kind::Float).backward();
        golden.check_gradients("grad.", "", model.params());
    }
    // Targets and masks are made by brt-data, whose tests give them by hand.
    let left_out = ["debug", "out.targets", "out.loss_mask", "out.loss_count"];
    let left_out: Vec<_> =
        (0..NUM_SEGMENTS).flat_map(|k| left_out.map(|name| format!("seg{k}.{name}"))).collect();
    golden.finish(&left_out.iter().map(String::as_str).collect::<Vec<_>>());
}

macro_rules! golden_files {
    ($($check:ident: $($name:ident)*;)*) => {
        $($(#[test] fn $name() { $check(stringify!($name)); })*)*
    };
}

golden_files! {
    check_layer: layer_xl_t5 layer_slide_t5 layer_rec_fixed_skip layer_rec_fixed_skip_eq layer_rec_fixed_dual
        layer_rec_fixed_single layer_rec_lstm_dual_few layer_rec_lstm_single layer_rec_lstm_skip;
    check_model: model_xl model_slide model_rec_fixed_skip model_rec_lstm_dual model_rec_two_layers;
}

/// The enums' names in configurations are the paper's.
#[test]
fn names_of_gates_and_layouts() {
    let name = |value: Value| value.as_str().unwrap().to_string();
    assert_eq!(name(serde_json::to_value(Gate::Fixed).unwrap()), "fixed");
    assert_eq!(name(serde_json::to_value(CellLayout::Skip).unwrap()), "skip");
}
