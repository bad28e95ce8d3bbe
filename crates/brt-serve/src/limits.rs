//! What the server takes at most.

use std::time::Duration;

use crate::ServeError;

/// Limits of a server; each is at least 1 (second).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Tokens of all prompts of a request.
    pub max_prompt_tokens: usize,
    /// Tokens that a request may ask for, for each choice.
    pub max_tokens: usize,
    /// Scores in an answer: tokens, of the prompt with `echo`, and drawn with `logprobs` and without `stream`, times `n` and
    /// `1 + logprobs`.
    pub max_answer_scores: usize,
    /// Texts that are continued at once.
    pub max_running: usize,
    /// Requests that wait for their turn; one more is refused.
    pub max_waiting: usize,
    /// Open connections; one more is refused.
    pub max_connections: usize,
    /// Sessions in memory.
    pub max_sessions: usize,
    /// Sessions in the folder of saved ones.
    pub max_saved_sessions: usize,
    /// After this time without a request a session leaves the memory.
    pub session_idle: Duration,
    /// Within this time the head of a request is there; an idle connection is closed after it.
    pub head_time: Duration,
    /// Within this time the body of a request is there.
    pub body_time: Duration,
    /// After this time a client that reads nothing of its answer is given up.
    pub stall_time: Duration,
    /// Within this time a request has its whole answer.
    pub request_time: Duration,
    /// For this long running requests go on after the signal to stop.
    pub shutdown_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 << 20,
            max_prompt_tokens: 1 << 20,
            max_tokens: 4096,
            max_answer_scores: 1 << 21,
            max_running: 32,
            max_waiting: 64,
            max_connections: 256,
            max_sessions: 64,
            max_saved_sessions: 1024,
            session_idle: Duration::from_secs(3600),
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(30),
            stall_time: Duration::from_secs(30),
            request_time: Duration::from_secs(600),
            shutdown_time: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Checks that something can be served at all.
    ///
    /// # Errors
    /// The first limit that is 0.
    pub fn validate(&self) -> Result<(), ServeError> {
        let counts = [
            ("max_body_bytes", self.max_body_bytes),
            ("max_prompt_tokens", self.max_prompt_tokens),
            ("max_tokens", self.max_tokens),
            ("max_answer_scores", self.max_answer_scores),
            ("max_running", self.max_running),
            ("max_waiting", self.max_waiting),
            ("max_connections", self.max_connections),
            ("max_sessions", self.max_sessions),
            ("max_saved_sessions", self.max_saved_sessions),
        ];
        let times = [
            ("session_idle", self.session_idle),
            ("head_time", self.head_time),
            ("body_time", self.body_time),
            ("stall_time", self.stall_time),
            ("request_time", self.request_time),
            ("shutdown_time", self.shutdown_time),
        ];
        let count = counts.into_iter().find(|(_, count)| *count == 0).map(|(name, _)| name);
        let time = times.into_iter().find(|(_, time)| time.is_zero()).map(|(name, _)| name);
        count.or(time).map_or(Ok(()), |name| Err(ServeError::Limit { name }))
    }
}
