//! One text that is continued: its state, what is drawn, and what its client has not taken yet.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use brt_data::Tokenizer;
use brt_lm::TextState;
use tch::{Device, Kind, Tensor};
use tokio::sync::mpsc::error::TrySendError;

use super::{
    job::{Event, Job},
    scores::DrawnScores,
    sessions::Sessions,
};
use crate::{FinishReason, Generation, GenerationConfig, RequestError, request::GoesOn};

/// A request that the worker has taken; its prompts and rows share it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) job: Job,
    pub(super) goes_on: GoesOn,
    /// The session that must be given back.
    session: RefCell<Option<String>>,
}

impl Call {
    /// Returns the request of a session that has been taken for it, or of none.
    pub(super) fn new(mut job: Job, goes_on: GoesOn) -> Self {
        let session = RefCell::new(job.session.take());
        Self { job, goes_on, session }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.job.client.events.is_closed()
    }

    /// Returns a copy of the state that its session has.
    pub(super) fn session_text(&self, sessions: &Sessions) -> Option<TextState> {
        self.session.borrow().as_ref().and_then(|name| sessions.copy(name))
    }

    pub(super) fn has_session(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Gives the session back with the state after the request; returns how much it has read.
    fn keep(&self, text: TextState, sessions: &mut Sessions) -> Option<u64> {
        let name = self.session.take()?;
        let num_tokens = text.num_tokens();
        sessions.keep(&name, text);
        Some(num_tokens)
    }

    /// Gives the session back as it was before the request.
    pub(super) fn give_up(&self, sessions: &mut Sessions) {
        if let Some(name) = self.session.take() {
            sessions.release(&name);
        }
    }

    /// Gives up with a reason.
    pub(super) fn fail(&self, error: &RequestError, sessions: &mut Sessions) {
        let _ = self.job.client.events.try_send(Event::Failed(error.clone())); // The client may have gone.
        self.give_up(sessions);
    }
}

/// A choice in progress.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) call: Rc<Call>,
    choice: usize,
    text: Option<TextState>,
    logits: Vec<f32>,
    generation: Generation,
    scores: Option<DrawnScores>,
    /// Whether repetitions cost anything: the last tokens are looked up only for that.
    is_penalised: bool,
    /// What was drawn and not read yet.
    next_token: Option<i64>,
    unsent: VecDeque<Event>,
    stalled: Option<Instant>,
}

impl Row {
    /// Returns a choice that begins after `text`. `events`: what its client gets first; `start`: characters before what
    /// is drawn.
    pub(super) fn new(
        call: &Rc<Call>,
        [prompt_idx, idx]: [usize; 2],
        text: TextState,
        tokenizer: &Tokenizer,
        echo: Option<(Event, usize)>,
    ) -> Self {
        let job = &call.job;
        let before: Vec<u32> = text.recent().iter().map(|&token| token as u32).collect();
        let config =
            GenerationConfig { seed: job.config.seed.wrapping_add(idx as u64), ..job.config.clone() };
        let (echo, start) = echo.unzip();
        let start = start.unwrap_or(0);
        Self {
            choice: prompt_idx * job.n + idx,
            logits: text.next_logits().map(values).unwrap_or_default(),
            text: Some(text),
            is_penalised: config.sample.repetition_penalty != 1.,
            generation: Generation::new(tokenizer, &before, config),
            scores: job.num_top.map(|num_top| DrawnScores::new(tokenizer, &before, num_top, start)),
            next_token: None,
            unsent: echo.into_iter().collect(),
            stalled: None,
            call: Rc::clone(call),
        }
    }

    /// Sends what there is; returns whether the client has taken all.
    pub(super) fn deliver(&mut self) -> bool {
        while let Some(event) = self.unsent.pop_front() {
            match self.call.job.client.events.try_send(event) {
                Ok(()) => self.stalled = None,
                Err(TrySendError::Closed(_)) => (),
                Err(TrySendError::Full(event)) => {
                    self.unsent.push_front(event);
                    self.stalled.get_or_insert_with(Instant::now);
                    return false;
                }
            }
        }
        true
    }

    /// Returns whether the client has read nothing for that long.
    pub(super) fn is_stalled(&self, limit: Duration) -> bool {
        self.stalled.is_some_and(|since| since.elapsed() >= limit)
    }

    /// Returns whether the text is still read or drawn.
    pub(super) fn goes_on(&self) -> bool {
        self.text.is_some()
    }

    /// Returns whether all is drawn and delivered.
    pub(super) fn is_done(&self) -> bool {
        self.text.is_none() && self.unsent.is_empty()
    }

    /// Draws the next token, unless the client has not taken the last one or all is drawn.
    pub(super) fn draw(&mut self) {
        let Some(text) = self.text.as_ref().filter(|_| self.unsent.is_empty()) else { return };
        if self.generation.finish_reason().is_some() {
            return;
        }
        let recent = if self.is_penalised { text.recent() } else { vec![] };
        let drawn = self.generation.draw(&self.logits, &recent);
        self.next_token = Some(drawn.token);
        let logprobs = self.scores.as_mut().map(|scores| {
            scores.push(drawn.token, &drawn.log_probabilities);
            scores.give(&drawn.text)
        });
        let has_scores = logprobs.as_ref().is_some_and(|lists| !lists.tokens.is_empty());
        if has_scores || !drawn.text.is_empty() {
            let (choice, text) = (self.choice, drawn.text);
            self.unsent.push_back(Event::Piece { choice, text, logprobs });
        }
    }

    /// Returns the text and the token that it reads next. What comes after the last token matters to a session alone.
    pub(super) fn next(&mut self) -> Option<(&mut TextState, i64)> {
        let is_needed = self.generation.finish_reason().is_none() || self.call.has_session();
        let token = self.next_token.take().filter(|_| is_needed)?;
        Some((self.text.as_mut()?, token))
    }

    /// Takes the logits after the token that it has read.
    pub(super) fn set_logits(&mut self, logits: &[f32]) {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
    }

    /// Ends the choice where all is drawn: its session keeps the state, then the client is told.
    pub(super) fn finish(&mut self, sessions: &mut Sessions) {
        let Some(reason) = self.generation.finish_reason() else { return };
        let Some(state) = self.text.take() else { return };
        let num_drawn = self.generation.num_drawn();
        self.push_rest(reason);
        let session_tokens = self.call.keep(state, sessions);
        self.unsent.push_back(Event::Finished { choice: self.choice, reason, num_drawn, session_tokens });
    }

    fn push_rest(&mut self, reason: FinishReason) {
        let text = self.generation.finish();
        let logprobs = self.scores.as_mut().map(|scores| scores.finish(&text, reason));
        if !text.is_empty() || logprobs.as_ref().is_some_and(|lists| !lists.tokens.is_empty()) {
            self.unsent.push_back(Event::Piece { choice: self.choice, text, logprobs });
        }
    }
}

/// Returns the numbers of a tensor, row by row.
pub(super) fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view(-1);
    Vec::try_from(flat).unwrap_or_default()
}
