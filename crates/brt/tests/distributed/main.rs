//! Several processes train one model: as one would, from start to end, through kills, and with clear errors.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../common/mod.rs"]
mod common;
mod mistakes;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{Place, stderr};
use rustix::process::{Pid, Signal, kill_process};

/// Returns a place whose configuration has four rows.
fn place() -> Place {
    let place = Place::new();
    let path = place.path("tiny.toml");
    let config = fs::read_to_string(&path).unwrap().replace("[data]\nbatch = 2", "[data]\nbatch = 4");
    fs::write(path, config).unwrap();
    place
}

fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 8000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 1000;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// `brt launch` of `brt train`, with options of each.
fn launch(place: &Place, out: &str, options: &[&str], train: &[&str]) -> Command {
    let (config, data, out) = (place.text("tiny.toml"), place.text("corpus"), place.text(out));
    let fixed = ["train", &config, "--data", &data, "--out", &out, "--threads", "1", "--group-timeout", "60"];
    place.command(&[&["launch"], options, &fixed, train].concat())
}

fn finish(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Returns every number of a result's losses.
fn numbers(losses: &serde_json::Value) -> Vec<f64> {
    match losses {
        serde_json::Value::Number(number) => vec![number.as_f64().unwrap()],
        serde_json::Value::Array(values) => values.iter().flat_map(numbers).collect(),
        serde_json::Value::Object(values) => values.values().flat_map(numbers).collect(),
        _ => vec![],
    }
}

fn assert_close(place: &Place, out: &str, expected: &str) {
    let [got, expected] = [out, expected].map(|out| numbers(&place.losses(out)));
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(&expected) {
        assert!(
            (got - expected).abs() <= 1e-4 * expected.abs().max(1.),
            "{out}: {got} instead of {expected}"
        );
    }
}

/// One process with the rows in four parts, four processes, and two with two parts each train the same, dropout included;
/// so do all kinds of models and memories.
#[test]
fn processes_train_as_one_would() {
    let kinds: [&[&str]; 6] = [
        &[],
        &["--train.memory", "recompute", "--train.max_gradient_norm", "0.1"],
        &["--model.carry", "detached", "--model.recurrence.feedback", "true"],
        &["--model.memory", "{ layer = 0, capacity = 24, num_neighbours = 4, local_position = true }"],
        &["--evaluation.sample", "moving", "--evaluation.num_batches", "3", "--train.validate_every", "5"],
        &["--data.pack", "paper", "--data.target_rule", "within_segment", "--evaluation.batch", "1"],
    ];
    let place = place();
    for (idx, kind) in kinds.into_iter().enumerate() {
        let steps = ["--train.num_steps", if idx == 0 { "60" } else { "20" }];
        let out = |name: &str| format!("{name}-{idx}");
        let with = |parts: &'static str| [kind, &steps, &["--train.accumulate", parts]].concat();
        finish(&mut launch(&place, &out("one"), &["--nproc", "1"], &with("4")));
        finish(&mut launch(&place, &out("two"), &["--nproc", "2"], &with("2")));
        assert_close(&place, &out("two"), &out("one"));
        if idx < 2 {
            finish(&mut launch(&place, &out("four"), &["--nproc", "4"], &with("1")));
            assert_close(&place, &out("four"), &out("one"));
        }
    }
    // Without the environment of a launcher it is the same as a group of one.
    let alone = place.train("alone").args(["--train.accumulate", "4"]).output().unwrap();
    assert!(alone.status.success());
    assert_eq!(place.losses("alone"), place.losses("one-0"));
}

/// A checkpoint of four processes is gone on from by one, and by two.
#[test]
fn a_run_goes_on_with_another_number_of_processes() {
    let place = place();
    let steps = |n: &'static str| ["--resume", "--schedule.num_scheduled_steps", "60", "--steps", n];
    let go_on = |out: &str, processes: &str, n| {
        finish(&mut launch(&place, out, &["--nproc", processes], &steps(n)));
        let _ = fs::remove_file(place.path(out).join("result.json"));
        // The number of steps is part of the configuration: it is raised in the file, too.
        let config = place.path(out).join("config.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(config, text.replace(&format!("num_steps = {n}\n"), "num_steps = 60\n")).unwrap();
    };
    let without_dropout =
        fs::read_to_string(place.path("tiny.toml")).unwrap().replace("dropout = 0.1", "dropout = 0.0");
    fs::write(place.path("tiny.toml"), without_dropout).unwrap();
    finish(&mut launch(&place, "whole", &["--nproc", "1"], &steps("60")));
    for (out, first, second) in [("four-one", "4", "1"), ("one-two", "1", "2"), ("two-four", "2", "4")] {
        go_on(out, first, "25");
        finish(&mut launch(&place, out, &["--nproc", second], &steps("60")));
        let [got, expected] = [out, "whole"].map(|out| test_loss(&place, out));
        assert!((got - expected).abs() < 1e-3 * expected, "{out}: {got} instead of {expected}");
    }
    // A file of states that is not there is named.
    go_on("missing", "4", "25");
    fs::remove_file(place.path("missing/checkpoints/step-25/state-2-of-4.safetensors")).unwrap();
    let output = launch(&place, "missing", &["--nproc", "2"], &steps("60")).output().unwrap();
    assert!(!output.status.success());
    assert!(stderr(&output).contains("step-25/state-2-of-4.safetensors: cannot read"), "{}", stderr(&output));
    assert!(stderr(&output).contains("remove the folder"), "{}", stderr(&output));
}

/// Loss on the test documents, in nats.
fn test_loss(place: &Place, out: &str) -> f64 {
    let losses = place.losses(out);
    let documents = losses[1]["documents"].as_array().unwrap();
    documents.iter().map(|document| document["loss_nats"].as_f64().unwrap()).sum()
}

/// Returns the processes that `parent` has started.
fn children(parent: u32) -> Vec<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn signal(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// Waits until a run has saved so many steps, while a process runs.
fn wait_for_step(place: &Place, out: &str, step: u64, process: &mut Child) {
    let start = Instant::now();
    while place.last_step(out) < step && process.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(120), "{out}: step {step} does not come");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Killed at ten moments, one of its processes after the other, a run goes on from its last checkpoint each time and ends
/// with the losses of one that was left alone.
#[test]
fn a_run_survives_ten_kills() {
    let place = place();
    finish(&mut launch(&place, "calm", &["--nproc", "2"], &[]));
    let mut run = launch(&place, "killed", &["--nproc", "2", "--max-restarts", "10"], &["--resume"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut num_kills = 0;
    for idx in 0..10 {
        wait_for_step(&place, "killed", 5 * (idx + 1), &mut run);
        thread::sleep(Duration::from_millis(7 * idx)); // At another moment each time, also within writing.
        let processes = children(run.id());
        if let Some(pid) = processes.get(idx as usize % processes.len().max(1)) {
            signal(*pid, Signal::KILL);
            num_kills += 1;
        }
    }
    assert!(run.wait().unwrap().success());
    assert!(num_kills >= 9, "{num_kills} kills"); // The last one may come too late.
    assert_eq!(place.losses("killed"), place.losses("calm"));
}

/// SIGTERM reaches all: they save at the same step; the run goes on, and is the one that was left alone.
#[test]
fn a_run_is_interrupted_and_goes_on() {
    let place = place();
    finish(&mut launch(&place, "calm", &["--nproc", "2"], &[]));
    let mut run = launch(&place, "cut", &["--nproc", "2"], &[]).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_step(&place, "cut", 10, &mut run);
    signal(run.id() as i32, Signal::TERM);
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
    assert!(stderr(&output).contains("interrupted and saved at step "), "{}", stderr(&output));
    finish(&mut launch(&place, "cut", &["--nproc", "2"], &["--resume"]));
    assert_eq!(place.losses("cut"), place.losses("calm"));
    // A launcher that is killed leaves nobody behind.
    let mut run = launch(&place, "orphans", &["--nproc", "2"], &["--steps", "100000"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_step(&place, "orphans", 5, &mut run);
    let processes = children(run.id());
    assert_eq!(processes.len(), 2);
    run.kill().unwrap();
    run.wait().unwrap();
    let start = Instant::now();
    while processes.iter().any(|pid| Path::new(&format!("/proc/{pid}/exe")).exists()) {
        assert!(start.elapsed() < Duration::from_secs(30), "a process stays behind");
        thread::sleep(Duration::from_millis(50));
    }
}
