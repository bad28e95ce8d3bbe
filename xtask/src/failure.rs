//! One sentence that says what went wrong and what to do, with the exit code that it leads to.

use std::error::Error;

/// Why a sub-command ended early.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One sentence without a full stop; more lines only for what another program said.
    pub(crate) message: String,
    /// Exit code of xtask.
    pub(crate) code: u8,
}

/// What a step of a sub-command returns.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// Exit code after Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Returns an error with exit code 1.
pub(crate) fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(Failure { message: message.into(), code: 1 })
}

/// Adds to an error what was being done, for example `reading plan.json`.
pub(crate) trait Context<T> {
    /// Puts `doing` before the error's text and its sources.
    fn context(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Error + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.or_else(|error| fail(format!("{}: {}", doing(), with_sources(&error))))
    }
}

impl From<brt_report::FileError> for Failure {
    fn from(error: brt_report::FileError) -> Self {
        Self { message: with_sources(&error), code: 1 }
    }
}

/// Returns an error's text followed by the texts of its sources.
fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}
