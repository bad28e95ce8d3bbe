//! What clients get: the objects of the OpenAI completions protocol.

use serde::{Serialize, Serializer};

use crate::FinishReason;

/// A completion, or one piece of a streamed one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Completion {
    /// A name of this answer; all pieces have the same.
    pub id: String,
    /// `text_completion`.
    pub object: &'static str,
    /// When it was asked for, in seconds since 1970.
    pub created: u64,
    /// Name of the model.
    pub model: String,
    /// Beginning of the model's hash.
    pub system_fingerprint: String,
    /// The continuations, each prompt's beside each other.
    pub choices: Vec<Choice>,
    /// Numbers of tokens; of a streamed answer only in the last piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Number of tokens that the session has read since it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_tokens: Option<u64>,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// Index of its prompt times `n`, and its own.
    pub index: usize,
    /// The text; with `echo` the prompt, too.
    pub text: String,
    /// Scores of the tokens, where they were asked for.
    pub logprobs: Option<Logprobs>,
    /// Why it ended; `None` in all but the last piece of a streamed one.
    pub finish_reason: Option<FinishReason>,
}

/// Scores of tokens: four lists of the same length.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Logprobs {
    /// Text of each token; of one that is no text, `bytes:\xe2` or `token:1`.
    pub tokens: Vec<String>,
    /// Log-probability of each in nats; `None` for the first of a text, which nothing predicts.
    pub token_logprobs: Vec<Option<f32>>,
    /// The likeliest tokens in its place, and the token itself.
    pub top_logprobs: Vec<Option<TopLogprobs>>,
    /// Where each begins in the text, in characters.
    pub text_offset: Vec<usize>,
}

/// Tokens and their log-probabilities, the likeliest first; an object in JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopLogprobs(pub Vec<(String, f32)>);

impl Serialize for TopLogprobs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, score)| (name, score)))
    }
}

/// Numbers of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Of all prompts.
    pub prompt_tokens: usize,
    /// Drawn for all choices.
    pub completion_tokens: usize,
    /// Both together.
    pub total_tokens: usize,
}

impl Logprobs {
    pub(crate) fn extend(&mut self, other: Self) {
        self.tokens.extend(other.tokens);
        self.token_logprobs.extend(other.token_logprobs);
        self.top_logprobs.extend(other.top_logprobs);
        self.text_offset.extend(other.text_offset);
    }
}

impl Choice {
    /// Appends the next piece.
    pub(crate) fn extend(&mut self, piece: Self) {
        self.text += &piece.text;
        if let Some(logprobs) = piece.logprobs {
            self.logprobs.get_or_insert_default().extend(logprobs);
        }
        self.finish_reason = piece.finish_reason.or(self.finish_reason);
    }
}
