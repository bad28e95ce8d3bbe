//! An answer as it comes from the worker.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::{
    Choice, Completion, CompletionRequest, Limits, Logprobs, RequestError, Usage,
    unique::{now, random},
    worker::{Answers, Event, Receipt},
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
    answers: Answers,
    /// Choices that go on.
    num_open: usize,
    usage: Usage,
    session_tokens: Option<u64>,
    deadline: Instant,
    has_scores: bool,
    request_time: Duration,
}

impl CompletionStream {
    pub(crate) fn new(head: Head, answers: Answers, request: &CompletionRequest, limits: &Limits) -> Self {
        Self {
            head,
            answers,
            num_open: request.prompt.num_texts() * request.n,
            usage: Usage::default(),
            session_tokens: None,
            deadline: Instant::now() + limits.request_time,
            has_scores: request.logprobs.is_some(),
            request_time: limits.request_time,
        }
    }

    /// Returns when the whole answer must be there.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits until the worker has taken the request.
    pub(crate) async fn accepted(mut self) -> Result<Self, RequestError> {
        match self.event().await? {
            Event::Accepted { prompt_tokens } => self.usage.prompt_tokens = prompt_tokens,
            Event::Echo { .. } | Event::Piece { .. } | Event::Finished { .. } => {
                return Err(RequestError::Failed);
            }
        }
        Ok(self)
    }

    async fn event(&mut self) -> Result<Event, RequestError> {
        let too_slow = RequestError::TooSlow { secs: self.request_time.as_secs() };
        if Instant::now() >= self.deadline {
            return Err(too_slow); // Also where there is always something to read.
        }
        timeout_at(self.deadline, self.answers.next()).await.unwrap_or(Err(too_slow))
    }

    /// Returns the next piece, of one choice; `None` after the last. A session moves when the last is returned.
    ///
    /// # Errors
    /// Why there will be no more.
    pub async fn next(&mut self) -> Result<Option<Completion>, RequestError> {
        let Some((piece, receipt)) = self.next_unsigned().await? else { return Ok(None) };
        if let Some(receipt) = receipt {
            receipt.sign();
        }
        Ok(Some(piece))
    }

    /// As [`Self::next`]; the session moves when the receipt is signed.
    pub(crate) async fn next_unsigned(
        &mut self,
    ) -> Result<Option<(Completion, Option<Receipt>)>, RequestError> {
        let mut receipt = None;
        while self.num_open > 0 {
            let (index, text, logprobs, finish_reason) = match self.event().await? {
                Event::Echo { choice, echo } => (choice, echo.text.clone(), echo.logprobs.clone(), None),
                Event::Piece { choice, text, logprobs } => (choice, text, logprobs, None),
                Event::Finished { choice, reason, num_drawn, session } => {
                    self.num_open -= 1;
                    self.usage.completion_tokens += num_drawn;
                    if let Some(kept) = session {
                        self.session_tokens = Some(kept.num_tokens);
                        receipt = Some(kept.receipt);
                    }
                    (choice, String::new(), None, Some(reason))
                }
                Event::Accepted { .. } => continue,
            };
            let piece = self.head.piece(vec![Choice { index, text, logprobs, finish_reason }]);
            return Ok(Some((piece, receipt)));
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
