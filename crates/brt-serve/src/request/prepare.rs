//! From prompts to tokens.

use brt_data::{TextDecoder, TextPlace, Tokenizer};

use super::{CompletionRequest, Prompt};
use crate::{Limits, RequestError};

/// A prompt as the model reads it.
#[derive(Debug)]
pub(crate) struct PreparedPrompt {
    /// What `echo` repeats.
    pub(crate) text: String,
    /// As the beginning of a text.
    pub(crate) start: Encoded,
    /// As a part of one, where a session may go on with it.
    pub(crate) continuation: Option<Encoded>,
}

/// Tokens of a prompt.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) tokens: Vec<u32>,
    /// Where each begins in the text, in characters; empty where nobody asks.
    pub(crate) offsets: Vec<usize>,
}

impl PreparedPrompt {
    /// Returns the tokens. `goes_on`: whether the session has read something before.
    pub(crate) fn at(&self, goes_on: GoesOn) -> &Encoded {
        match (goes_on, &self.continuation) {
            (GoesOn::Yes, Some(continuation)) => continuation,
            _ => &self.start,
        }
    }
}

/// Whether a text goes on from what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoesOn {
    Yes,
    No,
}

/// Returns the prompts of a request as tokens.
pub(crate) fn prepare(
    request: &CompletionRequest,
    tokenizer: &Tokenizer,
    vocab_size: usize,
    limits: &Limits,
) -> Result<Vec<PreparedPrompt>, RequestError> {
    let wants_offsets = request.echo && request.logprobs.is_some();
    let prompts: Vec<PreparedPrompt> = match &request.prompt {
        Prompt::Texts(texts) => {
            let has_session = request.session.is_some();
            let text = |text: &String| {
                let encode = |place| encode(tokenizer, text, place, wants_offsets);
                let start = encode(TextPlace::Start)?;
                let continuation = has_session.then(|| encode(TextPlace::Continuation)).transpose()?;
                let text = if request.echo { text.clone() } else { String::new() };
                Ok(PreparedPrompt { text, start, continuation })
            };
            texts.iter().map(text).collect::<Result<_, _>>()?
        }
        Prompt::Tokens(texts) => {
            let decoded = |tokens: &Vec<u32>| {
                check_tokens(tokens, vocab_size)?;
                let (text, offsets) = if request.echo { decode(tokenizer, tokens) } else { <_>::default() };
                let start = Encoded { tokens: tokens.clone(), offsets };
                Ok(PreparedPrompt { text, start, continuation: None })
            };
            texts.iter().map(decoded).collect::<Result<_, _>>()?
        }
    };
    let num_tokens = check_lengths(&prompts, request.session.is_some(), limits)?;
    check_scores(request, num_tokens, limits.max_answer_scores)?;
    Ok(prompts)
}

fn encode(
    tokenizer: &Tokenizer,
    text: &str,
    place: TextPlace,
    wants_offsets: bool,
) -> Result<Encoded, RequestError> {
    let encoding = tokenizer
        .encode(text.as_bytes(), place)
        .map_err(|error| RequestError::value("prompt", "a text that has tokens", error))?;
    let mut offsets = vec![];
    if wants_offsets {
        // The last character that begins at or before the token's first byte.
        let (mut start, mut num_chars, mut chars) = (0, 0usize, text.char_indices().peekable());
        for &end in &encoding.ends {
            while chars.next_if(|(place, _)| *place <= start).is_some() {
                num_chars += 1;
            }
            offsets.push(num_chars.saturating_sub(1));
            start = end as usize;
        }
    }
    Ok(Encoded { tokens: encoding.tokens, offsets })
}

/// Returns the text of tokens and where each begins in it.
fn decode(tokenizer: &Tokenizer, tokens: &[u32]) -> (String, Vec<usize>) {
    let mut decoder = TextDecoder::new(tokenizer, &[], vec![]);
    let (mut text, mut num_chars, mut offsets) = (String::new(), 0, vec![]);
    for &token in tokens {
        offsets.push(num_chars);
        let piece = decoder.push(token);
        num_chars += piece.chars().count();
        text += &piece;
    }
    (text + &decoder.finish(), offsets)
}

fn check_tokens(tokens: &[u32], vocab_size: usize) -> Result<(), RequestError> {
    match tokens.iter().find(|&&token| token as usize >= vocab_size) {
        Some(token) => {
            Err(RequestError::value("prompt", format!("tokens from 0 to {}", vocab_size - 1), token))
        }
        None => Ok(()),
    }
}

/// Returns the tokens of all prompts.
fn check_lengths(
    prompts: &[PreparedPrompt],
    has_session: bool,
    limits: &Limits,
) -> Result<usize, RequestError> {
    let len = |prompt: &PreparedPrompt| prompt.start.tokens.len();
    if !has_session && prompts.iter().any(|prompt| len(prompt) == 0) {
        return Err(RequestError::value("prompt", "at least one token", "none"));
    }
    let continued = |p: &PreparedPrompt| p.continuation.as_ref().map_or(0, |c| c.tokens.len());
    let got: usize = prompts.iter().map(|prompt| len(prompt).max(continued(prompt))).sum();
    let max = limits.max_prompt_tokens;
    let expected = || format!("at most {max} tokens in all (--max-prompt-tokens)");
    if got > max { Err(RequestError::value("prompt", expected(), got)) } else { Ok(got) }
}

/// Checks that the answer can be held: all of what `echo` repeats, and all scores of one that does not come in pieces.
fn check_scores(request: &CompletionRequest, prompt_tokens: usize, max: usize) -> Result<(), RequestError> {
    let CompletionRequest { n, echo, logprobs, stream, max_tokens, .. } = *request;
    let echoed = if echo { prompt_tokens } else { 0 };
    let is_held = logprobs.is_some() && !stream;
    let drawn = if is_held { max_tokens.saturating_mul(request.prompt.num_texts()) } else { 0 };
    let got = echoed.saturating_add(drawn).saturating_mul(n * (1 + logprobs.unwrap_or(0)));
    if got <= max {
        return Ok(());
    }
    let param = if logprobs.is_some() { "logprobs" } else { "echo" };
    let expected = format!("tokens of the answer times n and 1 + logprobs up to {max} (--max-answer-scores)");
    Err(RequestError::value(param, expected, got))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_begin_where_their_characters_do() {
        let tokenizer = Tokenizer::bytes();
        let text = "aé!";
        let encoded = encode(&tokenizer, text, TextPlace::Start, true).unwrap();
        assert_eq!(encoded.offsets, [0, 1, 1, 2]);
        assert_eq!(decode(&tokenizer, &encoded.tokens), (text.to_owned(), vec![0, 1, 1, 2]));
        assert!(encode(&tokenizer, text, TextPlace::Start, false).unwrap().offsets.is_empty());
    }
}
