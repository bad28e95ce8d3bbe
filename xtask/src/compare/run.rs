//! Starts the runs of a round, waits for them and reads their results.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread::sleep,
    time::Duration,
};

use brt_report::{RunResult, read_json};
use serde::{Deserialize, Serialize};

use super::{
    plan::{Plan, PlannedRun},
    progress::{Progress, Watched},
};
use crate::{
    failure::{Context, INTERRUPTED, Result},
    ui,
};

/// Number of times that Ctrl-C was pressed.
static INTERRUPTS: AtomicUsize = AtomicUsize::new(0);
/// Lines of a failed run's log that are kept.
const LOG_LINES: usize = 6;

/// How one run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RunOutcome {
    /// The run.
    pub(super) run: PlannedRun,
    /// What it wrote, where it finished.
    pub(super) result: Option<RunResult>,
    /// The end of its log, where it failed.
    pub(super) failure: Option<String>,
}

impl RunOutcome {
    fn failed(run: &PlannedRun, failure: String) -> Self {
        Self { run: run.clone(), result: None, failure: Some(failure) }
    }
}

/// What all runs share.
pub(super) struct Runner<'a> {
    pub(super) brt: &'a Path,
    pub(super) data: &'a Path,
    pub(super) out: &'a Path,
    pub(super) plan: &'a Plan,
}

/// A run whose process is alive.
struct Running {
    run: PlannedRun,
    child: Child,
    folder: PathBuf,
    /// Length of the log when this session began.
    log_start: u64,
}

/// Keeps xtask alive on Ctrl-C, so that it can wait for the runs to save themselves.
pub(super) fn handle_interrupts() -> Result {
    ctrlc::set_handler(|| {
        INTERRUPTS.fetch_add(1, Ordering::SeqCst);
    })
    .context(|| "installing the handler of Ctrl-C".into())
}

/// Returns whether Ctrl-C was pressed.
pub(super) fn interrupted() -> bool {
    INTERRUPTS.load(Ordering::SeqCst) > 0
}

