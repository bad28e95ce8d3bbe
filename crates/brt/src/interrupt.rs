//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::{
    process::exit,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// Whether, and by what, the program was asked to stop.
pub(crate) struct Stop {
    /// Set by the first signal.
    pub(crate) flag: Arc<AtomicBool>,
    signal: Arc<AtomicI32>,
}

impl Stop {
    /// Returns the exit code of a program that the signal ended: 130 for SIGINT, 143 for SIGTERM.
    pub(crate) fn exit_code(&self) -> u8 {
        exit_code(self.signal.load(Ordering::Relaxed))
    }
}

/// Listens to signals from now on; the first one prints `message`, the second one ends the process.
pub(crate) fn listen(message: &'static str) -> anyhow::Result<Stop> {
    let stop = Stop { flag: Arc::default(), signal: Arc::new(AtomicI32::new(SIGINT)) };
    let (flag, seen) = (Arc::clone(&stop.flag), Arc::clone(&stop.signal));
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if flag.load(Ordering::Relaxed) {
                exit(exit_code(signal).into());
            }
            seen.store(signal, Ordering::Relaxed);
            flag.store(true, Ordering::Relaxed);
            crate::output::line(message);
        }
    });
    Ok(stop)
}

fn exit_code(signal: i32) -> u8 {
    128 + signal as u8
}
