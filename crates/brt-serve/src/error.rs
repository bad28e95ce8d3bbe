//! What can go wrong: with a request, told to its client, and with the server, told to who runs it.

use std::{io, path::PathBuf};

/// Why a server cannot start, or has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A limit that nothing fits into.
    #[error("{name}: expected at least 1, got 0")]
    Limit {
        /// The limit.
        name: &'static str,
    },
    /// A tokenizer of another model.
    #[error("tokenizer: expected one of at most {vocab_size} tokens as the model has, got one of {got}")]
    Vocabulary {
        /// Tokens of the model.
        vocab_size: usize,
        /// Tokens of the tokenizer.
        got: usize,
    },
    /// A key that no client can send.
    #[error("API key: expected 1 to 1024 visible ASCII characters, got {got}")]
    ApiKey {
        /// What is wrong with it; never the key itself.
        got: String,
    },
    /// The address is not this machine's, or another program listens there.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The system gives no threads or signals.
    #[error("cannot start the server")]
    Start {
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The folder of saved sessions cannot be used.
    #[error("{path}: cannot keep sessions there")]
    Sessions {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Another server keeps its sessions there.
    #[error("{path}: expected a folder that no other server uses, got one that is in use")]
    SessionsInUse {
        /// The folder.
        path: PathBuf,
    },
    /// Sessions are lost.
    #[error("sessions: expected all to be saved, got {failed} that could not be")]
    SaveSessions {
        /// How many.
        failed: usize,
    },
    /// The thread that owns the model has panicked.
    #[error("worker: expected it to run until the server stops, got an end before")]
    WorkerEnded,
}

/// Why a request is refused or has ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The body is no JSON object.
    #[error("body: expected a JSON object, got {got}")]
    Json {
        /// What is wrong with it.
        got: String,
    },
    /// A field that is not known.
    #[error("{field}: expected a known field, got an unknown one{hint}")]
    UnknownField {
        /// Its name.
        field: String,
        /// The one that may be meant.
        hint: String,
    },
    /// A value that does not fit.
    #[error("{param}: expected {expected}, got {got}")]
    Value {
        /// The field.
        param: String,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// Another model.
    #[error("model: expected `{expected}`, got `{got}`")]
    Model {
        /// The one that is served.
        expected: String,
        /// The one that was asked for.
        got: String,
    },
    /// No key, or a wrong one.
    #[error("authorization: expected `Bearer` and the key of this server, got {got}")]
    ApiKey {
        /// What there is.
        got: &'static str,
    },
    /// Nothing is there.
    #[error("path: expected /v1/completions, /v1/models or /healthz, got {path}")]
    Path {
        /// What was asked for.
        path: String,
    },
    /// It is there, but not for this method.
    #[error("method: expected {expected} for this path, got {got}")]
    Method {
        /// The methods of this path.
        expected: &'static str,
        /// The method.
        got: String,
    },
    /// Another kind of body.
    #[error("content-type: expected application/json, got {got}")]
    ContentType {
        /// What the header says.
        got: String,
    },
    /// A body over the limit.
    #[error("body: expected at most {max} bytes, got more")]
    BodyTooLong {
        /// The limit.
        max: usize,
    },
    /// A body that does not come.
    #[error("body: expected all of it within {secs} seconds, got only a part")]
    BodyTooSlow {
        /// The limit.
        secs: u64,
    },
    /// A body that broke off.
    #[error("body: expected all that was announced, got a broken connection")]
    BodyBroken,
    /// No answer in time.
    #[error("request: expected to be done within {secs} seconds, got no end; ask for fewer tokens")]
    TooSlow {
        /// The limit.
        secs: u64,
    },
    /// The client does not read what it asked for.
    #[error("connection: expected a client that reads within {secs} seconds, got a slower one")]
    SlowReader {
        /// The limit.
        secs: u64,
    },
    /// Another request uses the session.
    #[error("session: expected one that is idle, got `{name}`, which another request is using")]
    SessionBusy {
        /// Its name.
        name: String,
    },
    /// No room for one more session.
    #[error("session: expected at most {max} at once, got one more")]
    TooManySessions {
        /// The limit.
        max: usize,
    },
    /// The session that would give way cannot be saved.
    #[error(
        "session: expected one that gives way to be saved, got one that cannot be; the server's log says why"
    )]
    SessionNotSaved,
    /// The saved state cannot be read.
    #[error("session: expected a saved state of this model, got a file that is none; use another name")]
    SessionFile,
    /// Too many requests wait.
    #[error("requests: expected at most {max} to wait, got one more; try again later")]
    TooManyRequests {
        /// The limit.
        max: usize,
    },
    /// Too many connections are open.
    #[error("connections: expected at most {max} at once, got one more; try again later")]
    TooManyConnections {
        /// The limit.
        max: usize,
    },
    /// The server is shutting down.
    #[error("server: expected to go on, got a signal to stop")]
    Stopping,
    /// The model has computed no numbers.
    #[error("model: expected finite numbers, got others; its weights or the session's state may be damaged")]
    NotFinite,
    /// The worker thread is gone.
    #[error("server: expected a running model, got one that has failed")]
    Failed,
}

