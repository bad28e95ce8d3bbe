//! The `brt` command: trains, evaluates and runs Block-Recurrent Transformers and their baselines.

mod allocator;
mod arguments;
mod commands;
mod interrupt;
mod output;
mod progress;

use std::{io::IsTerminal, os::unix::process::CommandExt, process::ExitCode};

use clap::Parser;

fn main() -> ExitCode {
    let_waiting_threads_sleep();
    output::short_panics();
    // Before any tensor operation; without CUDA the process runs on the CPU, and `brt doctor` says why.
    let cuda = brt_native::load_cuda();
    start_log();
    if let Some(way) = std::env::var_os("BRT_ATTENTION").filter(|way| way != "fused" && way != "composed") {
        let way = way.to_string_lossy();
        return output::fail(&anyhow::anyhow!("BRT_ATTENTION: expected fused or composed, got {way}"));
    }
    if let Err(message) = brt_native::ProductLibrary::choose() {
        return output::fail(&anyhow::anyhow!(message));
    }
    let arguments: Result<Vec<String>, _> =
        std::env::args_os().map(std::ffi::OsString::into_string).collect();
    let split = arguments
        .map_err(|text| format!("{}: expected UTF-8, got other bytes", text.to_string_lossy()))
        .and_then(arguments::split_overrides);
    let (rest, overrides) = match split {
        Ok(split) => split,
        Err(message) => return output::fail(&anyhow::anyhow!(message)),
    };
    if let Err(reason) = &cuda {
        tracing::debug!(reason, "no CUDA");
    }
    match commands::run(arguments::Arguments::parse_from(rest), &overrides) {
        Ok(code) => code,
        Err(error) => output::fail(&error),
    }
}

/// Starts this program anew, in this process, with libtorch's threads told to sleep where they wait for each other, unless
/// the environment says how they wait. Spinning gains little on an idle machine and takes twice as long on a busy one; the
/// OpenMP library reads the variable before `main`.
fn let_waiting_threads_sleep() {
    const VARIABLE: &str = "OMP_WAIT_POLICY";
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    // Where the system does not let it, or does not know which program this is, all goes on as it is.
    let Ok(program) = std::env::current_exe() else { return };
    if program.file_name().is_some_and(|name| name == "brt") {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| "brt".into());
        let mut command = std::process::Command::new(program);
        let _ = command.arg0(name).args(arguments).env(VARIABLE, "passive").exec();
    }
}

/// Sends log lines to standard error; `BRT_LOG` chooses them (`BRT_LOG=debug`).
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BRT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .init();
}
