//! Ctrl-C and SIGTERM: the first asks for a checkpoint, the second ends at once.

use std::{
    process::exit,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Exit code of a program that SIGINT ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Returns a flag that the first SIGINT or SIGTERM sets; the second ends the process.
pub(crate) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            exit(INTERRUPTED.into());
        }
        crate::output::line(
            "stopping after this step; a second Ctrl-C ends at once and loses the steps since the last checkpoint",
        );
    })?;
    Ok(stop)
}