impl RequestError {
    /// Returns the error of a value that does not fit.
    pub(crate) fn value(param: impl ToString, expected: impl ToString, got: impl ToString) -> Self {
        Self::Value { param: param.to_string(), expected: expected.to_string(), got: got.to_string() }
    }

    /// Returns the status of HTTP, and the code by which a program tells the error.
    pub fn status(&self) -> (u16, &'static str) {
        match self {
            Self::Json { .. } => (400, "invalid_json"),
            Self::UnknownField { .. } => (400, "unknown_field"),
            Self::Value { .. } => (400, "invalid_value"),
            Self::BodyBroken => (400, "incomplete_body"),
            Self::ApiKey { .. } => (401, "invalid_api_key"),
            Self::Model { .. } => (404, "model_not_found"),
            Self::Path { .. } => (404, "not_found"),
            Self::Method { .. } => (405, "method_not_allowed"),
            Self::BodyTooSlow { .. } => (408, "body_timeout"),
            Self::TooSlow { .. } => (408, "request_timeout"),
            Self::SlowReader { .. } => (408, "slow_reader"),
            Self::SessionBusy { .. } => (409, "session_busy"),
            Self::SessionFile => (409, "session_unreadable"),
            Self::BodyTooLong { .. } => (413, "body_too_long"),
            Self::ContentType { .. } => (415, "unsupported_media_type"),
            Self::TooManySessions { .. } => (429, "too_many_sessions"),
            Self::TooManyRequests { .. } => (429, "too_many_requests"),
            Self::SessionNotSaved => (500, "session_not_saved"),
            Self::NotFinite => (500, "not_finite"),
            Self::Failed => (500, "worker_failed"),
            Self::TooManyConnections { .. } => (503, "too_many_connections"),
            Self::Stopping => (503, "shutting_down"),
        }
    }

    /// Returns the kind of the error in the words of the protocol.
    pub fn kind(&self) -> &'static str {
        match self.status().0 {
            401 => "authentication_error",
            408 => "timeout_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// Returns whether the same request may succeed in a moment; `None` where the status says it.
    pub(crate) fn may_retry(&self) -> Option<bool> {
        match self {
            Self::SessionBusy { .. } | Self::TooManySessions { .. } | Self::TooManyRequests { .. } => {
                Some(true)
            }
            Self::TooManyConnections { .. } | Self::Stopping => Some(true),
            // What has taken its time once does so again; what is on disk, or computed, stays as it is.
            Self::BodyTooSlow { .. } | Self::TooSlow { .. } | Self::SlowReader { .. } => Some(false),
            Self::SessionFile | Self::SessionNotSaved | Self::NotFinite => Some(false),
            _ => None,
        }
    }

    /// Returns the field that is wrong, where it is one.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::UnknownField { field, .. } => Some(field),
            Self::Value { param, .. } => Some(param),
            Self::Model { .. } => Some("model"),
            Self::SessionBusy { .. } | Self::SessionFile => Some("session"),
            Self::SessionNotSaved | Self::TooManySessions { .. } => Some("session"),
            _ => None,
        }
    }

    /// Returns what a client reads.
    pub fn body(&self) -> serde_json::Value {
        let (_, code) = self.status();
        let (message, kind, param) = (self.to_string(), self.kind(), self.param());
        serde_json::json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
    }
}
