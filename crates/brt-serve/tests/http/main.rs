//! The server over real connections.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod batching;
mod common;
mod completions;
mod errors;
mod limits;
mod lines;
mod scores;
mod sessions;
mod shutdown;
mod start;
mod streams;
