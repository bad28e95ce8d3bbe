//! What a run leaves in its folder: checkpoints, metrics in every form, also where the disk is full for a while.

mod common;

use std::{fs, sync::atomic::AtomicBool};

use brt_trainer::{Progress, Run, RunOutcome};
use common::Place;

/// Of its checkpoints a run keeps the last, the best, and every nth.
#[test]
fn checkpoints_are_kept_as_the_configuration_says() {
    let place = Place::with(&[
        ("train.num_steps", "12"),
        ("train.validate_every", "3"),
        ("train.checkpoint_every", "1"),
        ("train.keep_last", "1"),
        ("train.keep_every", "5"),
        ("train.keep_best", "true"),
        ("schedule.kind", "constant"),
        ("schedule.lr", "20.0"), // The loss gets worse soon.
    ]);
    let result = place.finish("run");
    let validated = result.curve.iter().filter_map(|line| Some((line.validation_bits_per_byte?, line.step)));
    let best = validated.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1;
    let mut steps: Vec<u64> = fs::read_dir(place.path("run/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap()["step-".len()..].parse().unwrap())
        .collect();
    steps.sort_unstable();
    let mut expected = vec![5, 10, 12, best];
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(steps, expected);
    assert!(best < 12, "the best is not the last");
}

/// Metrics go to CSV and TensorBoard's files as well, whole lines of both after an interruption too; the numbers are
/// those of `metrics.jsonl`. (`benchmarks/training/read_run.py` reads them with TensorBoard.)
#[test]
fn metrics_are_written_in_every_form() {
    let options = [("train.sinks", "['csv', 'tensorboard']"), ("train.statistics_every", "4")];
    let place = Place::with(&options);
    let whole = place.finish("whole");
    assert!(matches!(place.run("cut", Some(5)), Ok(RunOutcome::Interrupted { num_steps: 5 })));
    place.finish("cut");
    let csv = |run: &str| fs::read_to_string(place.path(run).join("metrics.csv")).unwrap();
    let head = csv("whole").lines().next().unwrap().to_owned();
    assert!(head.starts_with("step,unix_secs,num_tokens,train_bits_per_token,"), "{head}");
    let rows =
        |run: &str| csv(run).lines().skip(1).map(|l| l.split(',').map(str::to_owned).collect()).collect();
    let (rows, again): (Vec<Vec<String>>, Vec<Vec<String>>) = (rows("whole"), rows("cut"));
    assert_eq!(rows.len(), whole.curve.len());
    for ((row, again), line) in rows.iter().zip(&again).zip(&whole.curve) {
        assert_eq!(row.len(), head.split(',').count());
        assert_eq!((&row[0], &row[3]), (&line.step.to_string(), &line.train_bits_per_token.to_string()));
        assert_eq!((&row[3], row.last()), (&again[3], again.last()));
    }
    let events = fs::read(place.path("whole/events.out.tfevents.0.brt")).unwrap();
    let (mut at, mut records) = (0, vec![]);
    while at < events.len() {
        let len = u64::from_le_bytes(events[at..at + 8].try_into().unwrap()) as usize;
        records.push(&events[at + 12..at + 12 + len]);
        at += 16 + len;
    }
    assert_eq!((at, records.len()), (events.len(), 1 + whole.curve.len()));
    let holds = |record: &[u8], text: &str| record.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds(records[0], "brain.Event:2") && holds(records[1], "curve/train_bits_per_byte"));
    let observed = whole.curve.iter().find(|line| !line.statistics.is_empty()).unwrap();
    let names: Vec<&str> = observed.statistics.keys().map(String::as_str).collect();
    for name in [
        "layers.0.tokens_to_tokens.entropy",
        "layers.1.cell.openness.mean",
        "layers.1.cell.openness.q95",
        "layers.1.cell.block_0.state_norm",
        "layers.1.cell.states_to_tokens.entropy",
        "layers.1.cell.block_3.update_norm",
        "layers.1.state_share",
        "layers.1.tokens_to_states.entropy",
    ] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    let open = observed.statistics["layers.1.cell.openness.mean"];
    assert!((0.3..0.7).contains(&open), "{open}"); // A fixed gate starts half open.
    let share = observed.statistics["layers.1.state_share"];
    assert!(share > 0. && share < 1., "{share}");
}

/// A checkpoint that cannot be written is told; the run goes on, and the next one is written.
#[test]
fn a_disk_that_is_full_for_a_while_is_survived() {
    let place = Place::with(&[("train.checkpoint_every", "1")]);
    let (checkpoints, aside) = (place.path("run/checkpoints"), place.path("run/aside"));
    let mut failed = vec![];
    let run = Run::new(place.config(&[]), place.options("run")).unwrap();
    let mut step = 0;
    let outcome = run.run(&AtomicBool::new(false), |progress| match progress {
        Progress::Step(report) => {
            step = report.step;
            if step == 4 {
                fs::rename(&checkpoints, &aside).unwrap();
                fs::write(&checkpoints, "no folder").unwrap();
            }
            if step == 6 {
                fs::remove_file(&checkpoints).unwrap();
                fs::rename(&aside, &checkpoints).unwrap();
            }
        }
        Progress::NotSaved(why) => failed.push((step, why.clone())),
        _ => (),
    });
    assert!(matches!(outcome, Ok(RunOutcome::Finished(_))));
    assert_eq!(failed.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [4, 5]);
    assert!(failed[0].1.contains("checkpoints"), "{failed:?}");
    assert!(checkpoints.join("step-9").exists());
}
