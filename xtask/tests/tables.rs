//! Whole tables with a stand-in for `brt` (`examples/fake_brt.rs`).

#![expect(clippy::unwrap_used, reason = "a test whose fixture cannot be set up has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

const TABLES: &str = r#"
title = "Tables of a test"
baseline = "slide"
budget = "3M"
vocab_size = 1024
headline = ["slide", "rec_a"]
headline_seeds = 2

[set]
"train.sinks" = "[]"

[[tables]]
name = "models"
title = "Models"
reference = "slide"
lines = ["slide", "rec_a", "xl"]
quantities = ["relative_step_time", "pg19_bytes", "arxiv_tokens"]
rows = [{ config = "xl", paper = "XL:2048" }, { config = "slide", paper = "Slide:13L" }, { config = "rec_a", paper = "Rec:fixed:skip" }]

[[tables]]
name = "more"
title = "More"
reference = "rec_a"
rows = [{ config = "rec_a" }, { config = "rec_other", label = "the other" }]

[[tables]]
name = "whole"
title = "Whole"
reference = "slide"
whole_split = true
rows = [{ config = "slide" }, { config = "rec_a" }]

[words]
model = "rec_a"
against = "slide"
documents = 2
per_document = 1

[[claims]]
text = "Recurrence is better"
measure = "loss"
of = ["rec_a"]
against = ["slide"]
below = 0.0
paper = "1.24 against 1.42"

[[claims]]
text = "Transformer-XL is better"
measure = "loss"
of = ["xl"]
against = ["slide"]
below = 0.0
paper = "never"

[[claims]]
text = "The other is better"
measure = "loss"
of = ["rec_other"]
against = ["rec_a"]
below = 0.0
paper = "who knows"

[[claims]]
text = "A step takes as long"
measure = "step_time"
of = ["rec_a"]
against = ["slide"]
above = 0.95
below = 1.05
paper = "0.99"

[[claims]]
text = "Names gain"
measure = "names"
above = 0.4
paper = "17 of 20"

[[claims]]
text = "Resetting costs"
measure = "reset"
of = ["rec_a"]
above = 0.0
"#;

/// A folder that xtask takes for the repository, with experiments in it.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new(configs: &[(&str, &str)]) -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(fixture.path("benchmarks")).unwrap();
        fs::create_dir(fixture.path("configs")).unwrap();
        let numbers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benchmarks/paper-numbers.toml");
        fs::copy(numbers, fixture.path("benchmarks/paper-numbers.toml")).unwrap();
        fs::write(fixture.path("configs/tables.toml"), TABLES).unwrap();
        for (name, text) in configs {
            fs::write(fixture.path(&format!("configs/{name}.toml")), text).unwrap();
        }
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
        let mut command = Command::new(xtask);
        command.env("BRT_BIN", xtask.with_file_name("examples").join("fake_brt"));
        command.env("CARGO_MANIFEST_DIR", self.path("xtask"));
        command.args(["tables", "--configs"]).arg(self.path("configs"));
        command.arg("--out").arg(self.path("out")).args(more);
        command
    }

    fn tables(&self, more: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(more).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("out").join(name)).unwrap()
    }
}

const ALL: &[(&str, &str)] = &[("xl", ""), ("slide", ""), ("rec_a", ""), ("rec_other", "")];

/// Returns the lines of a Markdown table that contain a text.
fn line<'a>(text: &'a str, part: &str) -> &'a str {
    text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with {part} in:\n{text}"))
}

