//! A whole comparison with a stand-in for `brt` (`examples/fake_brt.rs`).

#![expect(clippy::unwrap_used, reason = "a test whose fixture cannot be set up has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A folder with configurations and a place for the report.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new(configs: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("configs")).unwrap();
        for (name, text) in configs {
            fs::write(folder.path().join(format!("configs/{name}.toml")), text).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
        let mut command = Command::new(xtask);
        command.env("BRT_BIN", xtask.with_file_name("examples").join("fake_brt"));
        // xtask takes this folder for the repository.
        command.env("CARGO_MANIFEST_DIR", self.path("xtask"));
        command.args(["compare", "--configs"]).arg(self.path("configs"));
        command.arg("--out").arg(self.path("out")).args(more);
        command
    }

    fn compare(&self, more: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(more).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path("out").join(name)).unwrap()).unwrap()
    }
}

const ALL: &[(&str, &str)] = &[("xl", ""), ("slide", ""), ("rec_fixed_skip", ""), ("xl_long", "")];

#[test]
fn a_comparison_writes_its_report_and_is_resumed_at_once() {
    let fixture = Fixture::new(ALL);
    let (code, stdout, stderr) = fixture.compare(&["--minutes", "60", "--seeds", "2"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("rec_fixed_skip beats slide by 0.0"), "{stdout}");
    assert!(stdout.contains("(95 % interval ["), "{stdout}");
    assert!(stdout.contains("| xl_long "), "{stdout}");
    for file in [
        "report.md",
        "report.html",
        "report.json",
        "plan.json",
        "curves.svg",
        "position.svg",
        "differences.svg",
    ] {
        assert!(fixture.path("out").join(file).exists(), "{file}");
    }
    let report = fixture.json("report.json");
    assert_eq!(report["outcomes"].as_array().unwrap().len(), 6);
    let steps = &report["plan"]["num_steps"];
    assert!(
        report["outcomes"][0]["result"]["training"]["num_steps"] == *steps && steps.as_u64().unwrap() >= 20
    );

    let before = fixture.json("plan.json");
    let (code, again, stderr) = fixture.compare(&["--minutes", "60", "--seeds", "2"]);
    assert_eq!((code, &again), (0, &stdout));
    assert_eq!(stderr.matches("done before").count(), 6, "{stderr}");
    assert!(!stderr.contains("step times"), "{stderr}");
    assert_eq!(fixture.json("plan.json"), before);

    let (code, _, stderr) = fixture.compare(&["--minutes", "2"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("another --minutes, --seeds: choose another --out"), "{stderr}");
}

#[test]
fn a_failing_run_is_a_row_and_does_not_stop_the_others() {
    let fixture = Fixture::new(&[("xl", "fail"), ("slide", ""), ("rec_fixed_skip", "")]);
    let (code, stdout, stderr) = fixture.compare(&[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("1 of 3 runs failed"), "{stderr}");
    assert!(stdout.contains("| xl             |") && stdout.contains("failed"), "{stdout}");
    assert!(stdout.contains("rec_fixed_skip beats slide"), "{stdout}");
    let page = fs::read_to_string(fixture.path("out/report.html")).unwrap();
    assert!(page.contains("expected a finite number, got NaN at step 3"));
    // The plan of a comparison without --minutes leaves the steps to the configurations.
    assert!(fixture.json("plan.json")["num_steps"].is_null());
}

#[test]
fn an_interrupted_comparison_says_how_to_resume_and_does() {
    let fixture = Fixture::new(&[("slide", "slow"), ("rec_fixed_skip", "")]);
    let args = ["--contestants", "slide,rec_fixed_skip"];
    let mut child = fixture.command(&args).spawn().unwrap();
    let started = Instant::now();
    let marker = fixture.path("out/runs/slide-seed1/checkpoint");
    while !marker.exists() {
        assert!(started.elapsed() < Duration::from_secs(30), "the run did not start");
        sleep(Duration::from_millis(20));
    }
    let kill = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!fixture.path("out/report.json").exists());

    let (code, stdout, stderr) = fixture.compare(&args);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("rec_fixed_skip beats slide"), "{stdout}");
}

/// A text may be gone when its runs are there; plans of earlier versions name it in the user's words, and have no short name.
#[test]
fn a_comparison_of_a_text_that_is_gone_goes_on() {
    let fixture = Fixture::new(ALL);
    let text = fixture.path("books");
    fs::create_dir(&text).unwrap();
    let corpus = format!("folder:{}", text.display());
    let args = ["--minutes", "60", "--corpus", &corpus];
    let (code, _, stderr) = fixture.compare(&args);
    assert_eq!(code, 0, "{stderr}");
    let mut plan = fixture.json("plan.json");
    let request = plan["request"].as_object_mut().unwrap();
    assert_eq!(request.remove("corpus_name").unwrap(), "files-books");
    request.insert("corpus".into(), corpus.clone().into());
    fs::write(fixture.path("out/plan.json"), plan.to_string()).unwrap();

    fs::remove_dir(&text).unwrap();
    let (code, _, stderr) = fixture.compare(&args);
    assert_eq!(code, 0, "{stderr}");
    let report = fs::read_to_string(fixture.path("out/report.md")).unwrap();
    assert!(report.starts_with("# rec_fixed_skip against slide on files-books\n"), "{report}");

    fs::remove_dir_all(fixture.path("out")).unwrap();
    let (code, _, stderr) = fixture.compare(&args);
    let expected = format!("error: --corpus: no such file or folder: {}\n", text.display());
    assert_eq!((code, stderr), (1, expected));
    assert!(!fixture.path("out").exists());
}

#[test]
fn flags_that_cannot_be_are_errors_of_one_line() {
    let fixture = Fixture::new(ALL);
    for (args, expected) in [
        (&["--contestants", "slid"][..], "has no slid.toml, only rec_fixed_skip, slide, xl, xl_long"),
        (&["--contestants", "xl,xl"], "--contestants: xl is named twice"),
        (&["--minutes", "0"], "--minutes: expected a number above 0, got 0"),
        (&["--corpus", "pg20"], "--corpus: expected code, books, latex, FORMAT:PATH or a path, got pg20"),
        (&["--jobs", "0"], "--seeds and --jobs: expected at least 1, got 0"),
    ] {
        let (code, _, stderr) = fixture.compare(args);
        assert_eq!(code, 1);
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{stderr}");
    }
}
