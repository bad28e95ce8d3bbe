//! Runs on real text: learning, determinism, exact resume, and what a user can get wrong.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use brt_data::{CorpusSource, Document, Split, TokenSet, prepare};
use brt_report::{MetricsLine, RunResult, StateRule, read_json};
use brt_trainer::{
    HeldOut, Override, Progress, Resume, Run, RunConfig, RunOptions, RunOutcome, TrainError, Trainer,
    build_facts, latest_checkpoint,
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
max_document_len = 200

[optimizer]
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
log_every = 2
checkpoint_every = 4
validate_every = 4

[evaluation]
batch = 2
max_document_len = 300
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A folder with a corpus of real text: pages of this repository's books.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        for (split, count) in [("train", 5), ("validation", 2), ("test", 2)] {
            fs::create_dir_all(text.join(split)).unwrap();
            for idx in 0..count {
                let page: String = SOURCE.chars().skip(idx * 700).take(600).collect();
                fs::write(text.join(split).join(format!("{idx}.txt")), page).unwrap();
            }
        }
        prepare(&CorpusSource::Folder { path: text }, &folder.path().join("corpus")).unwrap();
        fs::write(folder.path().join("tiny.toml"), CONFIG).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, overrides: &[(&str, &str)]) -> RunConfig {
        let change = |&(key, value): &(&str, &str)| Override { key: key.into(), value: value.into() };
        RunConfig::load(&self.path("tiny.toml"), &overrides.iter().map(change).collect::<Vec<_>>()).unwrap()
    }

    fn options(&self, out: &str) -> RunOptions {
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
    fn run(&self, out: &str, stop_at: Option<u64>) -> Result<RunOutcome, TrainError> {
        let stop = AtomicBool::new(false);
        Run::new(self.config(&[]), self.options(out))?.run(&stop, |progress| {
            if let Progress::Step(report) = progress {
                stop.store(stop_at == Some(report.step), Ordering::Relaxed);
            }
        })
    }

    /// Runs to the end and returns the result, which must be what the file says.
    fn finish(&self, out: &str) -> RunResult {
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
const SOURCE: &str = concat!(include_str!("../src/run.rs"), include_str!("../src/checkpoint.rs"));

/// Everything of a result but times and memory.
fn comparable(result: &RunResult) -> String {
    let line = |l: &MetricsLine| {
        format!("{} {} {} {:?}", l.step, l.train_bits_per_token, l.gradient_norm, l.validation_bits_per_byte)
    };
    let curve: Vec<String> = result.curve.iter().map(line).collect();
    format!("{curve:?} {:?} {:?} {}", result.test, result.test_state_reset, result.training.num_tokens)
}

fn tensors(folder: &Path) -> Vec<(String, Vec<u8>)> {
    ["model.safetensors", "optimizer.safetensors", "state.safetensors"]
        .map(|file| (file.to_string(), fs::read(folder.join(file)).unwrap()))
        .to_vec()
}

/// Interrupted after any step, also twice, a run goes on bit for bit: losses, parameters, moments, caches, states.
#[test]
fn an_interrupted_run_equals_an_uninterrupted_one() {
    tch::set_num_threads(1);
    let place = Place::new();
    let whole = place.finish("whole");
    assert_eq!(whole.training.num_steps, 9);
    assert_eq!(whole.curve.len(), 5);
    let end = |out: &str| tensors(&latest_checkpoint(&place.path(out)).unwrap().unwrap());
    for stop_at in 1..9 {
        let out = format!("stopped-at-{stop_at}");
        let outcome = place.run(&out, Some(stop_at)).unwrap();
        assert_eq!(outcome, RunOutcome::Interrupted { num_steps: stop_at });
        let second = place.run(&out, Some((stop_at + 1).max(7))).unwrap();
        let resumed = match second {
            RunOutcome::Finished(result) => *result, // It was stopped at its last step but one.
            RunOutcome::Interrupted { .. } => place.finish(&out),
        };
        assert_eq!(comparable(&resumed), comparable(&whole), "stopped at {stop_at}");
        assert!(end(&out) == end("whole"), "stopped at {stop_at}: tensors differ");
        assert!(resumed.training.num_resumes >= 1);
    }
    // A finished run returns what it wrote.
    assert_eq!(place.finish("whole"), whole);
}

/// Interrupted while the test documents are scored, a run saves nothing new and scores them again.
#[test]
fn an_interruption_while_scoring_is_resumed() {
    tch::set_num_threads(1);
    let place = Place::new();
    let whole = place.finish("whole");
    for rule in [StateRule::Carried, StateRule::Reset] {
        let out = format!("{rule:?}");
        let stop = AtomicBool::new(false);
        let run = Run::new(place.config(&[]), place.options(&out)).unwrap();
        let outcome = run.run(&stop, |progress| {
            stop.store(
                stop.load(Ordering::Relaxed) || *progress == Progress::Testing(rule),
                Ordering::Relaxed,
            );
        });
        assert_eq!(outcome.unwrap(), RunOutcome::Interrupted { num_steps: 9 });
        assert!(!place.path(&out).join("result.json").exists());
        assert_eq!(comparable(&place.finish(&out)), comparable(&whole));
    }
}

/// Two processes in one folder would spoil each other's files.
#[test]
fn a_folder_is_locked_while_a_run_lives() {
    let place = Place::new();
    let first = Run::new(place.config(&[]), place.options("run")).unwrap();
    let error = Run::new(place.config(&[]), place.options("run")).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "run.lock: expected to be alone in this folder, got another process that trains in it"
        )
    );
    drop(first);
    Run::new(place.config(&[]), place.options("run")).unwrap();
}

