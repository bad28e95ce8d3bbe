//! What the worker is asked to do, and what it says while it does it.

use std::sync::{Arc, atomic::AtomicBool};

use tokio::sync::mpsc;

use super::gauges::Counted;
use crate::{FinishReason, GenerationConfig, Logprobs, RequestError, request::PreparedPrompt};

/// What the worker thread is told.
#[derive(Debug)]
pub(super) enum Message {
    Job(Job),
    Stop,
}

/// A request that has been checked.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) prompts: Arc<Vec<PreparedPrompt>>,
    pub(super) config: GenerationConfig,
    pub(super) n: usize,
    /// Number of likeliest tokens to name; `None` for no scores.
    pub(super) num_top: Option<usize>,
    pub(super) echo: bool,
    pub(super) session: Option<String>,
    pub(super) client: Client,
}

/// Who waits for the answer.
#[derive(Debug)]
pub(super) struct Client {
    /// Where the answer goes.
    pub(super) events: mpsc::Sender<Event>,
    /// One of the requests that wait, until it is dropped.
    pub(super) waits: Counted,
    /// Set before the worker hangs up because nobody reads.
    pub(super) is_stalled: Arc<AtomicBool>,
}

/// A part of an answer.
#[derive(Debug)]
pub(crate) enum Event {
    /// The request is taken.
    Accepted { prompt_tokens: usize },
    /// The next piece of a choice.
    Piece { choice: usize, text: String, logprobs: Option<Logprobs> },
    /// A choice has ended.
    Finished { choice: usize, reason: FinishReason, num_drawn: usize, session_tokens: Option<u64> },
    /// There will be no answer.
    Failed(RequestError),
}
