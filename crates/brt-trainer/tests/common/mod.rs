//! A small corpus of real text, a small configuration, and runs on them.
#![allow(dead_code, reason = "not every test program uses all of it")]
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use brt_data::{CorpusSource, PrepareConfig, SourceFormat, prepare};
use brt_report::{RunResult, read_json};
use brt_trainer::{
    Override, Progress, Resume, Run, RunConfig, RunOptions, RunOutcome, TrainError, build_facts,
};
use tch::Device;

/// A recurrent model with dropout, so that resuming must restore states and random numbers as well.
const CONFIG: &str = r#"
[model]
vocab_size = 260
model_dim = 32
num_layers = 2
num_heads = 2
head_dim = 16
ffn_dim = 64
window_len = 16
carry = "differentiable"
position = { kind = "t5" }
qk_norm = "unit"
temperature = "raw"
logit_divisor = "sqrt_vocab_size"
dropout = 0.1
attention_dropout = 0.1
recurrence = { layers = [-1], gate = "fixed", layout = "skip", num_states = 8 }

[data]
batch = 3
segment_len = 64
target_rule = "across_segments"
pack = "restart-anywhere"
max_document_len = 200

[optimizer]
kind = "adafactor"
momentum = 0.9
decay_exponent = 0.8
clip_threshold = 1.0
weight_decay = 0.0

[schedule]
kind = "rsqrt"
num_warmup_steps = 4
multiplier = 0.3

[train]
num_steps = 9
precision = "f32"
memory = "keep"
non_finite = "stop"
log_every = 2
checkpoint_every = 4
validate_every = 4
statistics_every = 0
sinks = []
keep_last = 2
keep_best = false

[evaluation]
batch = 2
max_document_len = 300
"#;

pub(crate) struct Place {
    folder: tempfile::TempDir,
    overrides: Vec<(&'static str, &'static str)>,
}

impl Place {
    /// A folder with a corpus of real text: pages of this repository's books.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// The same with another configuration.
    pub(crate) fn with(overrides: &[(&'static str, &'static str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        for (split, count) in [("train", 5), ("validation", 2), ("test", 2)] {
            fs::create_dir_all(text.join(split)).unwrap();
            for idx in 0..count {
                let page: String = SOURCE.chars().skip(idx * 700).take(600).collect();
                fs::write(text.join(split).join(format!("{idx}.txt")), page).unwrap();
            }
        }
        let source = CorpusSource::files(text, SourceFormat::Files);
        prepare(&PrepareConfig::new(source), &folder.path().join("corpus")).unwrap();
        fs::write(folder.path().join("tiny.toml"), CONFIG).unwrap();
        Self { folder, overrides: overrides.to_vec() }
    }

    /// Trains by another optimiser from now on, given the keys of its section.
    pub(crate) fn use_optimizer(&self, keys: &str) {
        let (before, rest) = CONFIG.split_once("kind = \"adafactor\"").unwrap();
        let (_, after) = rest.split_once("\n\n").unwrap();
        fs::write(self.path("tiny.toml"), format!("{before}{keys}{after}")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self, overrides: &[(&str, &str)]) -> RunConfig {
        let change = |&(key, value): &(&str, &str)| Override { key: key.into(), value: value.into() };
        let overrides: Vec<_> = self.overrides.iter().chain(overrides).map(change).collect();
        RunConfig::load(&self.path("tiny.toml"), &overrides).unwrap()
    }

    pub(crate) fn options(&self, out: &str) -> RunOptions {
        RunOptions {
            name: "tiny".into(),
            data: self.path("corpus"),
            out: self.path(out),
            seed: 5,
            device: Device::Cpu,
            resume: Resume::IfThere,
            build: build_facts("test"),
        }
    }

    /// Runs until the end, or until the given number of steps is done.
    pub(crate) fn run(&self, out: &str, stop_at: Option<u64>) -> Result<RunOutcome, TrainError> {
        let stop = AtomicBool::new(false);
        Run::new(self.config(&[]), self.options(out))?.run(&stop, |progress| {
            if let Progress::Step(report) = progress {
                stop.store(stop_at == Some(report.step), Ordering::Relaxed);
            }
        })
    }

    /// Runs to the end and returns the result, which must be what the file says.
    pub(crate) fn finish(&self, out: &str) -> RunResult {
        match self.run(out, None).unwrap() {
            RunOutcome::Finished(result) => {
                let file = self.path(out).join("result.json");
                assert_eq!(read_json::<RunResult>(&file, "a result").unwrap(), *result);
                assert!(result.training.median_step_secs > 0. && result.training.peak_bytes > 0);
                *result
            }
            RunOutcome::Interrupted { num_steps } => panic!("interrupted at step {num_steps}"),
        }
    }
}

/// The text of the tests: the source of this file's neighbour, which is long enough and real.
pub(crate) const SOURCE: &str =
    concat!(include_str!("../../src/run/mod.rs"), include_str!("../../src/checkpoint/mod.rs"));
