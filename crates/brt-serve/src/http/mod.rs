//! The routes of the server.

mod api_key;
mod body;
mod events;
mod timed;

use std::time::Instant;

use axum::{
    Json, Router,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

pub use self::api_key::ApiKey;
pub(crate) use self::timed::Timed;
use crate::{CompletionRequest, RequestError, Worker};

/// Returns the routes of a server. With a key, all but `/healthz` ask for it.
pub fn router(worker: Worker, key: Option<ApiKey>) -> Router {
    let completions = post(complete).fallback(|method: Method| wrong_method("POST", method));
    let only_get = |method: Method| wrong_method("GET", method);
    let mut router = Router::new()
        .route("/v1/completions", completions)
        .route("/v1/models", get(models).fallback(only_get))
        .route("/v1/models/{id}", get(model).fallback(only_get))
        .fallback(no_route);
    if let Some(key) = key {
        router = router.layer(from_fn_with_state(key, api_key::check));
    }
    router.route("/healthz", get(health).fallback(only_get)).layer(from_fn(log)).with_state(worker)
}

async fn complete(State(worker): State<Worker>, request: Request) -> Result<Response, RequestError> {
    worker.check()?;
    let body = body::read(request, worker.limits()).await?;
    let request = CompletionRequest::from_json(&body)?;
    let (is_streamed, include_usage) = (request.stream, request.include_usage);
    let stream = worker.stream(request).await?;
    match is_streamed {
        true => Ok(events::response(stream, include_usage)),
        false => Ok(Json(stream.collect().await?).into_response()),
    }
}

fn describe(worker: &Worker) -> Value {
    json!({"id": worker.name(), "object": "model", "created": worker.created(), "owned_by": "brt"})
}

async fn models(State(worker): State<Worker>) -> Json<Value> {
    Json(json!({"object": "list", "data": [describe(&worker)]}))
}

async fn model(
    State(worker): State<Worker>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, RequestError> {
    let id = id.map_or_else(|error| error.to_string(), |Path(id)| id);
    match id == worker.name() {
        true => Ok(Json(describe(&worker))),
        false => Err(RequestError::Model { expected: worker.name().to_owned(), got: id }),
    }
}

async fn health(State(worker): State<Worker>) -> Response {
    let load = worker.load();
    let (status, word) = match worker.check() {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(RequestError::Stopping) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    let body =
        json!({"status": word, "running": load.running, "waiting": load.waiting, "sessions": load.sessions});
    (status, Json(body)).into_response()
}

async fn no_route(uri: Uri) -> RequestError {
    RequestError::Path { path: uri.path().chars().take(100).collect() }
}

async fn wrong_method(expected: &'static str, got: Method) -> Response {
    let mut response = RequestError::Method { expected, got: got.to_string() }.into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(expected));
    response
}

async fn log(request: Request, next: Next) -> Response {
    let (method, path, start) = (request.method().clone(), request.uri().path().to_owned(), Instant::now());
    let response = next.run(request).await;
    tracing::info!(%method, path, status = response.status().as_u16(), secs = start.elapsed().as_secs_f64());
    response
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        let (status, _) = self.status();
        let (may_retry, asks_key) = (self.may_retry(), status == 401);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if asks_key {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        match may_retry {
            Some(true) => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"))),
            Some(false) => drop(headers.insert("x-should-retry", HeaderValue::from_static("false"))),
            None => (),
        }
        response
    }
}
