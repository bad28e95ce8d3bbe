//! The `brt` command: trains, evaluates and runs Block-Recurrent Transformers and their baselines.

mod allocator;
mod arguments;
mod commands;
mod interrupt;
mod output;
mod progress;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;

fn main() -> ExitCode {
    output::short_panics();
    allocator::keep_pages();
    // Before any tensor operation; without CUDA the process runs on the CPU, and `brt doctor` says why.
    let cuda = brt_native::load_cuda();
    start_log();
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
