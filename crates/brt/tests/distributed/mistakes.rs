//! Processes that do not fit, end or stay away: one clear line each, and all end.

use std::{
    net::TcpListener,
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    common::{Place, stderr},
    free_port, place, signal, wait_for_step,
};

/// Starts `brt train` as one process of several, as a cluster's scheduler would.
fn process(
    place: &Place,
    (rank, world_size, port): (u32, u32, u16),
    timeout: &str,
    arguments: &[&str],
) -> Child {
    let (config, data, out) = (place.text("tiny.toml"), place.text("corpus"), place.text("out"));
    let fixed = ["train", &config, "--out", &out, "--threads", "1", "--group-timeout", timeout];
    let data: &[&str] = if arguments.contains(&"--data") { &[] } else { &["--data", &data] };
    let mut command = place.command(&[&fixed, data, arguments].concat());
    let environment = [
        ("RANK", rank.to_string()),
        ("WORLD_SIZE", world_size.to_string()),
        ("MASTER_PORT", port.to_string()),
    ];
    command.envs(environment).env("MASTER_ADDR", "127.0.0.1").stderr(Stdio::piped()).spawn().unwrap()
}

/// Returns how processes ended and what they said; all must end within the time.
fn ends(processes: Vec<Child>) -> Vec<(ExitStatus, String)> {
    let start = Instant::now();
    let end = |process: Child| {
        let output = process.wait_with_output().unwrap();
        (output.status, stderr(&output))
    };
    let ends = processes.into_iter().map(end).collect();
    assert!(start.elapsed() < Duration::from_secs(60), "{ends:?}");
    ends
}

/// Checks that all processes failed, each with one line that contains the text for it.
fn assert_said(processes: Vec<Child>, expected: &[&str]) {
    for ((status, said), expected) in ends(processes).iter().zip(expected) {
        assert!(!status.success(), "{said}");
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines.len() == 1 && said.contains(expected), "expected `{expected}`, got {said}");
    }
}

#[test]
fn processes_that_do_not_fit_say_so() {
    let place = place();
    let start = |ranks: &[(u32, u32, &[&str])], timeout: &str| -> Vec<Child> {
        let port = free_port();
        ranks.iter().map(|&(rank, size, args)| process(&place, (rank, size, port), timeout, args)).collect()
    };
    let seed = "rank 1: expected the seed of rank 0, got another; rank 0 has `1`, rank 1 has `2`; start all processes";
    assert_said(start(&[(0, 2, &[]), (1, 2, &["--seed", "2"])], "40"), &[seed, seed]);
    let config =
        "rank 1: expected the configuration of rank 0, got another; rank 0 has `num_steps = 60`, rank 1 has";
    assert_said(start(&[(0, 2, &[]), (1, 2, &["--steps", "61"])], "40"), &[config, config]);
    let other = place.text("other");
    let source = format!("folder:{}", place.text("text/train"));
    let prepared = place.brt(&[
        "data",
        "prepare",
        "--corpus",
        &source,
        "--out",
        &other,
        "--validation",
        "0.3",
        "--test",
        "0.3",
    ]);
    assert!(prepared.status.success(), "{}", stderr(&prepared));
    let corpus = "rank 1: expected the corpus of rank 0, got another; rank 0 has `SHA-256 ";
    assert_said(start(&[(0, 2, &[]), (1, 2, &["--data", &other])], "40"), &[corpus, corpus]);
    // What one alone can know is said by it, and by the others whose it is.
    let missing =
        ["nowhere: expected a prepared corpus", "rank 1 has stopped: nowhere: expected a prepared corpus"];
    assert_said(start(&[(1, 2, &["--data", "nowhere"]), (0, 2, &[])], "40"), &missing);
    let rows = "data.batch: expected a multiple of 3 processes times 1 parts (train.accumulate), got 4 rows";
    assert_said(start(&[(0, 3, &[]), (1, 3, &[]), (2, 3, &[])], "40"), &[rows, rows, rows]);
    let twice = "expected one process of rank 1, got two: ";
    assert_said(start(&[(0, 3, &[]), (1, 3, &[]), (1, 3, &[])], "40"), &[twice; 3]);
    let gone = "expected all 3 processes within 2 s, got none of rank 2";
    assert_said(
        start(&[(0, 3, &[]), (1, 3, &[])], "2"),
        &[gone, "expected all 3 processes within 2 s, got none of rank 2"],
    );
    let master = "rank 1: expected the master, rank 0, at 127.0.0.1:";
    assert_said(start(&[(1, 2, &[])], "2"), &[master]);
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    assert_said(vec![process(&place, (0, 2, port), "2", &[])], &["rank 0: expected to serve at port "]);
    assert_said(
        vec![process(&place, (2, 2, port), "2", &[])],
        &["environment: expected RANK to be a number from 0 to 1"],
    );
    let output = place.brt(&["launch", "--nproc", "2", "eval", "x"]);
    assert!(stderr(&output).contains("brt launch: expected train and its arguments"), "{}", stderr(&output));
    assert!(!place.path("out").join("checkpoints").exists());
}

/// A process that is killed, or waits in the middle: the others end with an error within the limit.
#[test]
fn who_ends_or_stays_away_is_missed() {
    let place = place();
    let port = free_port();
    let mut processes: Vec<Child> =
        (0..2).map(|rank| process(&place, (rank, 2, port), "5", &["--steps", "100000"])).collect();
    wait_for_step(&place, "out", 5, &mut processes[0]);
    processes[1].kill().unwrap();
    let said = &ends(processes)[0].1;
    assert!(said.contains("rank 0 of 2 on ") && said.contains("failed: another process"), "{said}");
    let port = free_port();
    let (resume, saved) = (["--steps", "100000", "--resume"], place.last_step("out"));
    let [mut first, mut second] = [0, 1].map(|rank| process(&place, (rank, 2, port), "3", &resume));
    wait_for_step(&place, "out", saved + 5, &mut first);
    signal(second.id() as i32, Signal::STOP);
    let start = Instant::now();
    while first.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(30), "rank 0 waits for ever");
        thread::sleep(Duration::from_millis(50));
    }
    second.kill().unwrap();
    let said = &ends(vec![first, second])[0].1;
    assert!(said.contains("the time limit is over"), "{said}");
}
