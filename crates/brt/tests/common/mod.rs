//! A folder with a prepared corpus and a configuration, and the program as a process.
#![allow(dead_code, reason = "not every test program uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// Text to learn: sources of this crate.
const TEXTS: [&str; 3] = [
    include_str!("../../src/arguments/mod.rs"),
    include_str!("../../src/main.rs"),
    include_str!("../../src/output.rs"),
];

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
pack = "restart-anywhere"

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
precision = "f32"
memory = "keep"
non_finite = "stop"
log_every = 3
checkpoint_every = 5
validate_every = 30
statistics_every = 0
sinks = []
keep_last = 2
keep_best = false

[evaluation]
batch = 2
max_document_len = 256
"#;

/// A folder with a prepared corpus and a configuration.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn folder(&self) -> String {
        self.folder.path().display().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A command without any environment variable: the program finds libtorch by itself.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_brt"));
        command.args(arguments).env_clear().stdin(Stdio::null());
        command
    }

    pub(crate) fn brt(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn train(&self, out: &str) -> Command {
        let (config, data, out) = (self.text("tiny.toml"), self.text("corpus"), self.text(out));
        self.command(&["train", &config, "--data", &data, "--out", &out, "--threads", "1", "--resume"])
    }

    /// The step of a run's last checkpoint; 0 without one.
    pub(crate) fn last_step(&self, out: &str) -> u64 {
        let names = fs::read_dir(self.path(out).join("checkpoints")).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).max().unwrap_or(0)
    }

    /// The losses of a finished run; times and memory differ from run to run.
    pub(crate) fn losses(&self, out: &str) -> serde_json::Value {
        let result = fs::read(self.path(out).join("result.json")).unwrap();
        let mut result: serde_json::Value = serde_json::from_slice(&result).unwrap();
        for line in result["curve"].as_array_mut().unwrap() {
            for time in ["step_secs", "tokens_per_sec", "unix_secs"] {
                line[time].take();
            }
        }
        serde_json::json!([result["curve"], result["test"], result["test_state_reset"]])
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
