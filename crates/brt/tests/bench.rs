//! `brt bench` and `brt contestant` as processes.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{
    fs,
    io::Write,
    process::{Output, Stdio},
};

use brt_report::{BenchGroup, BenchResult, read_json};
use brt_trainer::RunConfig;
use common::{Place, stderr};
use serde_json::Value;

/// Everything is measured in every round, against ceilings of its own kind; counts of products are those of the model.
#[test]
fn bench_measures_everything_in_every_round() {
    let place = Place::new();
    let out = place.path("bench.json");
    let (config, to) = (place.text("tiny.toml"), place.text("bench.json"));
    let output = place.brt(&["bench", &config, "--rounds", "2", "--threads", "1", "--out", &to]);
    assert!(output.status.success(), "{}", stderr(&output));
    let result: BenchResult = read_json(&out, "a measurement").unwrap();
    assert!(result.entries.iter().all(|entry| entry.wall_secs.len() == 2 && entry.cpu_secs.len() == 2));
    let steps = result.entries.iter().filter(|entry| entry.group == BenchGroup::Step);
    let steps: Vec<_> = steps.map(|step| (step.kind.as_str(), step.flops)).collect();
    let model = RunConfig::load(&place.path("tiny.toml"), &[]).unwrap().model;
    let flops = (model.training_flops_per_token() * 64) as f64; // 2 rows of 32 tokens
    assert_eq!(steps, [("f32", flops), ("bf16", flops)]);
    for entry in &result.entries {
        let share = result.flops_share(entry).or(result.bytes_share(entry));
        assert!(share.is_some_and(|share| share > 0.), "{}: {share:?}", entry.name);
    }
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in ["attention over windows", "scan of the states", "step of tiny", "copy of 256 MiB"] {
        assert!(table.contains(name), "{name} is missing:\n{table}");
    }
}

/// Gives a contestant its commands and returns what it prints.
fn contestant(place: &Place, tokens: &[u8], arguments: &[&str], commands: &str) -> Output {
    let path = place.path("tokens.bin");
    fs::write(&path, tokens).unwrap();
    let mut command = place.command(&["contestant", &place.text("tiny.toml")]);
    command.arg(path).args(["--prompt-len", "20", "--generate", "3"]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended already, with an error.
    let _ = child.stdin.take().unwrap().write_all(commands.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn a_contestant_answers_each_line_with_one() {
    let place = Place::new();
    let tokens: Vec<u8> = (0..400).map(|i| (i * i % 251) as u8).collect();
    let output = contestant(&place, &tokens, &[], "step\nstep\nfly\ngenerate\nquit\nstep\n");
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 6, "{text}");
    assert_eq!(answers[0]["name"], "brt");
    for step in &answers[1..3] {
        let loss = step["loss"].as_f64().unwrap();
        assert!(loss > 1. && loss < 20. && step["wall_secs"].as_f64().unwrap() > 0., "{step}");
    }
    assert_eq!(answers[3]["error"], "expected step, generate or quit, got fly");
    assert_eq!(answers[4]["num_tokens"], 3);
    assert!(answers[5]["peak_bytes"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn a_wrong_way_to_compute_is_told_in_one_line() {
    for (variable, way, message) in [
        ("BRT_ATTENTION", "fussed", "expected fused or composed, got fussed"),
        ("BRT_PRODUCTS", "mkl", "expected gemm or libtorch, got mkl"),
    ] {
        let output = Place::new().command(&["doctor"]).env(variable, way).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr(&output), format!("error: {variable}: {message}\n"));
    }
}

#[test]
fn doctor_says_who_multiplies() {
    for (way, name) in [("gemm", "the crate gemm"), ("libtorch", "libtorch")] {
        let output = Place::new().command(&["doctor"]).env("BRT_PRODUCTS", way).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("products      in float32 on the CPU: {name}\n")), "{text}");
    }
}

#[test]
fn wrong_tokens_are_told_in_one_line() {
    let place = Place::new();
    let cases: [(&[u8], &[&str], &str); 2] = [
        (&[1; 64], &[], "expected more than 64 tokens, got 64"),
        (
            &[200; 400],
            &["--model.vocab_size", "100"],
            "expected tokens below model.vocab_size = 100, got 200",
        ),
    ];
    for (tokens, arguments, expected) in cases {
        let output = contestant(&place, tokens, arguments, "");
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output);
        assert!(message.contains(expected) && message.lines().count() == 1, "{message}");
    }
}
