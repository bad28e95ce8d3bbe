//! Answers that come piece by piece, as server-sent events.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use serde::Serialize;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::sleep,
};

use crate::{Completion, CompletionStream};

/// After this time without a piece a comment is sent: it shows that the server is there, and whether the client is.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Pieces that wait for their connection.
const MAX_UNSENT: usize = 16;

/// A piece that says that it knows no numbers of tokens, as the protocol wants where the last one does.
#[derive(Serialize)]
struct WithoutUsage<'a> {
    #[serde(flatten)]
    piece: &'a Completion,
    usage: (),
}

/// The body of a response: what a task sends.
struct Events(Receiver<Bytes>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Returns the response whose body is the answer as it comes.
pub(super) fn response(stream: CompletionStream, include_usage: bool) -> Response {
    let (events, body) = channel(MAX_UNSENT);
    tokio::spawn(pump(stream, events, include_usage));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::new(Events(body))).into_response()
}

/// Sends the pieces until the end, or until the client has gone.
async fn pump(mut stream: CompletionStream, events: Sender<Bytes>, include_usage: bool) {
    loop {
        let next = tokio::select! {
            next = stream.next() => next,
            () = events.closed() => return,
            () = sleep(KEEP_ALIVE) => {
                if events.send(Bytes::from_static(b": waiting\n\n")).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let event = match &next {
            Ok(Some(piece)) if include_usage => event(&WithoutUsage { piece, usage: () }),
            Ok(Some(piece)) => event(piece),
            Ok(None) => return end(&stream, &events, include_usage).await,
            Err(error) => event(&error.body()),
        };
        if events.send(event).await.is_err() || next.is_err() {
            return;
        }
    }
}

async fn end(stream: &CompletionStream, events: &Sender<Bytes>, include_usage: bool) {
    if include_usage {
        let _ = events.send(event(&stream.end())).await; // The client may have gone.
    }
    let _ = events.send(Bytes::from_static(b"data: [DONE]\n\n")).await;
}

fn event(value: &impl Serialize) -> Bytes {
    let mut bytes = b"data: ".to_vec();
    // Plain lists and texts; an empty event would be ignored.
    let _ = serde_json::to_writer(&mut bytes, value);
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}
