//! A prompt that is read piece by piece, so that texts that are continued meanwhile go on.

use std::{rc::Rc, sync::Arc};

use brt_data::Tokenizer;
use brt_lm::{Decoder, TextState, log_probabilities};

use super::{
    call::Call,
    line::Echo,
    row::{Row, is_finite, values},
    scores::{Score, logprobs},
    sessions::Sessions,
};
use crate::{RequestError, request::PreparedPrompt};

/// Most tokens that are read at once.
const PIECE_LEN: usize = 512;

/// A prompt, and what of it has been read.
#[derive(Debug)]
pub(super) struct Feeding {
    pub(super) call: Rc<Call>,
    prompt_idx: usize,
    text: TextState,
    num_read: usize,
    scores: Vec<Score>,
}

impl Feeding {
    /// Returns a prompt of which nothing has been read.
    pub(super) fn new(call: Rc<Call>, prompt_idx: usize, decoder: &Decoder, sessions: &Sessions) -> Self {
        let text = call.session_text(sessions).unwrap_or_else(|| decoder.start());
        Self { call, prompt_idx, text, num_read: 0, scores: vec![] }
    }

    fn prompt(&self) -> &PreparedPrompt {
        &self.call.job.prompts[self.prompt_idx]
    }

    fn tokens(&self) -> &[u32] {
        &self.prompt().at(self.call.goes_on).tokens
    }

    /// Reads the next piece; returns whether that was the last one.
    pub(super) fn read_piece(
        &mut self,
        decoder: &Decoder,
        tokenizer: &Tokenizer,
    ) -> Result<bool, RequestError> {
        let rest = &self.tokens()[self.num_read..];
        let piece: Vec<i64> = rest.iter().take(PIECE_LEN).map(|&token| token.into()).collect();
        if piece.is_empty() {
            return Ok(true);
        }
        let logits = match self.call.job.num_top.filter(|_| self.call.job.echo) {
            Some(num_top) => self.score_piece(&piece, num_top, decoder, tokenizer),
            None => values(&decoder.feed(&mut self.text, &piece)),
        };
        self.num_read += piece.len();
        let is_last = self.num_read == self.tokens().len();
        if is_finite(&logits) { Ok(is_last) } else { Err(RequestError::NotFinite) }
    }

    /// Reads a piece, scores its tokens and returns the logits after each.
    fn score_piece(
        &mut self,
        piece: &[i64],
        num_top: usize,
        decoder: &Decoder,
        tokenizer: &Tokenizer,
    ) -> Vec<f32> {
        let before = self.text.next_logits().map(values); // Of the first token.
        let all = values(&decoder.feed_all(&mut self.text, piece));
        let rows = before.as_deref().into_iter().chain(all.chunks_exact(all.len() / piece.len()));
        let rows = before.is_none().then_some(None).into_iter().chain(rows.map(Some));
        let offsets = &self.call.job.prompts[self.prompt_idx].at(self.call.goes_on).offsets[self.num_read..];
        for ((&token, &offset), logits) in piece.iter().zip(offsets).zip(rows) {
            self.scores.push(match logits {
                Some(logits) => Score::new(tokenizer, token, &log_probabilities(logits), num_top, offset),
                None => Score::unknown(tokenizer, token, offset),
            });
        }
        all
    }

    /// Returns the prompt as its choices begin with it.
    pub(super) fn fed(self) -> Fed {
        let job = &self.call.job;
        let echo = job.echo.then(|| {
            let text = job.prompts[self.prompt_idx].text.clone();
            Arc::new(Echo { text, logprobs: job.num_top.map(|_| logprobs(self.scores, 0)) })
        });
        Fed { call: self.call, prompt_idx: self.prompt_idx, text: Some(self.text), echo, num_begun: 0 }
    }
}

/// A prompt that has been read. Its choices begin one after the other: each has a state of its own.
#[derive(Debug)]
pub(super) struct Fed {
    pub(super) call: Rc<Call>,
    prompt_idx: usize,
    /// Until the last choice begins.
    text: Option<TextState>,
    echo: Option<Arc<Echo>>,
    num_begun: usize,
}

impl Fed {
    pub(super) fn num_begun(&self) -> usize {
        self.num_begun
    }

    pub(super) fn num_left(&self) -> usize {
        self.call.job.n - self.num_begun
    }

    /// Returns the next choice; the last takes the state itself.
    pub(super) fn begin(&mut self, tokenizer: &Tokenizer) -> Option<Row> {
        let text = match self.num_left() {
            0 | 1 => self.text.take(),
            _ => self.text.as_ref().map(TextState::copy),
        };
        let choice = self.prompt_idx * self.call.job.n + self.num_begun;
        let row = Row::new(&self.call, choice, text?, tokenizer, self.echo.as_ref());
        self.num_begun += 1;
        Some(row)
    }
}
