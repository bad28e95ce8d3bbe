//! One text that is continued: its state, what is drawn, and what its client has not taken yet.

use std::{collections::VecDeque, rc::Rc, sync::Arc};

use brt_data::Tokenizer;
use brt_lm::{TextState, log_probabilities};
use tch::{Device, Kind, Tensor};
use tokio::sync::oneshot::error::TryRecvError;

use super::{
    call::Call,
    line::{Echo, Event, Kept},
    receipt::{Awaited, Receipt},
    scores::DrawnScores,
    sessions::Sessions,
};
use crate::{FinishReason, Generation, GenerationConfig};

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
    /// The state that the session gets when the client has the last piece.
    awaited: Option<(Awaited, TextState)>,
}

impl Row {
    /// Returns a choice that begins after `text`. `echo`: what its client gets first.
    pub(super) fn new(
        call: &Rc<Call>,
        choice: usize,
        text: TextState,
        tokenizer: &Tokenizer,
        echo: Option<&Arc<Echo>>,
    ) -> Self {
        let job = &call.job;
        let before: Vec<u32> = text.recent().iter().map(|&token| token as u32).collect();
        // With a seed the first choice of each prompt is that of the prompt alone.
        let idx = if job.is_seeded { choice % job.n } else { choice };
        let config =
            GenerationConfig { seed: job.config.seed.wrapping_add(idx as u64), ..job.config.clone() };
        let start = echo.map_or(0, |echo| echo.text.chars().count());
        let echo = echo.map(|echo| Event::Echo { choice, echo: Arc::clone(echo) });
        Self {
            choice,
            logits: text.next_logits().map(values).unwrap_or_default(),
            text: Some(text),
            is_penalised: config.sample.repetition_penalty != 1.,
            generation: Generation::new(tokenizer, &before, config),
            scores: job.num_top.map(|num_top| DrawnScores::new(tokenizer, &before, num_top, start)),
            next_token: None,
            unsent: echo.into_iter().collect(),
            awaited: None,
            call: Rc::clone(call),
        }
    }

    /// Sends what there is, as far as the client takes it.
    pub(super) fn deliver(&mut self) {
        while let Some(event) = self.unsent.pop_front() {
            if let Some(event) = self.call.send(event) {
                return self.unsent.push_front(event);
            }
        }
    }

    /// Returns whether the text is still read or drawn.
    pub(super) fn goes_on(&self) -> bool {
        self.text.is_some()
    }

    /// Returns whether its session waits for the client to get the last piece.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.is_some()
    }

    /// Returns whether all is drawn, delivered and kept.
    pub(super) fn is_done(&self) -> bool {
        self.text.is_none() && self.unsent.is_empty() && self.awaited.is_none()
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
            scores.push(drawn.token, &log_probabilities(&self.logits));
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

    /// Ends the choice where all is drawn. Its session keeps the state when the client has the last piece.
    pub(super) fn finish(&mut self) {
        let Some(reason) = self.generation.finish_reason() else { return };
        let Some(state) = self.text.take() else { return };
        let num_drawn = self.generation.num_drawn();
        self.push_rest(reason);
        let session = self.call.has_session().then(|| {
            let ((receipt, awaited), num_tokens) = (Receipt::new(), state.num_tokens());
            self.awaited = Some((awaited, state));
            Kept { num_tokens, receipt }
        });
        self.unsent.push_back(Event::Finished { choice: self.choice, reason, num_drawn, session });
    }

    /// Gives the session back where it is known whether the client has the last piece.
    pub(super) fn settle(&mut self, sessions: &mut Sessions) {
        let Some((receipt, _)) = &mut self.awaited else { return };
        let receipt = receipt.try_recv();
        if receipt == Err(TryRecvError::Empty) {
            return;
        }
        match (receipt, self.awaited.take()) {
            (Ok(()), Some((_, text))) => self.call.keep(text, sessions),
            _ => self.call.give_up(sessions),
        }
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
    Vec::try_from(flat).expect("numbers in one row")
}

/// Returns whether the model has computed numbers.
pub(super) fn is_finite(logits: &[f32]) -> bool {
    logits.iter().all(|logit| logit.is_finite())
}
