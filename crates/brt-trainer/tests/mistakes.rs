//! What a user can get wrong with a run: each is one sentence, and nothing is lost.

mod common;

use std::fs;

use brt_trainer::{Override, Resume, Run, RunConfig, RunOptions};
use common::Place;

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

/// Whatever of a checkpoint is missing, cut short or changed is named, and the one before is offered.
#[test]
fn every_damage_to_a_checkpoint_offers_the_one_before() {
    let place = Place::new();
    place.run("run", Some(6)).unwrap();
    let last = place.path("run/checkpoints/step-6");
    let advice =
        format!("the checkpoint is damaged; remove the folder {} to go on from step 4", last.display());
    for file in [
        "model.safetensors",
        "optimizer.safetensors",
        "state-0-of-1.safetensors",
        "trainer.json",
        "trainer.sha256",
    ] {
        let path = last.join(file);
        let sound = fs::read(&path).unwrap();
        let mut changed = sound.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        for damaged in [None, Some(&sound[..sound.len() / 2]), Some(&changed[..])] {
            match damaged {
                None => fs::remove_file(&path).unwrap(),
                Some(damaged) => fs::write(&path, damaged).unwrap(),
            }
            let error = place.run("run", None).unwrap_err().to_string();
            assert!(
                error.contains(&last.display().to_string()) && error.ends_with(&advice),
                "{file}: {error}"
            );
        }
        fs::write(&path, sound).unwrap();
    }
    assert_eq!(place.finish("run").training.num_steps, 9);
}

