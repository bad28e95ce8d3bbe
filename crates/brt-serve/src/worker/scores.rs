//! Log-probabilities of tokens, as clients read them.

use std::collections::VecDeque;

use brt_data::{TextDecoder, Tokenizer};

use crate::{FinishReason, Logprobs, TopLogprobs};

/// JSON knows no infinity; the protocol's servers say this for a token that cannot come.
const LEAST: f32 = -9999.;

/// A token's score.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Score {
    name: String,
    log_probability: Option<f32>,
    top: Option<TopLogprobs>,
    /// Where the token begins, in characters.
    offset: usize,
}

impl Score {
    /// Returns the score of a token that nothing predicts.
    pub(super) fn unknown(tokenizer: &Tokenizer, token: i64, offset: usize) -> Self {
        Self { name: name(tokenizer, token), log_probability: None, top: None, offset }
    }

    /// Returns the score of a token, with those of the likeliest `num_top` in its place.
    pub(super) fn new(
        tokenizer: &Tokenizer,
        token: i64,
        log_probabilities: &[f32],
        num_top: usize,
        offset: usize,
    ) -> Self {
        let score = |token: usize| log_probabilities.get(token).map_or(LEAST, |score| score.max(LEAST));
        let mut top: Vec<(String, f32)> = vec![];
        for candidate in likeliest(log_probabilities, num_top).into_iter().chain([token as usize]) {
            let name = name(tokenizer, candidate as i64);
            if top.iter().all(|(other, _)| *other != name) {
                top.push((name, score(candidate)));
            }
        }
        Self {
            name: name(tokenizer, token),
            log_probability: Some(score(token as usize)),
            top: Some(TopLogprobs(top)),
            offset,
        }
    }
}

/// Returns the lists that clients read. `start`: characters that stand before the text of the tokens.
pub(super) fn logprobs(scores: impl IntoIterator<Item = Score>, start: usize) -> Logprobs {
    let mut lists = Logprobs::default();
    for score in scores {
        lists.tokens.push(score.name);
        lists.token_logprobs.push(score.log_probability);
        lists.top_logprobs.push(score.top);
        lists.text_offset.push(start + score.offset);
    }
    lists
}

/// Scores of drawn tokens, each given out with its text.
#[derive(Debug)]
pub(super) struct DrawnScores {
    tokenizer: Tokenizer,
    num_top: usize,
    /// The text without stop strings: it tells where tokens begin.
    text: TextDecoder,
    num_chars: usize,
    num_sent: usize,
    held: VecDeque<Score>,
}

impl DrawnScores {
    /// Returns none yet. `before`: the last tokens before the first that is drawn; `start`: characters before its text.
    pub(super) fn new(tokenizer: &Tokenizer, before: &[u32], num_top: usize, start: usize) -> Self {
        Self {
            tokenizer: tokenizer.clone(),
            num_top,
            text: TextDecoder::new(tokenizer, before, vec![]),
            num_chars: start,
            num_sent: start,
            held: VecDeque::new(),
        }
    }

    /// Takes a drawn token.
    pub(super) fn push(&mut self, token: i64, log_probabilities: &[f32]) {
        let score = Score::new(&self.tokenizer, token, log_probabilities, self.num_top, self.num_chars);
        self.held.push_back(score);
        self.num_chars += self.text.push(token as u32).chars().count();
    }

    /// Returns the scores of the tokens that begin in the text up to and with `text`, which is given out now.
    pub(super) fn give(&mut self, text: &str) -> Logprobs {
        self.num_sent += text.chars().count();
        let num_given = self.held.iter().take_while(|score| score.offset < self.num_sent).count();
        logprobs(self.held.drain(..num_given), 0)
    }

    /// Returns the last scores: what belongs to a stop string has none.
    pub(super) fn finish(&mut self, text: &str, reason: FinishReason) -> Logprobs {
        let mut last = self.give(text);
        if reason == FinishReason::Length {
            last.extend(logprobs(self.held.drain(..), 0));
        }
        last
    }
}

/// Returns the likeliest tokens, the first of equals first.
fn likeliest(log_probabilities: &[f32], num: usize) -> Vec<usize> {
    if num == 0 {
        return vec![];
    }
    let likelier =
        |a: &usize, b: &usize| log_probabilities[*b].total_cmp(&log_probabilities[*a]).then(a.cmp(b));
    let mut tokens: Vec<usize> = (0..log_probabilities.len()).collect();
    if num < tokens.len() {
        tokens.select_nth_unstable_by(num, likelier);
        tokens.truncate(num);
    }
    tokens.sort_unstable_by(likelier);
    tokens
}

/// Returns the text of a token, or a name for one that is not text by itself: two tokens of one place need two names.
fn name(tokenizer: &Tokenizer, token: i64) -> String {
    let bytes = u32::try_from(token).map(|token| tokenizer.token_text(token)).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => format!("token:{token}"),
        Ok(text) => text,
        Err(error) => {
            let bytes: String = error.as_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("bytes:{bytes}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_names_and_the_likeliest_come_first() {
        let tokenizer = Tokenizer::t5_bytes();
        let names = [68, 1, 0xE2 + 3].map(|token| name(&tokenizer, token));
        assert_eq!(names, ["A", "token:1", r"bytes:\xe2"]);
        assert_eq!(likeliest(&[-3., -1., -2., -1.], 3), [1, 3, 2]);
        assert_eq!(likeliest(&[-3., -1.], 20), [1, 0]);

        let score = Score::new(&tokenizer, 3 + 65, &[f32::NEG_INFINITY; 260], 0, 0);
        assert_eq!(
            (score.log_probability, score.top),
            (Some(LEAST), Some(TopLogprobs(vec![("A".into(), LEAST)])))
        );
    }

    #[test]
    fn scores_come_with_their_text_and_not_with_a_stop_string() {
        let mut scores = DrawnScores::new(&Tokenizer::bytes(), &[], 0, 10);
        let equal = [-5.5f32; 256];
        let offsets = |lists: Logprobs| lists.text_offset;
        for byte in "aé".bytes() {
            scores.push(byte.into(), &equal);
        }
        assert_eq!(offsets(scores.give("a")), [10]);
        assert_eq!(offsets(scores.give("é")), [11, 11]);
        scores.push(b'.'.into(), &equal);
        assert_eq!(offsets(scores.give("")), [0usize; 0]);
        assert_eq!(offsets(scores.finish("", FinishReason::Stop)), [0usize; 0]);
        assert_eq!(offsets(scores.finish("", FinishReason::Length)), [12]);
    }
}
