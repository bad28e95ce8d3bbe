//! Whole tables with a stand-in for `brt` (`examples/fake_brt.rs`).

#![expect(clippy::unwrap_used, reason = "a test whose fixture cannot be set up has failed")]

mod fixture;
mod queue;
mod report;
