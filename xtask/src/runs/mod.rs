//! Processes of `brt train`: starts them, waits for them, reads what they leave, and passes Ctrl-C on.

mod configs;
mod corpus;
mod progress;

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

use self::progress::{Progress, Watched};
pub(crate) use self::{
    configs::{TABLES_FILE, keys, read_configs},
    corpus::Corpus,
    progress::duration,
};
use crate::failure::{Context, INTERRUPTED, Result};

/// Number of times that Ctrl-C was pressed.
static INTERRUPTS: AtomicUsize = AtomicUsize::new(0);
/// Lines of a failed run's log that are kept.
const LOG_LINES: usize = 6;
/// Runs of fewer steps test the programs, not the models.
pub(crate) const SMOKE_STEPS: u64 = 500;

/// One run that is to be made.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) config: PathBuf,
    /// Folder of the corpus.
    pub(crate) data: PathBuf,
    pub(crate) seed: u64,
    /// Number of steps that its result must have.
    pub(crate) num_steps: u64,
    /// More arguments of `brt train`.
    pub(crate) arguments: Vec<String>,
}

/// What one run at a time may use.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// `--device` of the runs; absent where `brt` chooses.
    pub(crate) device: Option<String>,
    pub(crate) num_threads: usize,
}

/// How a run ended: with its result, or with the end of its log.
pub(crate) type Outcome = std::result::Result<RunResult, String>;

/// A run whose process is alive.
struct Running {
    job: Job,
    slot: usize,
    child: Child,
    /// Length of the log when this session began.
    log_start: u64,
}

/// Keeps xtask alive on Ctrl-C, so that it can wait for the runs to save themselves.
pub(crate) fn handle_interrupts() -> Result {
    ctrlc::set_handler(|| {
        INTERRUPTS.fetch_add(1, Ordering::SeqCst);
    })
    .context(|| "installing the handler of Ctrl-C".into())
}

/// Returns whether Ctrl-C was pressed.
pub(crate) fn interrupted() -> bool {
    INTERRUPTS.load(Ordering::SeqCst) > 0
}

/// Runs all jobs in their order, one at a time in each slot; `ended` hears of each that ends. After Ctrl-C no other
/// starts.
pub(crate) fn run_all(
    brt: &Path,
    slots: &[Slot],
    jobs: impl IntoIterator<Item = Job>,
    mut ended: impl FnMut(Job, Outcome) -> Result,
) -> Result {
    let mut pool = Pool { brt, slots, running: vec![], forwarded: 0, progress: Progress::default() };
    let done = pool.drive(jobs, &mut ended);
    if done.is_err() {
        // What hears of them cannot go on: they save themselves, and a later start goes on with them.
        pool.running.iter_mut().for_each(|one| {
            forward_interrupt(&one.child);
            let _ = one.child.wait();
        });
    }
    done
}

/// The runs that are alive.
struct Pool<'a> {
    brt: &'a Path,
    slots: &'a [Slot],
    running: Vec<Running>,
    /// Number of times that Ctrl-C was passed on.
    forwarded: usize,
    progress: Progress,
}

