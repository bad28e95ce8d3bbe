//! What must be there before the first run: the step times.

use std::{path::Path, process::Command};

use brt_report::{TimingResult, read_json};

use super::request::{Request, TIMING_ONLY};
use crate::{failure::Result, tools, ui};

/// Measured steps of each contestant.
const TIMING_ROUNDS: u64 = 12;
/// The same for a comparison of few minutes.
const TIMING_ROUNDS_SHORT: u64 = 5;

/// Takes the step times of all contestants, in turn in one process.
pub(super) fn timing(brt: &Path, request: &Request, data: &Path, out: &Path) -> Result<TimingResult> {
    // As many threads as each of the runs that go side by side has.
    let num_threads = (tools::num_cpus() / request.jobs_on(tools::num_cpus())).max(1);
    ui::headline("step times");
    let mut names: Vec<&str> = request.contestants.iter().map(String::as_str).collect();
    if request.config_texts.contains_key(TIMING_ONLY) && !names.contains(&TIMING_ONLY) {
        names.push(TIMING_ONLY);
    }
    let rounds = if request.minutes.is_some_and(|m| m < 5.) { TIMING_ROUNDS_SHORT } else { TIMING_ROUNDS };
    let path = out.join("timing.json");
    let mut command = Command::new(brt);
    command.arg("time").args(names.iter().map(|name| request.config(name)));
    command.arg("--data").arg(data).args(["--rounds", &rounds.to_string()]);
    command.args(["--threads", &num_threads.to_string(), "--out"]).arg(&path);
    tools::run("brt time", tools::to_stderr(&mut command))?;
    Ok(read_json(&path, "the step times of the contestants")?)
}
