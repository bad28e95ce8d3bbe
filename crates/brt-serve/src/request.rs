//! What clients send and get.

use brt_lm::SampleConfig;
use serde::{Deserialize, Serialize};

/// Most sessions whose states are kept.
pub(crate) const MAX_SESSIONS: usize = 1024;
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
    pub seed: u64,
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
    #[error("prompt: expected at least one token, got none")]
    EmptyPrompt,
    /// A text that the tokenizer cannot read.
    #[error("prompt: {0}")]
    Prompt(brt_data::TokenizerError),
    /// Too many tokens.
    #[error("max_tokens: expected 1 .. {MAX_TOKENS}, got {0}")]
    MaxTokens(usize),
    /// Numbers that are no distribution.
    #[error(transparent)]
    Sample(#[from] brt_lm::ConfigError),
    /// Too many texts to remember.
    #[error("session: expected at most {MAX_SESSIONS} sessions, got one more; use one of those or none")]
    TooManySessions,
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
        Ok(self.sample().validate()?)
    }

    /// Returns how the next token is drawn.
    pub(crate) fn sample(&self) -> SampleConfig {
        SampleConfig { temperature: self.temperature, top_k: self.top_k, ..SampleConfig::default() }
    }
}
