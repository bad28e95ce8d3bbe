//! An answer as it comes from the worker.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, timeout_at},
};

use crate::{
    Choice, Completion, CompletionRequest, Limits, Logprobs, RequestError, Usage,
    unique::{now, random},
    worker::{Counted, Event},
};

/// What all pieces of an answer have.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
}

impl Head {
    pub(crate) fn new(model: String, fingerprint: String) -> Self {
        Self { id: format!("cmpl-{:016x}{:016x}", random(), random()), created: now(), model, fingerprint }
    }

    fn piece(&self, choices: Vec<Choice>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices,
            usage: None,
            session_tokens: None,
        }
    }
}

/// An answer that comes piece by piece. Where it is dropped, the worker stops to work on it.
#[derive(Debug)]
pub struct CompletionStream {
    head: Head,
    events: Receiver<Event>,
    /// Choices that go on.
    num_open: usize,
    usage: Usage,
    session_tokens: Option<u64>,
    deadline: Instant,
    has_scores: bool,
    limits: Limits,
    /// Whether the worker has hung up because nobody read.
    is_stalled: Arc<AtomicBool>,
    _counted: Counted,
}

impl CompletionStream {
    pub(crate) fn new(
        head: Head,
        events: Receiver<Event>,
        request: &CompletionRequest,
        limits: &Limits,
        counted: Counted,
    ) -> Self {
        Self {
            head,
            events,
            num_open: request.prompt.num_texts() * request.n,
            usage: Usage::default(),
            session_tokens: None,
            deadline: Instant::now() + limits.request_time,
            has_scores: request.logprobs.is_some(),
            limits: limits.clone(),
            is_stalled: Arc::default(),
            _counted: counted,
        }
    }

    /// Returns what the worker sets before it hangs up on a client that does not read.
    pub(crate) fn stalled(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_stalled)
    }

    /// Waits until the worker has taken the request.
    pub(crate) async fn accepted(mut self) -> Result<Self, RequestError> {
        match self.event().await? {
            Event::Accepted { prompt_tokens } => self.usage.prompt_tokens = prompt_tokens,
            Event::Failed(error) => return Err(error),
            Event::Piece { .. } | Event::Finished { .. } => return Err(RequestError::Failed),
        }
        Ok(self)
    }

    async fn event(&mut self) -> Result<Event, RequestError> {
        let too_slow = RequestError::TooSlow { secs: self.limits.request_time.as_secs() };
        let event = timeout_at(self.deadline, self.events.recv()).await.map_err(|_| too_slow)?;
        event.ok_or_else(|| match self.is_stalled.load(SeqCst) {
            true => RequestError::SlowReader { secs: self.limits.stall_time.as_secs() },
            false => RequestError::Failed,
        })
    }

    /// Returns the next piece, of one choice; `None` after the last.
    ///
    /// # Errors
    /// Why there will be no more.
    pub async fn next(&mut self) -> Result<Option<Completion>, RequestError> {
        while self.num_open > 0 {
            let (index, text, logprobs, finish_reason) = match self.event().await? {
                Event::Piece { choice, text, logprobs } => (choice, text, logprobs, None),
                Event::Finished { choice, reason, num_drawn, session_tokens } => {
                    self.num_open -= 1;
                    self.usage.completion_tokens += num_drawn;
                    self.session_tokens = session_tokens;
                    (choice, String::new(), None, Some(reason))
                }
                Event::Failed(error) => return Err(error),
                Event::Accepted { .. } => continue,
            };
            return Ok(Some(self.head.piece(vec![Choice { index, text, logprobs, finish_reason }])));
        }
        Ok(None)
    }

    /// Returns what is known when all choices have ended: numbers of tokens, no choice.
    pub fn end(&self) -> Completion {
        let Usage { prompt_tokens, completion_tokens, .. } = self.usage;
        let usage = Usage { total_tokens: prompt_tokens + completion_tokens, ..self.usage };
        Completion { usage: Some(usage), session_tokens: self.session_tokens, ..self.head.piece(vec![]) }
    }

    /// Returns the whole answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn collect(mut self) -> Result<Completion, RequestError> {
        let logprobs = self.has_scores.then(Logprobs::default);
        let open =
            |index| Choice { index, text: String::new(), logprobs: logprobs.clone(), finish_reason: None };
        let mut choices: Vec<Choice> = (0..self.num_open).map(open).collect();
        while let Some(piece) = self.next().await? {
            for choice in piece.choices {
                choices[choice.index].extend(choice);
            }
        }
        Ok(Completion { choices, ..self.end() })
    }
}