impl Pool<'_> {
    fn drive(
        &mut self,
        jobs: impl IntoIterator<Item = Job>,
        ended: &mut impl FnMut(Job, Outcome) -> Result,
    ) -> Result {
        let mut jobs = jobs.into_iter().fuse();
        loop {
            while !interrupted()
                && let Some(slot) = self.free_slot()
                && let Some(job) = jobs.next()
            {
                if let Some((job, failure)) = self.start(job, slot) {
                    ended(job, Err(failure))?;
                }
            }
            if self.running.is_empty() {
                return Ok(());
            }
            for (job, outcome) in self.ended()? {
                ended(job, outcome)?;
            }
            self.forward_interrupts();
            self.progress.show(&self.running.iter().map(Running::watched).collect::<Vec<_>>());
            sleep(Duration::from_millis(100));
        }
    }

    fn free_slot(&self) -> Option<usize> {
        (0..self.slots.len()).find(|slot| self.running.iter().all(|one| one.slot != *slot))
    }

    /// Starts a job; gives it back where that fails.
    fn start(&mut self, job: Job, slot: usize) -> Option<(Job, String)> {
        match job.start(self.brt, &self.slots[slot]) {
            Ok((child, log_start)) => self.running.push(Running { job, slot, child, log_start }),
            Err(failure) => {
                self.progress.note(&format!("{}: {}", job.name, failure.message));
                return Some((job, failure.message));
            }
        }
        None
    }

    /// Takes out the runs that have ended.
    fn ended(&mut self) -> Result<Vec<(Job, Outcome)>> {
        let (mut alive, mut ended) = (vec![], vec![]);
        for mut one in self.running.drain(..) {
            match one.child.try_wait().context(|| format!("waiting for {}", one.job.name))? {
                None => alive.push(one),
                Some(status) => {
                    let outcome = one.outcome(status);
                    let how = outcome.as_ref().map_or_else(String::as_str, |_| "finished");
                    self.progress.note(&format!("{}: {how}", one.job.name));
                    ended.push((one.job, outcome));
                }
            }
        }
        self.running = alive;
        Ok(ended)
    }

    fn forward_interrupts(&mut self) {
        let interrupts = INTERRUPTS.load(Ordering::SeqCst);
        if interrupts > self.forwarded {
            self.forwarded = interrupts;
            self.progress.note("interrupted: waiting for the runs to save themselves");
            self.running.iter().for_each(|one| forward_interrupt(&one.child));
        }
    }
}

/// Returns what a run left in its folder, where it has ended.
pub(crate) fn result(folder: &Path) -> std::result::Result<Option<RunResult>, String> {
    let path = folder.join("result.json");
    if !path.exists() {
        return Ok(None);
    }
    read_json(&path, "the result of a run").map(Some).map_err(|error| error.to_string())
}

impl Job {
    /// Returns the result of a run that has ended; an error where there is one that is not of this run.
    pub(crate) fn finished(&self) -> std::result::Result<Option<RunResult>, String> {
        let Some(result) = result(&self.folder)? else { return Ok(None) };
        let (seed, steps) = (result.seed, result.training.num_steps);
        if (seed, steps) == (self.seed, self.num_steps) {
            return Ok(Some(result));
        }
        Err(format!(
            "{}: expected a run of seed {} and {} steps, got seed {seed} and {steps} steps; delete it",
            self.folder.display(),
            self.seed,
            self.num_steps,
        ))
    }

    /// Starts the process; returns it with the length that its log had before.
    fn start(&self, brt: &Path, slot: &Slot) -> Result<(Child, u64)> {
        fs::create_dir_all(&self.folder).context(|| format!("creating {}", self.folder.display()))?;
        let log_path = self.log();
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.context(|| format!("opening {}", log_path.display()))?;
        let log_start = log.metadata().map_or(0, |metadata| metadata.len());
        let mut command = Command::new(brt);
        command.arg("train").arg(&self.config);
        command.arg("--data").arg(&self.data).arg("--out").arg(&self.folder);
        command.args(["--seed", &self.seed.to_string(), "--threads", &slot.num_threads.to_string()]);
        if let Some(device) = &slot.device {
            command.args(["--device", device]);
        }
        command.args(&self.arguments);
        command.arg("--resume").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // The end of a log must be the error, not where in the program it arose.
        command.env("RUST_LIB_BACKTRACE", "0");
        // Of its own process group: xtask passes signals on, so a run gets each of them once, whoever sent it.
        let child = command.process_group(0).spawn();
        Ok((child.context(|| format!("starting {}", brt.display()))?, log_start))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log.txt")
    }
}

impl Running {
    fn watched(&self) -> Watched {
        let Job { name, folder, num_steps, .. } = &self.job;
        Watched { name: name.clone(), metrics: folder.join("metrics.jsonl"), num_steps: *num_steps }
    }

    fn outcome(&self, status: ExitStatus) -> Outcome {
        if let Some(result) = self.job.finished()? {
            return Ok(result);
        }
        if status.code() == Some(i32::from(INTERRUPTED)) || interrupted() {
            return Err("stopped before its end".into());
        }
        let log = log_tail(&self.job.log(), self.log_start);
        Err(format!("{status}, no result.json\n{log}").trim_end().to_owned())
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
