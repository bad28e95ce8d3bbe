//! What clients send and get.

use serde::{Deserialize, Serialize};

/// Most tokens that one request may ask for.
pub(crate) const MAX_TOKENS: usize = 65_536;

/// Body of `POST /v1/completions`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompletionRequest {
    /// Text to continue; in a session, what is new since the last request.
    pub prompt: String,
    /// Number of tokens to draw.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
    /// Divides the logits; 0 takes the likeliest token.
    #[serde(default = "default_temperature")]
    pub temperature: f64,
    /// Draw from this many likeliest tokens only.
    #[serde(default)]
    pub top_k: Option<i64>,
    /// Seed of the draws.
    #[serde(default)]
    pub seed: i64,
    /// Name under which the state is kept.
    #[serde(default)]
    pub session: Option<String>,
}

fn default_max_tokens() -> usize {
    64
}

fn default_temperature() -> f64 {
    1.
}

/// Body of a successful answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionResponse {
    /// The continuation; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Number of tokens that the state has read so far, this answer included.
    pub num_tokens: usize,
}

/// What a request can get wrong.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nothing to continue.
    #[error("prompt: expected at least one byte, got none")]
    EmptyPrompt,
    /// Too many tokens.
    #[error("max_tokens: expected 1 .. {MAX_TOKENS}, got {0}")]
    MaxTokens(usize),
    /// A temperature that no distribution has.
    #[error("temperature: expected a number of at least 0, got {0}")]
    Temperature(f64),
    /// A number of tokens to draw from that is none.
    #[error("top_k: expected at least 1, got {0}")]
    TopK(i64),
    /// The worker thread is gone.
    #[error("the server is shutting down")]
    Stopped,
}

impl CompletionRequest {
    /// Checks the values.
    pub(crate) fn validate(&self) -> Result<(), RequestError> {
        if self.prompt.is_empty() {
            return Err(RequestError::EmptyPrompt);
        }
        if !(1..=MAX_TOKENS).contains(&self.max_tokens) {
            return Err(RequestError::MaxTokens(self.max_tokens));
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.) {
            return Err(RequestError::Temperature(self.temperature));
        }
        match self.top_k {
            Some(k) if k < 1 => Err(RequestError::TopK(k)),
            _ => Ok(()),
        }
    }
}
