//! `brt train`, `plot` and `eval` as a user meets them: what they print, and what stops them.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{
    fs::{self, File},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use common::{Place, stderr};

fn stdout(output: std::process::Output) -> String {
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A dry run says what a run would be, and leaves nothing.
#[test]
fn a_dry_run_writes_nothing() {
    let place = Place::new();
    let text = stdout(place.train("run").arg("--dry-run").output().unwrap());
    assert!(!place.path("run").exists());
    let info = stdout(place.brt(&["info", &place.text("tiny.toml")]));
    let parameters = info.lines().find(|line| line.contains(" parameters; ")).unwrap();
    let parameters = parameters.split(' ').next().unwrap();
    for part in [
        &format!("parameters   {parameters}, "),
        "step         64 tokens, ",
        "; 60 steps, ",
        "moments ",
        "activations about ",
        "for a checkpoint, ",
        "train        3 documents, ",
        "test         3 documents, ",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    // A model too large for any machine is only looked at.
    let large = ["--model.model_dim", "65536", "--model.num_heads", "64", "--model.head_dim", "1024"];
    let text = stdout(place.train("run").arg("--dry-run").args(large).output().unwrap());
    assert!(text.contains(" GiB: parameters and gradients "), "{text}");
}

/// Curves of several runs as SVG and PNG; a run without metrics is a mistake.
#[test]
fn runs_are_plotted() {
    let place = Place::new();
    stdout(place.train("one").args(["--train.statistics_every", "20"]).output().unwrap());
    stdout(place.train("two").args(["--train.precision", "bf16"]).output().unwrap());
    let plot =
        |out: &str| place.brt(&["plot", &place.text("one"), &place.text("two"), "--out", &place.text(out)]);
    stdout(plot("curves.svg"));
    let svg = fs::read_to_string(place.path("curves.svg")).unwrap();
    for part in [">one<", ">two<", "Training loss, bits/byte", "Validation, bits/byte", "Gate openness, mean"]
    {
        assert!(svg.contains(part), "no {part}");
    }
    assert!(!svg.contains("NaN") && svg.ends_with("</svg>\n"));
    let output = plot("curves.png");
    if output.status.success() {
        let png = fs::read(place.path("curves.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() > 10_000, "{} bytes", png.len());
    } else {
        assert!(stderr(&output).contains("expected a font on this system"), "{}", stderr(&output));
    }
    assert!(stderr(&plot("curves.gif")).contains("expected .svg or .png"));
    let output = place.brt(&["plot", &place.text("none"), "--out", &place.text("x.svg")]);
    assert!(stderr(&output).contains("metrics.jsonl: cannot read the metrics"), "{}", stderr(&output));
}

/// Other splits, the first batches alone, and everything as JSON.
#[test]
fn scores_are_chosen_and_written() {
    let place = Place::new();
    stdout(place.train("run").output().unwrap());
    let eval = |extra: &[&str]| {
        let (run, corpus) = (place.text("run"), place.text("corpus"));
        stdout(place.brt(&[&["eval", &run, "--data", &corpus], extra].concat()))
    };
    let text = eval(&["--split", "validation", "--json", &place.text("scores.json")]);
    for part in ["split validation", "nats/token", "bits/byte, mean of 3 documents", "reset in every block: "]
    {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let scores: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("scores.json")).unwrap()).unwrap();
    let rules: Vec<_> = scores.as_array().unwrap().iter().map(|score| score["state_rule"].as_str()).collect();
    assert_eq!(rules, [Some("carried"), Some("reset"), Some("reset_blocks")]);
    let first = eval(&["--num-batches", "1", "--batch", "1"]);
    assert!(first.contains("over 32 tokens, split test"), "{first}");
    let all = eval(&["--num-batches", "0", "--max-document-len", "0"]);
    assert!(!all.contains("over 32 tokens"), "{all}");
}

/// Where nothing can be written to standard error, the work goes on.
#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_error_stops_nothing() {
    let place = Place::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status = place.train("run").stdout(Stdio::null()).stderr(full).status().unwrap();
    assert!(status.success(), "{status}");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status = place.command(&["eval", "nowhere", "--data", "x"]).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

/// The first signal waits for the step, the second for nothing: with a step that takes long, it ends the process at once.
#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    let mut train = place.train("run");
    // Steps of some seconds.
    train.args(["--model.model_dim", "1024", "--model.ffn_dim", "8192", "--data.batch", "64"]);
    train.args(["--evaluation.batch", "1", "--train.num_steps", "1000"]);
    let mut child = train.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !place.path("run/run.lock").exists() {
        assert!(start.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(5));
    }
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    };
    signal("-INT");
    sleep(Duration::from_millis(100));
    signal("-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!place.path("run/checkpoints").exists(), "it saved: the step was too short");
}
