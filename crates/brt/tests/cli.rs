//! The program as a user meets it: real processes, real signals, the errors of every day.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Text to learn: sources of this crate.
const TEXTS: [&str; 3] =
    [include_str!("../src/arguments.rs"), include_str!("../src/main.rs"), include_str!("../src/output.rs")];

const CONFIG: &str = r#"
[model]
vocab_size = 260
model_dim = 16
num_layers = 2
num_heads = 2
head_dim = 8
ffn_dim = 32
window_len = 8
carry = "differentiable"
position = { kind = "t5" }
qk_norm = "unit"
temperature = "raw"
logit_divisor = "sqrt_vocab_size"
dropout = 0.1
attention_dropout = 0.0
recurrence = { layers = [-1], gate = "lstm", layout = "dual", num_states = 4 }

[data]
batch = 2
segment_len = 32
target_rule = "across_segments"

[optimizer]
kind = "adafactor"
momentum = 0.9
decay_exponent = 0.8
clip_threshold = 1.0
weight_decay = 0.0

[schedule]
kind = "rsqrt"
num_warmup_steps = 10
multiplier = 0.3

[train]
num_steps = 60
log_every = 3
checkpoint_every = 5
validate_every = 30

[evaluation]
batch = 2
max_document_len = 256
"#;

/// A folder with a prepared corpus and a configuration.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (split, text) in ["train", "validation", "test"].into_iter().zip(TEXTS) {
            let texts = folder.path().join("text").join(split);
            fs::create_dir_all(&texts).unwrap();
            fs::write(texts.join("a.rs"), text).unwrap();
            fs::write(texts.join("b.rs"), text.replace("fn ", "fun ")).unwrap();
            fs::write(texts.join("short.rs"), "fn f()").unwrap(); // Shorter than a window.
        }
        fs::write(folder.path().join("tiny.toml"), CONFIG).unwrap();
        let place = Self { folder };
        let source = format!("folder:{}", place.path("text").display());
        let output = place.brt(&["data", "prepare", "--corpus", &source, "--out", &place.text("corpus")]);
        assert!(output.status.success(), "{output:?}");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A command without any environment variable: the program finds libtorch by itself.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_brt"));
        command.args(arguments).env_clear().stdin(Stdio::null());
        command
    }

    fn brt(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn train(&self, out: &str) -> Command {
        let (config, data, out) = (self.text("tiny.toml"), self.text("corpus"), self.text(out));
        self.command(&["train", &config, "--data", &data, "--out", &out, "--threads", "1", "--resume"])
    }

    fn start(&self, out: &str) -> Child {
        self.train(out).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The losses of a finished run; times and memory differ from run to run.
    fn losses(&self, out: &str) -> serde_json::Value {
        let result = fs::read(self.path(out).join("result.json")).unwrap();
        let mut result: serde_json::Value = serde_json::from_slice(&result).unwrap();
        for line in result["curve"].as_array_mut().unwrap() {
            line["step_secs"].take();
        }
        serde_json::json!([result["curve"], result["test"], result["test_state_reset"]])
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until a run has logged that many lines.
fn wait_for_lines(run: &Path, num_lines: usize) {
    let start = Instant::now();
    while fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count() < num_lines {
        assert!(start.elapsed() < Duration::from_secs(60), "no {num_lines} lines after a minute");
        sleep(Duration::from_millis(2));
    }
}

/// Killed again and again, wherever it is, a run ends with the losses of one that was left alone.
#[test]
fn a_killed_run_goes_on_exactly() {
    let place = Place::new();
    assert!(place.train("whole").status().unwrap().success());
    let mut num_kills = 0;
    for attempt in 0..40u64 {
        let mut child = place.start("killed");
        // Between the start of the process and the end of the run, a little later each time.
        sleep(Duration::from_millis(150 + 37 * attempt));
        child.kill().unwrap(); // SIGKILL
        num_kills += u32::from(!child.wait().unwrap().success());
        if place.path("killed/result.json").exists() {
            break;
        }
    }
    assert!(place.train("killed").status().unwrap().success());
    assert!(num_kills >= 2, "killed {num_kills} times");
    assert_eq!(place.losses("killed"), place.losses("whole"));
}

/// The first Ctrl-C saves and says so; the same command goes on.
#[test]
fn an_interrupted_run_saves_and_exits_with_130() {
    let place = Place::new();
    let child = place.start("run");
    wait_for_lines(&place.path("run"), 1);
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(message.contains("interrupted and saved at step "), "{message}");
    assert!(message.contains("the same command with --resume goes on"), "{message}");
    let output = place.train("run").output().unwrap();
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
    let in_place = |text: &str| words(&text.replace('@', &place.folder.path().display().to_string()));
    let cases = [
        (train(&["--model.windw_len", "8"]), "tiny.toml: unknown field `windw_len`"),
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
