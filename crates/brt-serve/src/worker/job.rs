//! What the worker is asked to do.

use super::line::Client;
use crate::{GenerationConfig, request::PreparedPrompt};

/// What the worker thread is told.
#[derive(Debug)]
pub(super) enum Message {
    Job(Box<Job>),
    Stop,
}

/// A request that has been checked.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) prompts: Vec<PreparedPrompt>,
    pub(super) config: GenerationConfig,
    /// Whether the client has sent a seed: equal prompts then have equal texts.
    pub(super) is_seeded: bool,
    /// Number of choices for each prompt.
    pub(super) n: usize,
    /// Number of likeliest tokens to name; `None` for no scores.
    pub(super) num_top: Option<usize>,
    pub(super) echo: bool,
    pub(super) session: Option<String>,
    pub(super) client: Client,
}
