//! The program as a user meets it: real processes, real signals, the errors of every day.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use common::{Place, stderr};

/// Waits until a run has logged that many lines.
fn wait_for_lines(run: &Path, num_lines: usize) {
    let start = Instant::now();
    while fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count() < num_lines {
        assert!(start.elapsed() < Duration::from_secs(60), "no {num_lines} lines after a minute");
        sleep(Duration::from_millis(2));
    }
}

/// Killed twenty times, wherever it is, also while it writes one of the checkpoints of every step, a run ends with the
/// losses and the tensors of one that was left alone.
#[test]
fn a_killed_run_goes_on_exactly() {
    let place = Place::new();
    let train = |out: &str| {
        let mut command = place.train(out);
        command.args(["--train.num_steps", "300", "--train.log_every", "1", "--train.checkpoint_every", "1"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert!(train("whole").status().unwrap().success());
    let mut random = 1u64;
    for kill in 0..20 {
        let mut child = train("killed").spawn().unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if kill % 3 == 2 {
            sleep(Duration::from_micros(random >> 45)); // Up to half a second: while it starts and reads.
        } else {
            // The lines of a run that goes on begin with those of the steps that it has.
            wait_for_lines(&place.path("killed"), 10 * (kill + 1));
            sleep(Duration::from_micros(random >> 50)); // Up to 16 ms: about a step and its checkpoint.
        }
        child.kill().unwrap(); // SIGKILL
        assert!(!child.wait().unwrap().success(), "it had ended before kill {kill}");
    }
    assert!(train("killed").status().unwrap().success());
    assert_eq!(place.losses("killed"), place.losses("whole"));
    for file in ["model", "optimizer", "state-0-of-1"] {
        let read = |run: &str| {
            fs::read(place.path(&format!("{run}/checkpoints/step-300/{file}.safetensors"))).unwrap()
        };
        assert!(read("killed") == read("whole"), "{file}");
    }
}

/// The first signal saves and says so; the same command goes on. The exit code tells the signal.
#[test]
fn an_interrupted_run_saves_and_exits_with_the_code_of_its_signal() {
    let place = Place::new();
    let interrupt = |signal: &str, code: i32| {
        let mut train = place.train("run");
        train.args(["--train.num_steps", "400"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let num_lines =
            fs::read_to_string(place.path("run/metrics.jsonl")).unwrap_or_default().lines().count();
        let child = train.spawn().unwrap();
        wait_for_lines(&place.path("run"), num_lines + 1);
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        output
    };
    interrupt("-TERM", 143);
    let output = interrupt("-INT", 130);
    let message = stderr(&output);
    assert!(message.contains("interrupted and saved at step "), "{message}");
    assert!(message.contains("the same command with --resume goes on"), "{message}");
    let output = place.train("run").args(["--train.num_steps", "400"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("going on from step "), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("bits/byte on the test documents"));
}

/// A model that was trained can be asked: scores, size, text, and the same text for the same seed.
#[test]
fn a_trained_model_is_scored_described_and_continued() {
    let place = Place::new();
    assert!(place.train("run").status().unwrap().success());
    let (run, corpus) = (place.text("run"), place.text("corpus"));
    let print = |arguments: &[&str]| {
        let output = place.brt(arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        output.stdout
    };
    let eval = String::from_utf8(print(&["eval", &run, "--data", &corpus])).unwrap();
    assert!(eval.contains("bits/byte, mean of 3 documents"), "{eval}");
    assert!(eval.contains("recurrent state reset in every segment: "), "{eval}");
    let info = String::from_utf8(print(&["info", &run])).unwrap();
    assert!(info.contains("Rec:lstm:dual, 2 layers, W 8, S 4"), "{info}");
    let generate =
        |seed: &str| print(&["generate", &run, "--prompt", "fn main() {", "--tokens", "20", "--seed", seed]);
    let text = generate("1");
    assert!(text.starts_with(b"fn main() {"));
    assert_eq!(text, generate("1"));
    assert_ne!(text, generate("2"));
}

#[test]
fn the_doctor_needs_no_environment() {
    let output = Place::new().brt(&["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for line in ["libtorch      2.11", "tch           0.24.0", "device ", "threads ", "processor ", "memory "]
    {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
}

/// What a user gets wrong is one sentence with the name of the thing, what was expected and what was found.
#[test]
fn mistakes_are_told_in_one_line() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    let (config, corpus, out) = (place.text("tiny.toml"), place.text("corpus"), place.text("out"));
    let train = |extra: &[&str]| {
        let mut arguments = vec!["train", &config, "--data", &corpus, "--out", &out];
        arguments.extend(extra);
        arguments.iter().map(|a| a.to_string()).collect::<Vec<_>>()
    };
    let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
    let in_place = |text: &str| words(&text.replace('@', &place.folder()));
    let cases = [
        (train(&["--model.windw_len", "8"]), "tiny.toml: model.windw_len: unknown field `windw_len`"),
        (train(&["--model.window_len", "5"]), "expected a divisor of the segment length 32, got 5"),
        (train(&["--model.window_len", "many"]), "invalid type: string \"many\", expected i64"),
        (train(&["--model.model_dim", "-4"]), "model.model_dim: expected at least 1, got -4"),
        (train(&["--device", "cuda:99"]), "GPU(s) that libtorch can use; use --device cpu"),
        (
            in_place("train @/none.toml --data @/corpus --out @/out"),
            "none.toml: cannot read the configuration",
        ),
        (in_place("train @/tiny.toml --data @/none --out @/out"), "none"),
        (in_place("train @/tiny.toml --data @/empty --out @/out"), "empty"),
        (in_place("data prepare --corpus folder:@/empty --out @/new"), "empty"),
        (in_place("data prepare --corpus folder:@/none --out @/new"), "none"),
        (
            in_place("eval @/empty --data @/corpus"),
            "expected the folder of a run (brt train --out), got none",
        ),
        (in_place("generate @/none --prompt a"), "none: expected the folder of a run"),
        (
            in_place("train @/tiny.toml --data @/corpus --out /proc/none"),
            "/proc/none: cannot make the folder",
        ),
    ];
    for (arguments, expected) in cases {
        let output = place.brt(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(message.starts_with("error: ") && message.contains(expected), "{arguments:?}: {message}");
        assert_eq!(message.trim_end().lines().count(), 1, "{arguments:?}: {message}");
    }
}

/// A checkpoint of another shape is refused, with every difference.
#[test]
fn a_checkpoint_of_another_shape_is_refused() {
    let place = Place::new();
    assert!(place.train("run").status().unwrap().success());
    let config = place.path("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("ffn_dim = 32", "ffn_dim = 48")).unwrap();
    let output = place.brt(&["generate", &place.text("run"), "--prompt", "a"]);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains("model.safetensors: expected the tensors of this model, got "), "{message}");
    let difference = "layers.0.ffn.hidden.weight: expected Float [48, 16], got Float [32, 16]";
    assert!(message.contains(difference), "{message}");
}
