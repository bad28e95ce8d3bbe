//! Weights that go to the official code and come back.

mod common;

use std::fs;

use common::{Place, stderr};

/// Exported and imported weights are the same, whatever the prefix, and the run made of them scores alike.
#[test]
fn a_round_trip_is_exact() {
    let place = Place::new();
    assert!(place.train("run").status().unwrap().success());
    let run = |arguments: &str| {
        let arguments = arguments.replace('@', &place.folder());
        let output = place.brt(&arguments.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{arguments}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    run("export @/run --out @/first.safetensors");
    run("import @/first.safetensors --config @/tiny.toml --out @/imported");
    run("export @/imported --out @/second.safetensors");
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    assert_eq!(bytes("first.safetensors"), bytes("second.safetensors"));
    let model = |run: &str, step: u64| bytes(&format!("{run}/checkpoints/step-{step}/model.safetensors"));
    assert_eq!(model("run", 60), model("imported", 0));

    let eval = |name: &str| run(&format!("eval @/{name} --data @/corpus"));
    assert_eq!(eval("run"), eval("imported"));
    let names = run("export @/run --out @/plain.safetensors --prefix params/");
    assert_eq!(names, "");
    let header = String::from_utf8_lossy(&bytes("plain.safetensors")[8..4000]).into_owned();
    assert!(header.contains("\"params/transformer1/recurrent_tbase/ffn/forget_gate/kernel\""), "{header}");
    run("import @/plain.safetensors --config @/tiny.toml --out @/again");
    assert_eq!(model("again", 0), model("imported", 0));
}

/// A run made of weights can be trained further: from step 0, with them as the start.
#[test]
fn imported_weights_are_trained_further() {
    let place = Place::new();
    assert!(place.train("run").status().unwrap().success());
    let (run, weights) = (place.text("run"), place.text("weights.safetensors"));
    assert!(place.brt(&["export", &run, "--out", &weights]).status.success());
    let (config, further) = (place.text("tiny.toml"), place.text("further"));
    assert!(place.brt(&["import", &weights, "--config", &config, "--out", &further]).status.success());
    let output = place.train("further").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let first_loss = |run: &str| {
        let lines = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        line["train_bits_per_token"].as_f64().unwrap()
    };
    let (from_weights, from_nothing) = (first_loss("further"), first_loss("run"));
    assert!(from_weights < from_nothing - 0.5, "{from_weights} bits/token, from nothing {from_nothing}");
}

/// Weights of another model are refused with every difference at once, and nothing is written.
#[test]
fn mismatches_are_listed_completely() {
    let place = Place::new();
    assert!(place.train("run").status().unwrap().success());
    let (run, weights) = (place.text("run"), place.text("weights.safetensors"));
    assert!(place.brt(&["export", &run, "--out", &weights]).status.success());
    let (config, out) = (place.text("tiny.toml"), place.text("other"));
    let mut arguments = vec!["import", &weights, "--config", &config, "--out", &out];
    arguments.extend(["--model.ffn_dim", "48", "--model.recurrence.gate", "fixed"]);
    let output = place.brt(&arguments);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for difference in [
        "weights.safetensors: expected the tensors of this model, got ",
        "transformer0/tbase/ffn/hidden0/kernel: expected Float [16, 48], got Float [16, 32]",
        "transformer1/recurrent_tbase/ffn/gate_bias: expected Float [16], got nothing",
        "transformer1/recurrent_tbase/ffn/forget_gate/kernel: expected nothing, got Float [32, 16]",
    ] {
        assert!(message.contains(difference), "{message}");
    }
    assert!(!place.path("other").exists());
    let empty = place.brt(&["import", &place.text("tiny.toml"), "--config", &config, "--out", &out]);
    assert!(stderr(&empty).contains("tiny.toml: expected a whole safetensors file"), "{}", stderr(&empty));
}
