//! What is made, in which order, and what goes wrong.

use std::{
    fs,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::fixture::{ALL, Fixture, line};

#[test]
fn tables_are_made_once() {
    let fixture = Fixture::new(ALL);
    let (code, stdout, stderr) = fixture.tables(&["--devices", "cpu,cpu"]);
    assert_eq!(code, 0, "{stderr}");
    let (report, page) = (fixture.read("report.md"), fixture.read("report.html"));
    // Again: everything is there, also without the models, which need not be kept.
    fs::remove_dir_all(fixture.path("out/runs/rec_a-seed1/checkpoints")).unwrap();
    let (code, again, stderr) = fixture.tables(&["--devices", "cpu,cpu"]);
    assert_eq!((code, again), (0, stdout), "{stderr}");
    assert!(!stderr.contains("step times") && !stderr.contains("runs ended"), "{stderr}");
    assert_eq!((fixture.read("report.md"), fixture.read("report.html")), (report, page));

    // What is not asked for is still known.
    let claims = fixture.read("claims.json");
    let (code, _, stderr) = fixture.tables(&["--devices", "cpu,cpu", "--only", "more", "--seeds", "1"]);
    assert_eq!((code, fixture.read("claims.json")), (0, claims), "{stderr}");
    assert!(fixture.read("report.md").contains("## Models"));

    // The report can be written again without `brt`, and without step times as far as it goes.
    let (written, plan) = (fixture.read("report.md"), fixture.read("plan.json"));
    fs::write(fixture.path("out/report.md"), "").unwrap();
    let report_only = || {
        let mut command = fixture.command(&["--report", "--only", "more", "--seeds", "1"]);
        command.env("BRT_BIN", "/nowhere/brt").output().unwrap().status.success()
    };
    assert!(report_only());
    assert_eq!((fixture.read("report.md"), fixture.read("plan.json")), (written, plan));
    fs::remove_file(fixture.path("out/timing/xl.json")).unwrap();
    assert!(report_only());
    assert!(line(&fixture.read("report.md"), "| XL:2048").contains("](runs/xl-seed1/)"));

    // Steps that were timed with other threads are timed again; a row can be wanted by its name.
    let timing = fixture.path("out/timing/rec_other.json");
    let other_threads =
        fs::read_to_string(&timing).unwrap().replace("\"num_threads\": ", "\"num_threads\": 9");
    fs::write(&timing, other_threads).unwrap();
    let (code, _, stderr) = fixture.tables(&["--devices", "cpu,cpu", "--only", "rec_other,xl"]);
    assert_eq!(code, 0, "{stderr}");
    for timed in ["step times 1 of 2: xl", "step times 2 of 2: rec_other"] {
        assert!(stderr.contains(timed) && !stderr.contains("runs ended"), "{stderr}");
    }

    // More seeds are added; another budget is another folder.
    let (code, _, stderr) = fixture.tables(&["--devices", "cpu,cpu", "--seeds", "2"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("2 of 2 runs ended"), "{stderr}");
    let (code, _, stderr) = fixture.tables(&["--budget", "4M"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("holds tables with another --budget: choose another --out"), "{stderr}");
}

#[test]
fn a_part_can_be_made_and_estimated() {
    let fixture = Fixture::new(ALL);
    let (code, stdout, stderr) = fixture.tables(&["--dry-run", "--only", "more"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("| rec_other-seed1 |") && !stdout.contains("xl-seed1"), "{stdout}");
    assert!(stdout.contains("3 runs, one at a time: about"), "{stdout}");
    assert!(!fixture.path("out/runs").exists() && !fixture.path("out/timing").exists());
    // It binds nothing.
    let (code, stdout, _) =
        fixture.tables(&["--dry-run", "--only", "more", "--budget", "10min", "--parts", "8"]);
    assert_eq!(code, 0);
    assert!(line(&stdout, "| rec_a-seed1").contains(" | 11:45 |"), "{stdout}");

    let (code, stdout, stderr) = fixture.tables(&["--only", "more", "--seeds", "1", "--budget", "3M"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(line(&stdout, "Recurrence is better").contains("| open "), "{stdout}");
    let report = fixture.read("report.md");
    assert!(report.contains("## More") && !report.contains("## Models"), "{report}");
}

#[test]
fn minutes_give_every_row_its_own_number_of_steps() {
    let fixture = Fixture::new(ALL);
    let (code, _, stderr) = fixture.tables(&["--budget", "2min", "--only", "models", "--seeds", "1"]);
    assert_eq!(code, 0, "{stderr}");
    let steps = |row: &str| {
        let result: serde_json::Value =
            serde_json::from_str(&fixture.read(&format!("runs/{row}-seed1/result.json"))).unwrap();
        result["training"]["num_steps"].as_u64().unwrap()
    };
    // The stand-in's steps last as long as names: 0.52 and 0.55 s, and 2 ± 1 % more in the median round.
    assert!((222..=230).contains(&steps("xl")) && (209..=217).contains(&steps("slide")));
    // Runs of so few steps decide nothing.
    for claim in ["Recurrence is better", "Names gain"] {
        assert!(line(&fixture.read("report.md"), claim).contains("| open "), "{claim}");
    }
}

#[test]
fn a_failing_run_is_said_and_tried_again() {
    let fixture = Fixture::new(&[("xl", "fail"), ("slide", ""), ("rec_a", ""), ("rec_other", "")]);
    let (code, _, stderr) = fixture.tables(&[]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("failed: xl-seed1; the report says why, and the same command tries again"),
        "{stderr}"
    );
    let report = fixture.read("report.md");
    assert!(report.contains("> Note: xl-seed1 failed: error: loss: expected a finite number"), "{report}");
    assert!(line(&report, "| XL:2048").contains("(failed)"), "{report}");
    fs::write(fixture.path("configs/xl.toml"), "# A comment is no change.\n\nfail").unwrap();
    let (code, _, stderr) = fixture.tables(&[]);
    assert!(code == 1 && stderr.contains("failed: xl-seed1"), "{stderr}");
    fs::write(fixture.path("configs/xl.toml"), "").unwrap();
    let (code, _, stderr) = fixture.tables(&[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("another xl.toml"), "{stderr}");
}

#[test]
fn what_cannot_be_timed_or_scored_is_said_and_stops_nothing_else() {
    let fixture = Fixture::new(&[("xl", "untimed"), ("slide", "unscored"), ("rec_a", ""), ("rec_other", "")]);
    let (code, stdout, stderr) = fixture.tables(&["--seeds", "1"]);
    assert_eq!(code, 1);
    let failed = "failed: slide-seed1, whole documents, words, xl; the report says why";
    assert!(stderr.contains(failed), "{stderr}");
    assert!(line(&stdout, "Recurrence is better").contains("| holds "), "{stdout}");
    assert!(line(&fixture.read("report.md"), "| XL:2048").contains("(failed)"));
    assert!(fixture.read("report.md").contains(
        "> Note: xl failed: no step times: brt time failed (exit status: 1): error: out of memory"
    ));
    // Without the baseline nothing can be said.
    let fixture = Fixture::new(&[("xl", ""), ("slide", "untimed"), ("rec_a", ""), ("rec_other", "")]);
    let (code, _, stderr) = fixture.tables(&["--only", "models"]);
    assert_eq!(code, 1);
    let last = "error: brt time failed (exit status: 1): error: out of memory\n";
    assert!(stderr.ends_with(last) && !stderr.contains("step times 2"), "{stderr}");
    assert!(!fixture.path("out/report.md").exists());
}

#[test]
fn interrupted_tables_go_on() {
    let fixture = Fixture::new(&[("xl", ""), ("slide", "slow"), ("rec_a", ""), ("rec_other", "")]);
    let mut child = fixture.command(&["--seeds", "1"]).spawn().unwrap();
    let started = Instant::now();
    let marker = fixture.path("out/runs/slide-seed1/checkpoint");
    while !marker.exists() {
        assert!(started.elapsed() < Duration::from_secs(30), "the run did not start");
        sleep(Duration::from_millis(20));
    }
    let kill = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let (code, stdout, stderr) = fixture.tables(&["--seeds", "1"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(line(&stdout, "Recurrence is better").contains("| holds "), "{stdout}");
    assert!(
        stderr.contains("4 of 4 runs ended") && !fixture.read("report.md").contains("seed1 failed"),
        "{stderr}"
    );
}

#[test]
fn flags_that_cannot_be_are_errors_of_one_line() {
    let fixture = Fixture::new(ALL);
    for (args, expected) in [
        (&["--only", "model"][..], "--only: expected some of models,more,whole, or names of rows, got model"),
        (&["--budget", "4X"], "--budget: expected a number of tokens (4M, 500k) or minutes (10min), got 4X"),
        (&["--devices", "gpu"], "--devices: expected cpu or cuda:N, separated by commas, got \"gpu\""),
        (&["--report"], "holds no tables"),
        (&["--seeds", "0"], "--seeds: expected at least 1, got 0"),
        (&["--preset", "paper"], "--preset and --configs: expected one of them, got both"),
        (&["--corpus", "code", "--data", "x"], "--corpus and --data: expected one of them, got both"),
    ] {
        let (code, _, stderr) = fixture.tables(args);
        assert_eq!(code, 1);
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{stderr}");
    }
    fs::remove_file(fixture.path("configs/rec_other.toml")).unwrap();
    let (code, _, stderr) = fixture.tables(&[]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("tables: rec_other has no rec_other.toml beside it") && stderr.lines().count() == 1,
        "{stderr}"
    );
}
