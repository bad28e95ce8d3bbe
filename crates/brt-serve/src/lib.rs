//! HTTP completions from a language model that keeps its state.
//!
//! `POST /v1/completions` with `{"prompt": "...", "max_tokens": 64}` returns the continuation. With `"session": "name"`
//! the state after it stays in memory: the next request of that session sends only what is new, however long the text
//! already is. Tensors are `Send` but not `Sync`: one worker thread owns the model and all sessions.
#![deny(missing_docs)]

mod generation;
mod request;
mod worker;

use std::{io, net::SocketAddr};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use brt_data::Tokenizer;
use brt_lm::LanguageModel;

pub use generation::{Drawn, FinishReason, Generation, GenerationConfig};
pub use request::{CompletionRequest, CompletionResponse, RequestError};
pub use worker::Worker;

/// Serves completions at `address` until SIGINT or SIGTERM. `ready` is told the address once it is listened to.
///
/// # Errors
/// The system's reason where the address cannot be listened to.
pub fn serve(
    model: LanguageModel,
    tokenizer: Tokenizer,
    address: SocketAddr,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let worker = Worker::start(model, tokenizer);
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        ready(listener.local_addr()?);
        axum::serve(listener, router(worker)).with_graceful_shutdown(stopped()).await
    })
}

/// Returns the routes of the server.
pub fn router(worker: Worker) -> Router {
    Router::new().route("/v1/completions", post(complete)).with_state(worker)
}

async fn complete(
    State(worker): State<Worker>,
    request: Result<Json<CompletionRequest>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return failure(rejection.status(), rejection.body_text()),
    };
    match worker.complete(request).await {
        Ok(response) => Json(response).into_response(),
        Err(error @ RequestError::Stopped) => failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Err(error) => failure(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

fn failure(status: StatusCode, message: String) -> Response {
    (status, Json(serde_json::json!({ "error": message }))).into_response()
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        _ = terminated.recv() => (),
    }
}