/// A run that was killed while it wrote leaves parts; they are never taken for a whole.
#[test]
fn parts_of_a_killed_run_are_ignored() {
    tch::set_num_threads(1);
    let place = Place::new();
    let whole = place.finish("whole");
    place.run("killed", Some(6)).unwrap();
    let checkpoints = place.path("killed/checkpoints");
    fs::create_dir(checkpoints.join("step-8.part")).unwrap();
    fs::write(checkpoints.join("step-8.part/model.safetensors"), b"half").unwrap();
    let metrics = place.path("killed/metrics.jsonl");
    let lines = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, format!("{lines}{{\"step\":8,\"num_tok")).unwrap();
    assert_eq!(comparable(&place.finish("killed")), comparable(&whole));
}

#[test]
fn a_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_offered() {
    let place = Place::new();
    place.run("run", Some(6)).unwrap();
    let last = place.path("run/checkpoints/step-6");
    let file = last.join("optimizer.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let error = place.run("run", None).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: expected SHA-256 ", file.display())), "{error}");
    let advice =
        format!("the checkpoint is damaged; remove the folder {} to go on from step 4", last.display());
    assert!(error.ends_with(&advice), "{error}");
    fs::remove_dir_all(last).unwrap();
    assert_eq!(place.finish("run").training.num_steps, 9);
}

#[test]
fn another_run_in_the_folder_is_refused() {
    let place = Place::new();
    place.run("run", Some(2)).unwrap();
    let other = place.config(&[("model.window_len", "32")]);
    let error = Run::new(other, place.options("run")).unwrap_err().to_string();
    let expected = "expected the configuration of this run, got another; \
                    it has `window_len = 16`, this run has `window_len = 32`; choose another output folder";
    assert!(error.ends_with(expected), "{error}");
    let options = RunOptions { resume: Resume::Never, ..place.options("run") };
    let error = Run::new(place.config(&[]), options).unwrap_err().to_string();
    assert!(error.ends_with("add --resume or choose another output folder"), "{error}");
}

