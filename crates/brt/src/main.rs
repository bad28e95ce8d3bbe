//! The `brt` command: trains, evaluates and runs Block-Recurrent Transformers and their baselines.

mod arguments;
mod commands;
mod interrupt;
mod output;

use std::process::ExitCode;

use clap::Parser;

/// libtorch frees and maps large tensors at every step; mimalloc keeps the pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_pages();
    let _ = brt_native::load_cuda(); // Before any tensor operation; without CUDA the process runs on the CPU.
    start_log();
    let (rest, overrides) = match arguments::split_overrides(std::env::args().collect()) {
        Ok(split) => split,
        Err(message) => return output::fail(&anyhow::anyhow!(message)),
    };
    match commands::run(arguments::Arguments::parse_from(rest), &overrides) {
        Ok(code) => code,
        Err(error) => output::fail(&error),
    }
}

/// Tells mimalloc to keep freed memory and to use large pages: 5 to 10 % of a training step.
fn keep_pages() {
    const PURGE_DELAY: i32 = 15;
    const ALLOW_LARGE_OS_PAGES: i32 = 6;
    // SAFETY: plain setters of mimalloc; the indices are those of its `mi_option_t`.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
        libmimalloc_sys::mi_option_set(ALLOW_LARGE_OS_PAGES, 1);
    }
}

/// Sends log lines to standard error; `BRT_LOG` chooses them (`BRT_LOG=debug`).
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BRT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
}