#[test]
fn tables_say_which_conclusions_hold() {
    let fixture = Fixture::new(ALL);
    let (code, stdout, stderr) = fixture.tables(&["--devices", "cpu,cpu"]);
    assert_eq!(code, 0, "{stderr}");
    // One seed of each row, two of the headline: 732 steps of 4096 tokens.
    assert!(stderr.contains("6 runs, 2 at a time: about"), "{stderr}");
    for (claim, verdict, numbers) in [
        ("Recurrence is better (below 0 bits/byte)", "holds ", "Rec:fixed:skip − Slide:13L: −0.0"),
        ("Transformer-XL is better", "does not hold ", "XL:2048 − Slide:13L: +0.0"),
        ("The other is better", "undecided ", "the other − Rec:fixed:skip: "),
        ("A step takes as long (from 0.95 to 1.05 times)", "holds ", "Rec:fixed:skip / Slide:13L: "),
        ("Names gain", "holds ", "| +1.00 [+1.00, +1.00] "),
        ("Resetting costs", "holds ", "Rec:fixed:skip: +0.0"),
    ] {
        let line = line(&stdout, claim);
        assert!(line.contains(&format!("| {verdict}")) && line.contains(numbers), "{stdout}");
    }
    // Ours is checked, too, and does not count.
    assert!(line(&stdout, "Resetting costs").contains("(ours)"));
    let verdict = "Of 5 conclusions of the paper 3 hold at this size, 1 do not, 1 are undecided.";
    assert!(stdout.contains(verdict), "{stdout}");
    // The region is kept with the verdict.
    let claims: serde_json::Value = serde_json::from_str(&fixture.read("claims.json")).unwrap();
    assert_eq!((&claims[3]["above"], &claims[3]["verdict"]), (&0.95.into(), &"holds".into()));
    // Tokens are those of a tokenizer that is made for the corpus, and the models have as many.
    assert_eq!(fixture.read("corpus.tokenizer.json"), "1024");
    assert!(fixture.read("runs/xl-seed1/arguments.txt").contains("--model.vocab_size 1024"));
    assert!(fixture.read("runs/xl-seed1/arguments.txt").contains("--train.sinks []"));
    // Words are compared as soon as both models are there.
    let place = |text: &str| stderr.find(text).unwrap_or_else(|| panic!("no {text} in {stderr}"));
    assert!(place("nats of every token") < place("6 of 6 runs ended"), "{stderr}");
}

#[test]
fn a_report_has_everything_with_it() {
    let fixture = Fixture::new(ALL);
    fs::create_dir(fixture.path("out")).unwrap();
    fs::write(fixture.path("out/findings.md"), "It is [so](runs/xl-seed1/) & so.\n\nAnd more.\n").unwrap();
    let (code, _, stderr) = fixture.tables(&["--devices", "cpu,cpu"]);
    assert_eq!(code, 0, "{stderr}");
    let (report, page) = (fixture.read("report.md"), fixture.read("report.html"));
    let best = line(&report, "| Rec:fixed:skip");
    for part in [
        "](runs/rec_a-seed1/) seeds [1](runs/rec_a-seed1/), [2](runs/rec_a-seed2/): ",
        ", 2 seeds ",
        "1.24 (b, c)",
    ] {
        assert!(best.contains(part), "{part} in {best}");
    }
    // What no source gives stays empty.
    assert!(line(&report, "| XL:2048").contains("0.990 (d)"), "{report}");
    assert!(line(&report, "| Slide:13L").contains(" – |"), "{report}");
    for part in [
        "At equal time:",
        "word perplexity",
        "Rec:fixed:skip over Slide:13L, word by word",
        "100 % (0 % of those that lose most, 1 % of all) are names",
        "**`Ada`**: 4.3 bits saved of 5.8; a name or identifier; it last occurred 100 tokens before",
        "* command: cargo xtask tables --configs ",
    ] {
        assert!(report.contains(part), "{part} in:\n{report}");
    }
    for plot in ["models-speed.svg", "models-curves.svg", "models-position.svg", "words.svg"] {
        let svg = fixture.read(plot);
        assert!(page.contains(&svg) && report.contains(&format!("]({plot})")), "{plot}");
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains(" c6"), "{plot}");
    }
    // What a person found stands in both forms.
    assert!(
        report.contains("## What was found\n\nIt is [so](runs/xl-seed1/) & so.\n\nAnd more."),
        "{report}"
    );
    assert!(page.contains("<p>It is <a href=\"runs/xl-seed1/\">so</a> &amp; so.</p>\n<p>And more.</p>"));
    for outside in ["<script", "<link", "src=", "@import", "url(http", "NaN"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for tag in ["table", "tr", "td", "section", "figure", "blockquote", "svg", "dl", "div", "p", "mark"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

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
