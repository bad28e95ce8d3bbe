//! Runs on real text: learning, determinism, exact resume, evaluation.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use brt_data::{
    CorpusSource, Document, PrepareConfig, SourceFormat, Split, TextPlace, TokenSet, Tokenizer, prepare,
    train_tokenizer,
};
use brt_report::{MetricsLine, RunResult, StateRule};
use brt_trainer::{HeldOut, Progress, Run, RunOutcome, Trainer, latest_checkpoint};
use common::{Place, SOURCE};
use tch::Device;

/// Everything of a result but times and memory.
fn comparable(result: &RunResult) -> String {
    let line = |l: &MetricsLine| {
        format!("{} {} {} {:?}", l.step, l.train_bits_per_token, l.gradient_norm, l.validation_bits_per_byte)
    };
    let curve: Vec<String> = result.curve.iter().map(line).collect();
    format!("{curve:?} {:?} {:?} {}", result.test, result.test_state_reset, result.training.num_tokens)
}

fn tensors(folder: &Path) -> Vec<(String, Vec<u8>)> {
    ["model.safetensors", "optimizer.safetensors", "state-0-of-1.safetensors"]
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

const ADAMW: &str = "kind = \"adamw\"\nbeta1 = 0.9\nbeta2 = 0.98\nepsilon = 1e-8\nweight_decay = 1e-4\n\n";
const MUON: &str =
    "kind = \"muon\"\nmomentum = 0.95\nbeta1 = 0.9\nbeta2 = 0.98\nepsilon = 1e-8\nweight_decay = 0.1\n\n";

/// Whatever a model carries and an optimiser keeps is in a checkpoint.
#[test]
fn every_kind_of_state_is_resumed() {
    tch::set_num_threads(1);
    let kinds: [&[(&str, &str)]; 10] = [
        &[("evaluation.sample", "moving"), ("evaluation.num_batches", "3"), ("train.validate_every", "2")],
        &[("train.accumulate", "3"), ("train.memory", "recompute")],
        &[("train.precision", "bf16"), ("train.keep_best", "true"), ("train.max_gradient_norm", "0.1")],
        &[("train.accumulate", "3"), ("train.precision", "bf16"), ("train.memory", "recompute")],
        &[("optimizer", MUON)],
        &[("model.memory", "{ layer = 0, capacity = 24, num_neighbours = 4, local_position = true }")],
        &[("model.carry", "none")],
        &[("model.recurrence.feedback", "true")],
        &[("model.recurrence.clear_state", "true"), ("model.segment_len", "64")],
        &[], // AdamW
    ];
    for overrides in kinds {
        let is_optimizer = |(key, _): &&(&str, &str)| *key == "optimizer";
        let place = Place::with(if overrides.iter().any(|o| is_optimizer(&o)) { &[] } else { overrides });
        if overrides.is_empty() {
            place.use_optimizer(ADAMW);
        }
        if let [("optimizer", muon)] = overrides {
            place.use_optimizer(muon);
        }
        let whole = place.finish("whole");
        assert!(matches!(place.run("cut", Some(4)), Ok(RunOutcome::Interrupted { num_steps: 4 })));
        assert_eq!(comparable(&place.finish("cut")), comparable(&whole), "{overrides:?}");
        let end = |out: &str| tensors(&latest_checkpoint(&place.path(out)).unwrap().unwrap());
        assert!(end("cut") == end("whole"), "{overrides:?}: tensors differ");
    }
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

/// Returns bytes and words of the tokens of a text that are scored, counted from the text itself.
fn scored(text: &str, tokenizer: &Tokenizer, is_scored: impl Fn(usize) -> bool) -> (u64, u64) {
    let ends = tokenizer.encode(text.as_bytes(), TextPlace::Start).unwrap().ends;
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let tokens: Vec<_> = starts.zip(&ends).take(300).enumerate().filter(|(i, _)| is_scored(*i)).collect();
    let is_word_start = |at: usize| {
        let before = text[..at].chars().next_back().is_none_or(char::is_whitespace);
        before && text[at..].chars().next().is_some_and(|c| !c.is_whitespace())
    };
    let words = |start: u32, end: u32| (start..end).filter(|&at| is_word_start(at as usize)).count() as u64;
    let sum =
        |count: &dyn Fn(u32, u32) -> u64| tokens.iter().map(|(_, (start, end))| count(*start, **end)).sum();
    (sum(&|start, end| u64::from(end - start)), sum(&words))
}

/// Bits per byte and word perplexity divide by exactly the text that the scored tokens stand for.
#[test]
fn bytes_and_words_are_those_of_the_scored_tokens() {
    let place = Place::new();
    let source = CorpusSource::files(place.path("text"), SourceFormat::Files);
    let config = PrepareConfig::new(source);
    let tokenizer = train_tokenizer(&config, 300, 1 << 20, &mut |_, _| ()).unwrap();
    let corpus = place.path("pieces");
    prepare(&PrepareConfig { tokenizer: tokenizer.clone(), ..config }, &corpus).unwrap();
    let set = Arc::new(TokenSet::open(&corpus, Split::Train).unwrap());
    let held_out = HeldOut::open(&corpus, Split::Test).unwrap();
    for rule in ["across_segments", "within_segment"] {
        let config = place.config(&[("model.vocab_size", "300"), ("data.target_rule", rule)]);
        let trainer = Trainer::new(config.clone(), Arc::clone(&set), 1, Device::Cpu).unwrap();
        let evaluation =
            brt_trainer::evaluate(trainer.model(), &held_out, &config, StateRule::Carried).unwrap();
        for document in &evaluation.documents {
            let text = fs::read_to_string(place.path("text").join(&document.name)).unwrap();
            let is_scored = |i: usize| if rule == "across_segments" { i > 0 } else { !i.is_multiple_of(64) };
            let expected = scored(&text, &tokenizer, is_scored);
            assert_eq!((document.num_bytes, document.num_words), expected, "{} {rule}", document.name);
            assert!(document.num_words > 20 && document.num_tokens < document.num_bytes);
        }
    }
}

/// The scores of documents do not depend on how many are read side by side; the first batches alone can be scored; a
/// state that is reset in every block is worth nothing.
#[test]
fn evaluation_does_not_depend_on_the_batch() {
    tch::set_num_threads(1);
    let place = Place::new();
    let set = Arc::new(TokenSet::open(&place.path("corpus"), Split::Train).unwrap());
    let held_out = HeldOut { split: Split::Train, set: Arc::clone(&set) }; // Five documents.
    let trainer = Trainer::new(place.config(&[]), set, 1, Device::Cpu).unwrap();
    let evaluate = |batch: &str, rule, extra: &[(&str, &str)]| {
        let config = place.config(&[&[("evaluation.batch", batch)], extra].concat());
        brt_trainer::evaluate(trainer.model(), &held_out, &config, rule).unwrap()
    };
    let expected = evaluate("1", StateRule::Carried, &[]);
    for batch in ["2", "3", "7"] {
        let got = evaluate(batch, StateRule::Carried, &[]);
        for (got, expected) in got.documents.iter().zip(&expected.documents) {
            assert!((got.loss_nats / expected.loss_nats - 1.).abs() < 1e-6, "{got:?} {expected:?}");
            assert_eq!((&got.name, got.num_tokens), (&expected.name, expected.num_tokens));
        }
        assert_eq!(got, evaluate(batch, StateRule::Carried, &[]));
    }
    let first = evaluate("2", StateRule::Carried, &[("evaluation.num_batches", "1")]);
    assert_eq!((first.num_batches, first.num_tokens()), (1, 2 * 64));
    let blocks = evaluate("1", StateRule::ResetBlocks, &[]);
    // In the first block all rules read the initial state; afterwards this one does so alone.
    let reset = evaluate("1", StateRule::Reset, &[]);
    assert_eq!(blocks.num_tokens(), expected.num_tokens());
    // A state that is reset in every block is one that is reset in every segment of one block.
    let short = evaluate("1", StateRule::Reset, &[("data.segment_len", "16")]);
    for (block, short) in blocks.documents.iter().zip(&short.documents) {
        assert!((block.loss_nats / short.loss_nats - 1.).abs() < 1e-6, "{block:?} {short:?}");
    }
    assert!(blocks.documents.iter().zip(&reset.documents).all(|(b, r)| b.loss_nats != r.loss_nats));
}

/// A moving sample scores other batches each time; where nothing is learned, the first ones have the same scores always.
#[test]
fn a_moving_sample_moves() {
    tch::set_num_threads(1);
    let validations = |sample: &'static str| {
        let place = Place::with(&[
            ("evaluation.sample", sample),
            ("evaluation.num_batches", "1"),
            ("train.validate_every", "2"),
            ("schedule.multiplier", "1e-30"),
        ]);
        let curve = place.finish("run").curve;
        curve.into_iter().filter_map(|line| line.validation_bits_per_byte).collect::<Vec<_>>()
    };
    let (first, moving) = (validations("first"), validations("moving"));
    assert_eq!((first.len(), moving.len()), (5, 5));
    assert!(first.iter().all(|bits| (bits - first[0]).abs() < 1e-9), "{first:?}");
    assert!(moving.windows(2).all(|pair| pair[0] != pair[1]), "{moving:?}");
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
