//! `brt launch`: several processes of `brt train` on this machine, without Python.

use std::{
    net::TcpListener,
    process::{Child, Command, ExitCode, ExitStatus},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use brt_trainer::Override;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    arguments::LaunchArguments,
    interrupt::{self, Stop},
    output,
};

/// Time between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(50);
/// Time that processes have to end when one has failed, before they are killed.
const GRACE: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: &LaunchArguments, overrides: &[Override]) -> Result<ExitCode> {
    if arguments.command[0] != "train" {
        bail!("brt launch: expected train and its arguments after the options, got {}", arguments.command[0]);
    }
    let stop = interrupt::listen("stopping all processes after this step; a second signal ends at once")?;
    let mut command = arguments.command.clone();
    command.extend(overrides.iter().map(|o| format!("--{}={}", o.key, o.value)));
    let mut attempt = 0;
    loop {
        if attempt > 0 && !command.iter().any(|word| word == "--resume") {
            command.insert(1, "--resume".into());
        }
        let processes = Processes::start(arguments, &command)?;
        match processes.wait(&stop)? {
            End::Finished => return Ok(ExitCode::SUCCESS),
            End::Stopped(code) => return Ok(ExitCode::from(code)),
            End::Failed { rank, status } if attempt < arguments.max_restarts && !is_set(&stop) => {
                let left = arguments.max_restarts - attempt;
                attempt += 1;
                output::line(format!(
                    "rank {rank} ended with {status}: starting all anew ({left} restarts left)"
                ));
            }
            End::Failed { rank, status } => {
                bail!("rank {rank} ended with {status}; all processes were ended")
            }
        }
    }
}

/// How all processes ended.
enum End {
    Finished,
    /// Asked to, they have saved; the exit code of the first.
    Stopped(u8),
    /// The first one that failed.
    Failed {
        rank: usize,
        status: ExitStatus,
    },
}

/// The processes of one attempt, by rank. Those that still run are killed when it is dropped.
struct Processes(Vec<Child>);

impl Processes {
    fn start(arguments: &LaunchArguments, command: &[String]) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let port = match arguments.port {
            Some(port) => port,
            None => free_port().context("cannot find a free port")?,
        };
        let mut processes = Self(vec![]);
        for rank in 0..arguments.nproc {
            let environment = [
                ("RANK", rank.to_string()),
                ("LOCAL_RANK", rank.to_string()),
                ("WORLD_SIZE", arguments.nproc.to_string()),
                ("LOCAL_WORLD_SIZE", arguments.nproc.to_string()),
                ("MASTER_ADDR", "127.0.0.1".into()),
                ("MASTER_PORT", port.to_string()),
                ("TORCHELASTIC_USE_AGENT_STORE", "False".into()),
                (super::LAUNCHER, std::process::id().to_string()),
            ];
            let mut process = Command::new(&program);
            process.args(command).envs(environment);
            // A terminal's Ctrl-C goes to this process, which passes it on once.
            std::os::unix::process::CommandExt::process_group(&mut process, 0);
            processes.0.push(process.spawn().with_context(|| format!("cannot start rank {rank}"))?);
        }
        Ok(processes)
    }

    /// Waits for all. When one has ended early, or this program is asked to stop, the others are asked to end; those that do
    /// not, some time after one has failed, are killed.
    fn wait(mut self, stop: &Stop) -> Result<End> {
        let (mut failed, mut stopped, mut is_asked): (Option<(usize, ExitStatus, Instant)>, _, _) =
            (None, None, false);
        loop {
            let mut num_running = 0;
            for (rank, process) in self.0.iter_mut().enumerate() {
                match process.try_wait().with_context(|| format!("cannot wait for rank {rank}"))? {
                    None => num_running += 1,
                    Some(status) => match status.code() {
                        Some(0) => (),
                        Some(code @ (130 | 143)) => stopped = Some(code as u8),
                        _ if failed.is_none() => failed = Some((rank, status, Instant::now())),
                        _ => (),
                    },
                }
            }
            if num_running == 0 {
                return Ok(match (failed, stopped) {
                    (Some((rank, status, _)), _) => End::Failed { rank, status },
                    (None, Some(code)) => End::Stopped(code),
                    (None, None) => End::Finished,
                });
            }
            // The others of one that has failed mostly know it, and end by themselves.
            let has_failed_long_ago = failed.is_some_and(|(_, _, since)| since.elapsed() > PAUSE * 20);
            if !is_asked && (is_set(stop) || has_failed_long_ago || stopped.is_some()) {
                self.ask_to_end();
                is_asked = true;
            }
            if failed.is_some_and(|(_, _, since)| since.elapsed() > GRACE) {
                self.kill();
            }
            thread::sleep(PAUSE);
        }
    }

    fn ask_to_end(&mut self) {
        for process in &mut self.0 {
            let is_running = matches!(process.try_wait(), Ok(None));
            if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw).filter(|_| is_running)
            {
                let _ = kill_process(pid, Signal::TERM); // Gone meanwhile: all the better.
            }
        }
    }

    fn kill(&mut self) {
        for process in &mut self.0 {
            let _ = process.kill();
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.kill();
        for process in &mut self.0 {
            let _ = process.wait();
        }
    }
}

fn is_set(stop: &Stop) -> bool {
    stop.flag.load(Ordering::Relaxed)
}

/// Returns a port that nothing uses, below those that the system gives to outgoing connections: one of them could take it
/// before the master does.
fn free_port() -> Option<u16> {
    let first = 20_000 + (std::process::id() % 8000) as u16;
    (first..first + 4000).find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
}