impl Runner<'_> {
    /// Runs everything that is planned and not yet done, round by round; stops after the round that was interrupted.
    pub(super) fn run_all(&self) -> Result<Vec<RunOutcome>> {
        let mut outcomes = vec![];
        for round in 0..self.plan.num_rounds() {
            if interrupted() {
                break;
            }
            outcomes.extend(self.run_round(round)?);
        }
        Ok(outcomes)
    }

    fn run_round(&self, round: usize) -> Result<Vec<RunOutcome>> {
        let mut outcomes = vec![];
        let mut running = vec![];
        for run in self.plan.round(round) {
            match self.finished(run) {
                Ok(Some(result)) => {
                    ui::line(&format!("{}: done before", run.name()));
                    outcomes.push(RunOutcome { run: run.clone(), result: Some(result), failure: None });
                }
                Ok(None) => match self.start(run) {
                    Ok(one) => running.push(one),
                    Err(failure) => outcomes.push(RunOutcome::failed(run, failure.message)),
                },
                Err(failure) => outcomes.push(RunOutcome::failed(run, failure)),
            }
        }
        if !running.is_empty() {
            let names: Vec<_> = running.iter().map(|r: &Running| r.run.name()).collect();
            let threads = running[0].run.num_threads;
            let num_rounds = self.plan.num_rounds();
            ui::headline(&format!(
                "round {} of {num_rounds}: {} ({threads} thread{} each)",
                round + 1,
                names.join(", "),
                if threads == 1 { "" } else { "s" }
            ));
        }
        outcomes.extend(self.wait_for(running)?);
        Ok(outcomes)
    }

    fn folder(&self, run: &PlannedRun) -> PathBuf {
        self.out.join("runs").join(run.name())
    }

    /// Returns the result of a run that has ended; an error where there is one that is not of this run.
    fn finished(&self, run: &PlannedRun) -> std::result::Result<Option<RunResult>, String> {
        let path = self.folder(run).join("result.json");
        if !path.exists() {
            return Ok(None);
        }
        let result: RunResult = read_json(&path, "the result of a run").map_err(|error| error.to_string())?;
        let num_steps = self.plan.num_steps_of(&run.contestant);
        let found = (result.seed, result.training.num_steps);
        if found == (run.seed, num_steps) {
            return Ok(Some(result));
        }
        let (seed, steps) = found;
        Err(format!(
            "{}: expected seed {} and {num_steps} steps, got seed {seed} and {steps} steps; delete {}",
            path.display(),
            run.seed,
            self.folder(run).display()
        ))
    }

    fn start(&self, run: &PlannedRun) -> Result<Running> {
        let folder = self.folder(run);
        fs::create_dir_all(&folder).context(|| format!("creating {}", folder.display()))?;
        let log_path = folder.join("log.txt");
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.context(|| format!("opening {}", log_path.display()))?;
        let log_start = log.metadata().map_or(0, |metadata| metadata.len());
        let mut command = Command::new(self.brt);
        command.arg("train").arg(self.plan.request.config(&run.contestant));
        command.arg("--data").arg(self.data).arg("--out").arg(&folder);
        command.args(["--seed", &run.seed.to_string(), "--threads", &run.num_threads.to_string()]);
        if let Some(steps) = self.plan.num_steps {
            command.args(["--steps", &steps.to_string()]);
            // A short run needs its lines more often: for the progress and for the curve.
            command.args(["--train.log_every", &(steps / 100).max(1).to_string()]);
            // As large a part of the run as in the configurations that come with brt.
            command.args(["--schedule.num_warmup_steps", &(steps / 15).max(1).to_string()]);
        }
        if let Some(len) = self.plan.max_document_len {
            command.args(["--evaluation.max_document_len", &len.to_string()]);
        }
        command.arg("--resume").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // The end of a log must be the error, not where in the program it arose.
        command.env("RUST_LIB_BACKTRACE", "0");
        // Of its own process group: xtask passes signals on, so a run gets each of them once, whoever sent it.
        let child = command.process_group(0).spawn();
        let child = child.context(|| format!("starting {}", self.brt.display()))?;
        Ok(Running { run: run.clone(), child, folder, log_start })
    }

    fn wait_for(&self, mut running: Vec<Running>) -> Result<Vec<RunOutcome>> {
        let mut progress = Progress::default();
        let mut outcomes = vec![];
        let mut forwarded = 0;
        while !running.is_empty() {
            let mut alive = vec![];
            for mut one in running {
                match one.child.try_wait().context(|| format!("waiting for {}", one.run.name()))? {
                    None => alive.push(one),
                    Some(status) => {
                        let outcome = self.outcome(&one, status);
                        let why = outcome.failure.as_deref().unwrap_or("finished");
                        progress.note(&format!("{}: {why}", one.run.name()));
                        outcomes.push(outcome);
                    }
                }
            }
            running = alive;
            let interrupts = INTERRUPTS.load(Ordering::SeqCst);
            if interrupts > forwarded {
                forwarded = interrupts;
                progress.note("interrupted: waiting for the runs to save themselves");
                running.iter().for_each(|one| forward_interrupt(&one.child));
            }
            let watched = running.iter().map(|one| self.watch(one));
            progress.show(&watched.collect::<Vec<_>>());
            sleep(Duration::from_millis(100));
        }
        Ok(outcomes)
    }

    fn watch(&self, one: &Running) -> Watched {
        let num_steps = self.plan.num_steps_of(&one.run.contestant);
        Watched { name: one.run.name(), metrics: one.folder.join("metrics.jsonl"), num_steps }
    }

    fn outcome(&self, one: &Running, status: ExitStatus) -> RunOutcome {
        match self.finished(&one.run) {
            Ok(Some(result)) => RunOutcome { run: one.run.clone(), result: Some(result), failure: None },
            Ok(None) if status.code() == Some(i32::from(INTERRUPTED)) || interrupted() => {
                RunOutcome::failed(&one.run, "stopped before its end".into())
            }
            Ok(None) => {
                let log = log_tail(&one.folder.join("log.txt"), one.log_start);
                RunOutcome::failed(&one.run, format!("{status}, no result.json\n{log}").trim_end().to_owned())
            }
            Err(failure) => RunOutcome::failed(&one.run, failure),
        }
    }
}

/// Passes Ctrl-C on to a run. The standard library sends no signals; every shell does.
fn forward_interrupt(child: &Child) {
    let _ = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status();
}

/// Returns the last lines that a log got since `start`.
fn log_tail(path: &Path, start: u64) -> String {
    let mut bytes = vec![];
    if let Ok(mut file) = File::open(path) {
        let _ = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_to_end(&mut bytes));
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
