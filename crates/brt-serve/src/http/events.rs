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
    time::{sleep, timeout_at},
};

use crate::{Completion, CompletionStream, worker::Receipt};

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

/// What the connection takes; the receipt is signed when it does.
struct Unsent {
    bytes: Bytes,
    receipt: Option<Receipt>,
}

impl From<Bytes> for Unsent {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, receipt: None }
    }
}

/// The body of a response: what a task sends.
struct Events(Receiver<Unsent>);

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|unsent| {
            unsent.map(|Unsent { bytes, receipt }| {
                if let Some(receipt) = receipt {
                    receipt.sign();
                }
                Ok(Frame::data(bytes))
            })
        })
    }
}

/// Returns the response whose body is the answer as it comes.
pub(super) fn response(stream: CompletionStream, include_usage: bool) -> Response {
    let (events, body) = channel(MAX_UNSENT);
    tokio::spawn(pump(stream, events, include_usage));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::new(Events(body))).into_response()
}

/// Sends the pieces until the end, or until the client has gone or was too slow.
async fn pump(mut stream: CompletionStream, events: Sender<Unsent>, include_usage: bool) {
    let deadline = stream.deadline();
    let send = async |unsent: Unsent| matches!(timeout_at(deadline, events.send(unsent)).await, Ok(Ok(())));
    loop {
        let next = tokio::select! {
            next = stream.next_unsigned() => next,
            () = events.closed() => return,
            () = sleep(KEEP_ALIVE) => match send(Bytes::from_static(b": waiting\n\n").into()).await {
                true => continue,
                false => return,
            }
        };
        let unsent = match next {
            Ok(Some((piece, receipt))) if include_usage => {
                Unsent { bytes: event(&WithoutUsage { piece: &piece, usage: () }), receipt }
            }
            Ok(Some((piece, receipt))) => Unsent { bytes: event(&piece), receipt },
            Ok(None) => break,
            Err(error) => {
                send(event(&error.body()).into()).await;
                return;
            }
        };
        if !send(unsent).await {
            return;
        }
    }
    let has_usage = !include_usage || send(event(&stream.end()).into()).await;
    if has_usage && send(Bytes::from_static(b"data: [DONE]\n\n").into()).await {
        // The request is one that runs until the connection has all of its answer.
        let _ = timeout_at(deadline, events.reserve_many(MAX_UNSENT)).await;
    }
}

fn event(value: &impl Serialize) -> Bytes {
    let mut bytes = b"data: ".to_vec();
    // Plain lists and texts; an empty event would be ignored.
    let _ = serde_json::to_writer(&mut bytes, value);
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}