/// A disk without room for the checkpoints is told before anything is written, of a new run as of one that goes on.
#[test]
fn a_disk_that_is_too_small_is_told_before_the_start() {
    let place = Place::new();
    place.run("small", Some(6)).unwrap();
    place.finish("small"); // It goes on where there is room.
    let huge = place.config(&[("train.keep_every", "4"), ("train.num_steps", "4000000000000")]);
    let error = Run::new(huge, place.options("run")).unwrap_err().to_string();
    assert!(error.contains("bytes of free space for checkpoints, got "), "{error}");
    assert!(!place.path("run").exists());
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let place = Place::new();
    let cases = [
        (
            "train.keep_every",
            "6",
            "train.keep_every: expected a multiple of train.checkpoint_every, 4, got 6",
        ),
        ("train.sinks", "['csv', 'csv']", "train.sinks: expected each kind once, got [Csv, Csv]"),
        ("train.accumulate", "2", "train.accumulate: expected a divisor of the 3 rows of data.batch, got 2"),
        ("train.max_gradient_norm", "0.0", "train.max_gradient_norm: expected a number above 0, got 0"),
        (
            "schedule",
            "{ kind = 'wsd', max_lr = 1.0, min_lr = 0.1, decay_part = nan, num_warmup_steps = 1, multiplier = 1.0 }",
            "schedule.decay_part: expected a number above 0.0, up to 1.0, got NaN",
        ),
    ];
    let text = fs::read_to_string(place.path("tiny.toml")).unwrap();
    for (key, value, expected) in cases {
        let (mut overrides, mut file) = (vec![], text.clone());
        if key == "schedule" {
            let (before, rest) = text.split_once("[schedule]").unwrap();
            let after = rest.split_once("\n\n").unwrap().1;
            file = format!("schedule = {value}\n{before}{after}");
        } else {
            overrides.push(Override { key: key.into(), value: value.into() });
        }
        fs::write(place.path("odd.toml"), file).unwrap();
        let error = RunConfig::load(&place.path("odd.toml"), &overrides).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

/// A checkpoint of an earlier version has other keys; it is refused by its version, not by them.
#[test]
fn a_checkpoint_of_another_version_is_refused() {
    let place = Place::new();
    place.run("run", Some(2)).unwrap();
    let record = place.path("run/checkpoints/step-2/trainer.json");
    fs::write(&record, r#"{"format": 1, "cursor": {"epoch": 3}}"#).unwrap();
    let error = place.run("run", None).unwrap_err().to_string();
    let expected = "expected checkpoint format 4, got 1; start anew, or use the brt that wrote it";
    assert_eq!(error, format!("{}: {expected}", record.display()));
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

/// A mistake in a file is told with the line on which it stands, also in a file that the run's extends.
#[test]
fn mistakes_in_files_have_their_line() {
    let place = Place::new();
    let tiny = fs::read_to_string(place.path("tiny.toml")).unwrap();
    let error = |base: &str, run: &str| {
        fs::write(place.path("base.toml"), base).unwrap();
        fs::write(place.path("run.toml"), format!("extends = 'base.toml'\n{run}")).unwrap();
        let error = RunConfig::load(&place.path("run.toml"), &[]).unwrap_err().to_string();
        error.replace(&format!("{}/", place.path("").display()), "").replace("//", "/")
    };
    let line = |text: &str, start: &str| text.lines().position(|line| line.starts_with(start)).unwrap() + 1;
    let window = line(&tiny, "window_len");
    let cases = [
        (
            tiny.replace("window_len = 16", "window_len = 'x'"),
            "",
            format!("base.toml:{window}: model.window_len: "),
        ),
        (
            tiny.replace("window_len = 16", "windw_len = 16"),
            "",
            format!("base.toml:{window}: model.windw_len: "),
        ),
        (
            tiny.replace("window_len = 16\n", ""),
            "",
            format!("base.toml:{}: model: missing", line(&tiny, "[model]")),
        ),
        (
            tiny.replace("window_len = 16", "window_len = 24"),
            "",
            format!("base.toml:{window}: model.window_len: "),
        ),
        (
            tiny.clone(),
            "\n[model]\nwindow_len = 24\n",
            "run.toml:4: model.window_len: expected a divisor".into(),
        ),
        (tiny.clone(), "[train]\nkeep_lst = 3", "run.toml:3: train.keep_lst: unknown field".into()),
        (tiny.replace("[train]", "[trian]"), "", format!("base.toml:{}: trian: ", line(&tiny, "[train]"))),
        // Tables with a kind.
        (
            tiny.replace("momentum = 0.9", "momentum = 'x'"),
            "",
            format!("base.toml:{}: optimizer.momentum: invalid type", line(&tiny, "momentum")),
        ),
        (
            tiny.replace("kind = \"adafactor\"", "kind = \"adam\""),
            "",
            format!("base.toml:{}: optimizer.kind: unknown variant `adam`", line(&tiny, "[optimizer]") + 1),
        ),
        (
            tiny.replace("clip_threshold", "clip_treshold"),
            "",
            format!("base.toml:{}: optimizer.clip_treshold: unknown field", line(&tiny, "clip_threshold")),
        ),
        (
            tiny.replace("multiplier = 0.3", "multiplier = []"),
            "",
            format!("base.toml:{}: schedule.multiplier: invalid type", line(&tiny, "multiplier")),
        ),
        (
            tiny.clone(),
            "[schedule]\nkind = 'rsqrt'\nmultiplyer = 1.0",
            "run.toml:2: schedule: missing field".into(),
        ),
        (
            tiny.split("[evaluation]").next().unwrap().to_owned(),
            "",
            "run.toml: missing field `evaluation`".into(),
        ),
    ];
    for (base, run, expected) in cases {
        let got = error(&base, run);
        assert!(got.contains(&expected), "expected {expected}\ngot {got}");
        assert_eq!(got.lines().count(), 1, "{got}");
    }
    // A mistake on the command line is not one of the file.
    let change = Override { key: "optimizer.momentum".into(), value: "high".into() };
    let error = RunConfig::load(&place.path("tiny.toml"), &[change]).unwrap_err().to_string();
    let expected = format!("{}: optimizer.momentum: invalid type", place.path("tiny.toml").display());
    assert!(error.starts_with(&expected), "{error}");
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
    assert!(unknown.starts_with(&format!("{path}: model.windw_len: unknown field `windw_len`")), "{unknown}");
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
