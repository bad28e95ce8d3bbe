//! OpenAI completions from a language model that keeps its state.
//!
//! `POST /v1/completions` continues texts. With `"session": "name"` the state after the answer is kept: the next request of
//! that session sends only what is new, however long the text already is.
//!
//! Tensors are `Send` but not `Sync`: one thread, the [`Worker`], owns the model and all states. It reads prompts piece by
//! piece and continues all texts together, one token of each at a time; texts come and go at any token.
#![deny(missing_docs)]

mod completion;
mod error;
mod generation;
mod http;
mod limits;
mod request;
mod response;
mod server;
mod unique;
mod worker;

pub use completion::CompletionStream;
pub use error::{RequestError, ServeError};
pub use generation::{Drawn, FinishReason, Generation, GenerationConfig};
pub use http::{ApiKey, router};
pub use limits::Limits;
pub use request::{CompletionRequest, Prompt};
pub use response::{Choice, Completion, Logprobs, TopLogprobs, Usage};
pub use server::{serve, serve_on};
pub use worker::{Load, Worker, WorkerConfig};
