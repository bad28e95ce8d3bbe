//! A prompt that is read piece by piece, so that texts that are continued meanwhile go on.

use std::rc::Rc;

use brt_data::Tokenizer;
use brt_lm::{Decoder, TextState, log_probabilities};

use super::{
    job::Event,
    row::{Call, Row, values},
    scores::{Score, logprobs},
    sessions::Sessions,
};
use crate::request::PreparedPrompt;

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
    pub(super) fn read_piece(&mut self, decoder: &Decoder, tokenizer: &Tokenizer) -> bool {
        let rest = &self.tokens()[self.num_read..];
        let piece: Vec<i64> = rest.iter().take(PIECE_LEN).map(|&token| token.into()).collect();
        if piece.is_empty() {
            return true;
        }
        match self.call.job.num_top.filter(|_| self.call.job.echo) {
            Some(num_top) => self.score_piece(&piece, num_top, decoder, tokenizer),
            None => drop(decoder.feed(&mut self.text, &piece)),
        }
        self.num_read += piece.len();
        self.num_read == self.tokens().len()
    }

    fn score_piece(&mut self, piece: &[i64], num_top: usize, decoder: &Decoder, tokenizer: &Tokenizer) {
        let mut logits = self.text.next_logits().map(values); // Of the first token.
        let all = values(&decoder.feed_all(&mut self.text, piece));
        let mut later = all.chunks_exact(all.len() / piece.len());
        for (idx, &token) in piece.iter().enumerate() {
            let offset = self.prompt().at(self.call.goes_on).offsets[self.num_read + idx];
            self.scores.push(match &logits {
                Some(logits) => Score::new(tokenizer, token, &log_probabilities(logits), num_top, offset),
                None => Score::unknown(tokenizer, token, offset),
            });
            logits = later.next().map(<[f32]>::to_vec);
        }
    }

    /// Returns the choices that begin after the prompt.
    pub(super) fn rows(mut self, tokenizer: &Tokenizer) -> Vec<Row> {
        let job = &self.call.job;
        let scores = std::mem::take(&mut self.scores);
        let echo = |idx: usize| {
            let text = self.prompt().text.clone();
            let num_chars = text.chars().count();
            let logprobs = job.num_top.map(|_| logprobs(scores.clone(), 0));
            let choice = self.prompt_idx * job.n + idx;
            (Event::Piece { choice, text, logprobs }, num_chars)
        };
        let row = |idx: usize| {
            let echo = job.echo.then(|| echo(idx));
            Row::new(&self.call, [self.prompt_idx, idx], self.text.copy(), tokenizer, echo)
        };
        (0..job.n).map(row).collect()
    }
}
