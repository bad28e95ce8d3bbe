//! The key that clients must know.

use std::fmt;

use axum::{
    extract::{Request, State},
    http::header::AUTHORIZATION,
    middleware::Next,
    response::Response,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{RequestError, ServeError};

/// Longest key, in bytes.
const MAX_LEN: usize = 1024;

/// The hash of a key: the key itself is not kept.
#[derive(Clone)]
pub struct ApiKey {
    digest: [u8; 32],
}

impl ApiKey {
    /// Returns the key in a text; white space around it, such as a file's last line feed, does not belong to it.
    ///
    /// # Errors
    /// No key, or one that does not fit into a header.
    pub fn new(text: &str) -> Result<Self, ServeError> {
        let key = text.trim();
        let error = |got: &str| ServeError::ApiKey { got: got.to_owned() };
        match key.len() {
            0 => Err(error("none")),
            1..=MAX_LEN if key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Self { digest: digest(key.as_bytes()) })
            }
            1..=MAX_LEN => Err(error("others")),
            len => Err(error(&format!("{len} bytes"))),
        }
    }

    /// Returns whether this is the key, in a time that does not tell how much of it is right.
    pub fn is(&self, key: &[u8]) -> bool {
        self.digest.ct_eq(&digest(key)).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Lets requests with the key through.
pub(super) async fn check(
    State(key): State<ApiKey>,
    request: Request,
    next: Next,
) -> Result<Response, RequestError> {
    let header = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    let presented = header.and_then(|value| {
        let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
        let (scheme, key) = value.split_at(end);
        scheme.eq_ignore_ascii_case(b"bearer").then(|| key.trim_ascii())
    });
    match (header, presented) {
        (_, Some(presented)) if key.is(presented) => Ok(next.run(request).await),
        (None, _) => Err(RequestError::ApiKey { got: "none" }),
        (_, Some(b"")) => Err(RequestError::ApiKey { got: "no key" }),
        (_, Some(_)) => Err(RequestError::ApiKey { got: "another key" }),
        (_, None) => Err(RequestError::ApiKey { got: "another scheme" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_itself_alone() {
        let key = ApiKey::new(" secret\n").unwrap();
        assert!(key.is(b"secret"));
        for other in ["", "secre", "secret ", "Secret", "secrets"] {
            assert!(!key.is(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{key:?}"), "ApiKey");
        let cases =
            [("", "none"), (" \n", "none"), ("two words", "others"), (&"x".repeat(1025), "1025 bytes")];
        for (text, got) in cases {
            let expected = format!("API key: expected 1 to 1024 visible ASCII characters, got {got}");
            assert_eq!(ApiKey::new(text).unwrap_err().to_string(), expected);
        }
    }
}
