//! `cargo xtask test`: everything that can be checked on this machine, cheapest first, in one profile.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use brt_report::read_json;

use crate::{
    compare::{self, Report},
    failure::{Context, Result, fail},
    flags, setup, tools, ui,
};

/// One step: its name and the arguments of cargo.
type Step = (&'static str, &'static [&'static str]);

/// The steps before the comparison.
const CHECKS: &[Step] = &[
    ("format", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--workspace", "--all-targets", "--release", "--", "-D", "warnings"]),
    ("documentation", &["doc", "--workspace", "--no-deps", "--release"]),
];
const DOCTESTS: Step = ("examples in the documentation", &["test", "--workspace", "--release", "--doc"]);
const NEXTEST: Step = ("tests", &["nextest", "run", "--workspace", "--release"]);
/// Models and golden files once more, with one way of attention and of products throughout: by default the size and the processor
/// decide.
const ONE_WAY: Step = (
    "tests with one way of attention and products",
    &[
        "test",
        "--workspace",
        "--release",
        "--quiet",
        "--test",
        "golden",
        "--test",
        "referee",
        "--test",
        "properties",
        "--test",
        "little_memory",
    ],
);
const CARGO_TEST: Step = ("tests", &["test", "--workspace", "--release", "--no-fail-fast"]);

/// Runs all steps; the last lines are the summary of the tests. `notes` are said first.
pub(crate) fn run(root: &Path, notes: &[&str]) -> Result {
    notes.iter().for_each(|note| ui::line(note));
    ui::headline("libtorch");
    setup::run(root, false)?;
    for check in CHECKS {
        step(root, check)?;
    }
    ui::headline("a comparison of one minute");
    comparison(root).or_else(|failure| fail(format!("step \"comparison\": {}", failure.message)))?;
    for (attention, products) in [("composed", "libtorch"), ("fused", "gemm")] {
        ui::headline(&format!("{}: {attention}, {products}", ONE_WAY.0));
        let mut command = tools::cargo(root);
        command.args(ONE_WAY.1).env("BRT_ATTENTION", attention).env("BRT_PRODUCTS", products);
        tools::run(&format!("step \"{}\"", ONE_WAY.0), &mut command)?;
    }
    if tools::output_of(tools::cargo(root).args(["nextest", "--version"])).is_some() {
        step(root, &DOCTESTS)?;
        return step(root, &NEXTEST);
    }
    cargo_test(root) // With the examples in the documentation.
}

fn step(root: &Path, (name, arguments): &Step) -> Result {
    ui::headline(name);
    let mut command = tools::cargo(root);
    command.args(*arguments).env("RUSTDOCFLAGS", "-D warnings");
    tools::run(&format!("step \"{name}\""), &mut command)
}

/// Compares the contestants for a minute on real text and checks that the report says everything.
fn comparison(root: &Path) -> Result {
    let out = tools::target_folder(root)?.join("xtask-test/compare");
    if out.exists() {
        fs::remove_dir_all(&out).context(|| format!("removing {}", out.display()))?;
    }
    let (minutes, out_flag) = (Some(1.), Some(out.clone()));
    let (corpus, seeds, contestants, configs, jobs) = (None, None, None, None, None);
    let flags =
        flags::Compare { minutes, corpus, data: None, seeds, contestants, configs, out: out_flag, jobs };
    compare::run(root, &flags)?;
    check_report(&out)
}

/// Fails where a report is not whole: a run, a number, an interval or a plot is missing.
fn check_report(out: &Path) -> Result {
    let report: Report = read_json(&out.join("report.json"), "the report of a comparison")?;
    let mut gaps = report.gaps();
    let read = |name: &str| {
        let path = out.join(name);
        fs::read_to_string(&path).context(|| format!("reading {}", path.display()))
    };
    let page = read("report.html")?;
    for plot in ["differences.svg", "curves.svg", "position.svg"] {
        let svg = read(plot)?;
        if !page.contains(&svg) || svg.contains("NaN") {
            gaps.push(format!("report.html does not show {plot} as it is"));
        }
    }
    if !page.ends_with("</html>\n") || read("report.md")?.is_empty() {
        gaps.push("report.html or report.md ends too early".into());
    }
    if gaps.is_empty() { Ok(()) } else { fail(format!("the report is not complete: {}", gaps.join("; "))) }
}

/// Runs the tests by cargo alone, whose output ends with one summary per program, and adds them up.
fn cargo_test(root: &Path) -> Result {
    let (name, arguments) = CARGO_TEST;
    ui::headline(name);
    let mut command: Command = tools::cargo(root);
    let mut child =
        command.args(arguments).stdout(Stdio::piped()).spawn().context(|| "starting cargo test".into())?;
    let mut counts = [0; 2];
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        let line = line.context(|| "reading the output of cargo test".into())?;
        add_summary(&mut counts, &line);
        ui::result(&line);
    }
    let status = child.wait().context(|| "waiting for cargo test".into())?;
    let [passed, failed] = counts;
    ui::result(&format!("Summary: {} tests run: {passed} passed, {failed} failed", passed + failed));
    if status.success() {
        Ok(())
    } else {
        fail(format!("step \"{name}\" failed ({status}); its message is above"))
    }
}

/// Adds the numbers of a line like `test result: ok. 25 passed; 1 failed; 0 ignored; …`.
fn add_summary(counts: &mut [u64; 2], line: &str) {
    let Some(rest) = line.strip_prefix("test result: ") else { return };
    for (count, word) in counts.iter_mut().zip([" passed", " failed"]) {
        let before = rest.split(word).next().unwrap_or_default();
        *count += before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_add_up() {
        let mut counts = [0; 2];
        add_summary(
            &mut counts,
            "test result: ok. 25 passed; 0 failed; 1 ignored; 0 measured; finished in 0.02s",
        );
        add_summary(&mut counts, "test result: FAILED. 3 passed; 2 failed; 0 ignored");
        add_summary(&mut counts, "running 4 tests");
        assert_eq!(counts, [28, 2]);
    }
}
