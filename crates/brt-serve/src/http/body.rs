//! The body of a request: JSON, not too long and not too slow.

use std::pin::pin;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, header},
};
use hyper::body::Body as _;
use tokio::time::timeout;

use crate::{Limits, RequestError};

/// A body that is too long is read on so far: a client that is still sending does not see an answer before it has.
const MAX_DISCARDED: u64 = 64 << 20;

/// Returns the body.
pub(super) async fn read(request: Request, limits: &Limits) -> Result<Vec<u8>, RequestError> {
    let (parts, body) = request.into_parts();
    let content_type = check_type(&parts.headers);
    let too_slow = RequestError::BodyTooSlow { secs: limits.body_time.as_secs() };
    let body = timeout(limits.body_time, collect(body, limits.max_body_bytes)).await.map_err(|_| too_slow)?;
    content_type.and(body)
}

/// Only this type: a page of another origin cannot send it without asking first. One that has its own name point
/// here can; only a key keeps it out.
fn check_type(headers: &HeaderMap) -> Result<(), RequestError> {
    let value = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let essence = value.as_ref().map(|value| value.split(';').next().unwrap_or_default().trim());
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case("application/json") => Ok(()),
        other => Err(RequestError::ContentType { got: other.unwrap_or("none").chars().take(100).collect() }),
    }
}

async fn collect(body: Body, max: usize) -> Result<Vec<u8>, RequestError> {
    let mut body = pin!(body);
    let announced = body.size_hint().lower();
    let too_long = || RequestError::BodyTooLong { max };
    if announced > MAX_DISCARDED.max(max as u64) {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(announced.min(max as u64) as usize);
    let mut len = 0;
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let data: Bytes = frame.map_err(|_| RequestError::BodyBroken)?.into_data().unwrap_or_default();
        len += data.len() as u64;
        if len <= max as u64 {
            bytes.extend_from_slice(&data);
        } else if len > MAX_DISCARDED {
            break;
        } else {
            bytes = vec![];
        }
    }
    if len > max as u64 { Err(too_long()) } else { Ok(bytes) }
}