#[test]
fn wrong_configurations_are_told() {
    let place = Place::new();
    let error = |key: &str, value: &str| {
        let change = Override { key: key.into(), value: value.into() };
        RunConfig::load(&place.path("tiny.toml"), &[change]).unwrap_err().to_string()
    };
    let path = place.path("tiny.toml").display().to_string();
    let unknown = error("model.windw_len", "3");
    assert!(unknown.starts_with(&format!("{path}: unknown field `windw_len`")), "{unknown}");
    assert!(unknown.ends_with("did you mean `window_len`?"), "{unknown}");
    let expected = "model.window_len: expected a divisor of the segment length 64, got 24";
    assert_eq!(error("model.window_len", "24"), format!("{path}: {expected}"));
    assert_eq!(error("train.log_every", "0"), format!("{path}: train.log_every: expected at least 1, got 0"));
    let numbers = [
        ("evaluation.batch", "0", "evaluation.batch: expected at least 1, got 0"),
        ("optimizer.momentum", "1.5", "optimizer.momentum: expected a number in 0.0 .. 1.0, got 1.5"),
        ("schedule.multiplier", "-1.0", "schedule.multiplier: expected a number above 0, got -1"),
        ("model.window_len", "10000000", "model.window_len: expected at most 1000000, got 10000000"),
        (
            "schedule.num_warmup_steps",
            "9",
            "schedule.num_warmup_steps: expected less than the 9 steps of the run",
        ),
    ];
    for (key, value, expected) in numbers {
        let got = error(key, value);
        assert!(got.starts_with(&format!("{path}: {expected}")), "{got}");
    }
    let small = place.config(&[("model.vocab_size", "100")]);
    let error = Run::new(small, place.options("run")).unwrap_err().to_string();
    assert_eq!(error, "model.vocab_size: expected at least the 260 rows that the corpus needs, got 100");
    assert!(!place.path("run").exists(), "a mistake leaves no folder behind");
}

/// A small batch is learned by heart, and the same seed gives the same losses.
#[test]
fn a_small_document_is_learned_by_heart() {
    tch::set_num_threads(1);
    let place = Place::new();
    let document = Document { name: "d".into(), group: "g".into(), text: SOURCE.as_bytes()[..128].to_vec() };
    let set = Arc::new(TokenSet::from_documents(&[document]).unwrap());
    let overrides = [
        ("data.batch", "1"),
        ("model.dropout", "0.0"),
        ("model.attention_dropout", "0.0"),
        ("train.num_steps", "150"),
        ("schedule.num_warmup_steps", "20"),
    ];
    let losses = || {
        let mut trainer = Trainer::new(place.config(&overrides), Arc::clone(&set), 3, Device::Cpu).unwrap();
        (0..150)
            .map(|_| trainer.step().unwrap())
            .map(|r| r.loss_nats / r.num_scored as f64)
            .collect::<Vec<_>>()
    };
    let first = losses();
    assert_eq!(first, losses());
    assert!(first[0] > 4. && first[149] < 0.5, "from {} to {} nats per token", first[0], first[149]);
}

/// Every token of every document but its first is scored once; state and position count.
#[test]
fn evaluation_scores_every_token_once() {
    let place = Place::new();
    let trainer_set = Arc::new(TokenSet::open(&place.path("corpus"), Split::Train).unwrap());
    let held_out = HeldOut::open(&place.path("corpus"), Split::Test).unwrap();
    let config = place.config(&[]);
    let trainer = Trainer::new(config.clone(), trainer_set, 1, Device::Cpu).unwrap();
    let evaluate = |rule| brt_trainer::evaluate(trainer.model(), &held_out, &config, rule).unwrap();
    let (carried, reset) = (evaluate(StateRule::Carried), evaluate(StateRule::Reset));
    for document in &carried.documents {
        assert_eq!((document.num_tokens, document.num_bytes), (299, 299)); // The first 300 tokens.
    }
    let by_position: u64 = carried.by_position.iter().map(|b| b.num_tokens).sum();
    assert_eq!(by_position, carried.num_tokens());
    // The first segment does not know what came before; later ones do.
    assert_eq!(carried.by_position[0], reset.by_position[0]);
    assert_ne!(carried.by_position[2], reset.by_position[2]);
    assert_eq!(evaluate(StateRule::Carried), carried);
}
