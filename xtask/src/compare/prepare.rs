//! What must be there before the first run: the program, the corpus, the step times.

use std::{
    io,
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
};

use brt_report::{TimingResult, read_json};

use super::request::{Request, TIMING_ONLY};
use crate::{failure::Result, tools, ui};

/// Measured steps of each contestant.
const TIMING_ROUNDS: u64 = 12;
/// The same for a comparison of few minutes.
const TIMING_ROUNDS_SHORT: u64 = 5;

/// Prepares the corpus in a folder.
///
/// Every comparison has its own: what `code` stands for changes with the lock file.
pub(super) fn corpus(root: &Path, brt: &Path, request: &Request, folder: &Path) -> Result {
    ui::headline(&format!("corpus {}", request.corpus));
    let mut command = Command::new(brt);
    command.args(["data", "prepare", "--corpus", &request.corpus, "--out"]).arg(folder);
    if request.corpus == "code" {
        command.current_dir(root); // Its crates are those of the repository's lock file.
    }
    tools::run("brt data prepare", to_stderr(&mut command))
}

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
    tools::run("brt time", to_stderr(&mut command))?;
    Ok(read_json(&path, "the step times of the contestants")?)
}

/// Sends what a program prints to stderr: xtask's stdout is the table and nothing else.
fn to_stderr(command: &mut Command) -> &mut Command {
    if let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() {
        command.stdout(stderr);
    }
    command.stdin(Stdio::null())
}
