//! `brt serve`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use brt_serve::Limits;
use clap::Args;

use super::TextModelArguments;

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    pub(crate) model: TextModelArguments,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// File with the key that clients must send [default: the variable BRT_API_KEY, or no key]
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Folder in which sessions outlast the server [default: they end with it]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) sessions: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

/// What is served at most; the defaults are those of [`Limits`].
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArguments {
    /// Bytes of a request's body
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_body_bytes, value_parser = at_least_1)]
    max_body_bytes: usize,
    /// Tokens of all prompts of a request
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_prompt_tokens, value_parser = at_least_1)]
    max_prompt_tokens: usize,
    /// Tokens that a request may ask for
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_tokens, value_parser = at_least_1)]
    max_tokens: usize,
    /// Scores in an answer: tokens (of the prompt with echo; drawn with logprobs, without stream) times n and 1 + logprobs
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_answer_scores, value_parser = at_least_1)]
    max_answer_scores: usize,
    /// Texts that are continued at once
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_running, value_parser = at_least_1)]
    max_running: usize,
    /// Requests that wait for their turn
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_waiting, value_parser = at_least_1)]
    max_waiting: usize,
    /// Open connections
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_connections, value_parser = at_least_1)]
    max_connections: usize,
    /// Sessions in memory; the one not used for longest gives way
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_sessions, value_parser = at_least_1)]
    max_sessions: usize,
    /// Sessions in the folder; the one written first gives way
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_saved_sessions, value_parser = at_least_1)]
    max_saved_sessions: usize,
    /// Seconds without a request after which a session leaves the memory
    #[arg(long, value_name = "N", default_value_t = Limits::default().session_idle.as_secs(), value_parser = seconds)]
    session_idle_secs: u64,
    /// Seconds for the head of a request, and between two requests of a connection
    #[arg(long, value_name = "N", default_value_t = Limits::default().head_time.as_secs(), value_parser = seconds)]
    head_secs: u64,
    /// Seconds for the body of a request
    #[arg(long, value_name = "N", default_value_t = Limits::default().body_time.as_secs(), value_parser = seconds)]
    body_secs: u64,
    /// Seconds after which a client that reads nothing of its answer is given up
    #[arg(long, value_name = "N", default_value_t = Limits::default().stall_time.as_secs(), value_parser = seconds)]
    stall_secs: u64,
    /// Seconds for a request and its whole answer
    #[arg(long, value_name = "N", default_value_t = Limits::default().request_time.as_secs(), value_parser = seconds)]
    request_secs: u64,
    /// Seconds for which running requests go on after the signal to stop; a second signal ends them at once
    #[arg(long, value_name = "N", default_value_t = Limits::default().shutdown_time.as_secs(), value_parser = seconds)]
    shutdown_secs: u64,
}

impl LimitArguments {
    /// Returns the limits.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_body_bytes: self.max_body_bytes,
            max_prompt_tokens: self.max_prompt_tokens,
            max_tokens: self.max_tokens,
            max_answer_scores: self.max_answer_scores,
            max_running: self.max_running,
            max_waiting: self.max_waiting,
            max_connections: self.max_connections,
            max_sessions: self.max_sessions,
            max_saved_sessions: self.max_saved_sessions,
            session_idle: Duration::from_secs(self.session_idle_secs),
            head_time: Duration::from_secs(self.head_secs),
            body_time: Duration::from_secs(self.body_secs),
            stall_time: Duration::from_secs(self.stall_secs),
            request_time: Duration::from_secs(self.request_secs),
            shutdown_time: Duration::from_secs(self.shutdown_secs),
        }
    }
}

/// More would not be a limit, and overflow where it is added to.
const MAX_COUNT: usize = 1 << 40;

fn at_least_1(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX_COUNT).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to {MAX_COUNT}"))
}

fn seconds(text: &str) -> Result<u64, String> {
    const YEAR: u64 = 365 * 24 * 3600;
    let number = text.parse().ok().filter(|number| (1..=YEAR).contains(number));
    number.ok_or_else(|| format!("expected a number of seconds from 1 to {YEAR}"))
}
