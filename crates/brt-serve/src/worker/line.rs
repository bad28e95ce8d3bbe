//! The line between a request in the worker and its client.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use super::{
    gauges::{Counted, Gauges},
    receipt::Receipt,
};
use crate::{FinishReason, Logprobs, RequestError};

/// Pieces of an answer that wait for their client before its text waits, too.
const MAX_UNREAD: usize = 64;

/// A part of an answer.
#[derive(Debug)]
pub(crate) enum Event {
    /// The request is taken.
    Accepted { prompt_tokens: usize },
    /// The beginning of a choice: its prompt.
    Echo { choice: usize, echo: Arc<Echo> },
    /// The next piece of a choice.
    Piece { choice: usize, text: String, logprobs: Option<Logprobs> },
    /// A choice has ended.
    Finished { choice: usize, reason: FinishReason, num_drawn: usize, session: Option<Kept> },
}

/// What `echo` repeats; all choices of a prompt share it.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) text: String,
    pub(crate) logprobs: Option<Logprobs>,
}

/// A session that moves when the client has got this.
#[derive(Debug)]
pub(crate) struct Kept {
    /// What it has read then.
    pub(crate) num_tokens: u64,
    pub(crate) receipt: Receipt,
}

/// The worker's end.
#[derive(Debug)]
pub(super) struct Client {
    /// Where the answer goes.
    pub(super) events: mpsc::Sender<Event>,
    /// One of the requests that wait, until it is dropped.
    pub(super) waits: Counted,
    /// Why there will be no more: set before the worker hangs up.
    pub(super) reason: Arc<OnceLock<RequestError>>,
}

/// The client's end.
#[derive(Debug)]
pub(crate) struct Answers {
    events: mpsc::Receiver<Event>,
    reason: Arc<OnceLock<RequestError>>,
    gauges: Arc<Gauges>,
    _counted: Counted,
}

/// Returns both ends for one more request.
pub(super) fn line(gauges: &Arc<Gauges>, max_waiting: usize) -> Result<(Client, Answers), RequestError> {
    let too_many = RequestError::TooManyRequests { max: max_waiting };
    let waits = Counted::new(&gauges.waiting, max_waiting).ok_or(too_many)?;
    let counted = Counted::new(&gauges.requests, usize::MAX).ok_or(RequestError::Failed)?;
    let (sender, events) = mpsc::channel(MAX_UNREAD);
    let (reason, gauges) = (Arc::default(), Arc::clone(gauges));
    let client = Client { events: sender, waits, reason: Arc::clone(&reason) };
    Ok((client, Answers { events, reason, gauges, _counted: counted }))
}

impl Answers {
    /// Returns what the worker says next, or why it has hung up.
    pub(crate) async fn next(&mut self) -> Result<Event, RequestError> {
        let event = self.events.recv().await;
        event.ok_or_else(|| self.reason.get().cloned().unwrap_or_else(|| self.gauges.why_not()))
    }
}
