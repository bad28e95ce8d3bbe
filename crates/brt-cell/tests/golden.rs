//! Gates and gated feed-forward layers against the numbers of the official code.

use std::path::Path;

use brt_cell::{FixedGate, LstmGate};
use brt_ops::{Linear, Mlp, Params, golden::Golden};
use tch::{Device, Tensor};

fn open(name: &str) -> Golden {
    Golden::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), name)
}

/// Copies `<case>.param.<official>` into our parameter.
fn copy(golden: &Golden, params: &Params, pairs: &[(&str, &str)], case: &str) {
    for (name, parameter) in params.named() {
        let (_, official) = pairs.iter().find(|(ours, _)| *ours == name).expect("a pair for each parameter");
        let value = golden.tensor(&format!("{case}.param.{official}"));
        let value = if official.ends_with("kernel") { value.transpose(0, 1) } else { value };
        parameter.detach().copy_(&value);
    }
}

const FIXED: [(&str, &str); 1] = [("gate.gate_bias", "gate_bias")];
const LSTM: [(&str, &str); 4] = [
    ("gate.forget.weight", "forget_gate.kernel"),
    ("gate.forget.bias", "forget_gate.bias"),
    ("gate.input.weight", "input_gate.kernel"),
    ("gate.input.bias", "input_gate.bias"),
];
const MLP: [(&str, &str); 2] =
    [("ffn.hidden.weight", "hidden0.kernel"), ("ffn.out.weight", "output_layer.kernel")];
const OUT: [(&str, &str); 1] = [("out.weight", "output_layer.kernel")];

#[test]
fn unit_gates_file() {
    let golden = open("unit_gates");
    let [hidden, state, update] =
        ["hidden", "state", "update"].map(|name| golden.tensor(&format!("in.{name}")));
    let params = Params::new(1, Device::Cpu);
    let fixed = FixedGate::new(&(params.root() / "gate"), 32);
    copy(&golden, &params, &FIXED, "fixed");
    golden.check("fixed.out", &fixed.forward(&state, &update));

    let params = Params::new(1, Device::Cpu);
    let lstm = LstmGate::new(&(params.root() / "gate"), 64, 32);
    copy(&golden, &params, &LSTM, "lstm");
    golden.check("lstm.out", &lstm.forward(&state, &update, &hidden));
    golden.check("residual.out", &(&state + &update));
    golden.finish(&["full."]); // A third kind of gate, which no configuration of the paper uses.
}

#[test]
fn unit_mlp_file() {
    let golden = open("unit_mlp");
    let (x, state) = (golden.tensor("in.x"), golden.tensor("in.state"));
    for case in ["ffn_residual", "ffn_fixed", "ffn_lstm", "ffn_fixed_tanh", "ffn_lstm_tanh"] {
        check(&golden, case, &state, |params, pairs| {
            let ffn = Mlp::new(&(params.root() / "ffn"), 32, 64, 32);
            pairs.extend(MLP);
            let x = x.shallow_clone();
            Box::new(move || ffn.forward(&x))
        });
    }
    for case in ["proj_residual", "proj_fixed", "proj_lstm"] {
        check(&golden, case, &state, |params, pairs| {
            let out = Linear::new(&(params.root() / "out"), 32, 32);
            pairs.extend(OUT);
            let x = x.shallow_clone();
            Box::new(move || (x.shallow_clone(), out.forward(&x)))
        });
    }
    golden.finish(&["ffn_full", "ffn_residual_bias"]); // Options that no configuration of the paper uses.
}

type Pairs = Vec<(&'static str, &'static str)>;
type Forward = Box<dyn Fn() -> (Tensor, Tensor)>;

/// Checks one case: the layer's hidden activation and output, combined with the state as the case's name says.
fn check(golden: &Golden, case: &str, state: &Tensor, layer: impl Fn(&Params, &mut Pairs) -> Forward) {
    let params = Params::new(1, Device::Cpu);
    let mut pairs = Pairs::new();
    let forward = layer(&params, &mut pairs);
    let scope = params.root() / "gate";
    let hidden_dim = if case.starts_with("ffn") { 64 } else { 32 };
    let lstm = case.contains("lstm").then(|| LstmGate::new(&scope, hidden_dim, 32));
    let fixed = case.contains("fixed").then(|| FixedGate::new(&scope, 32));
    pairs.extend(FIXED.iter().chain(&LSTM));
    copy(golden, &params, &pairs, case);

    let (hidden, z) = forward();
    let z = if case.ends_with("tanh") { z.tanh() } else { z };
    let got = match (&lstm, &fixed) {
        (Some(gate), _) => gate.forward(state, &z, &hidden),
        (_, Some(gate)) => gate.forward(state, &z),
        _ => state + z,
    };
    golden.check(&format!("{case}.out"), &got);
}
