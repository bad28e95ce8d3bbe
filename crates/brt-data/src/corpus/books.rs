//! Public-domain works that come with this crate; `corpora/README.md` lists them.

use std::io::Read;

use serde::Deserialize;

use super::{Corpus, Member};
use crate::{DataError, Split};

/// One JSON object per work and line, compressed; made by `corpora/make_books.py`.
const BOOKS: &[u8] = include_bytes!("../../corpora/books.jsonl.zst");

/// One work.
#[derive(Debug, Deserialize)]
struct Work {
    title: String,
    author: String,
    split: Split,
    text: String,
}

/// Lists the works.
pub(super) fn read() -> Result<Corpus, DataError> {
    Ok(Corpus {
        name: "books",
        licence: "public domain",
        origin: "works that come with brt-data, listed in its corpora/README.md".to_owned(),
        members: works(BOOKS)?.into_iter().map(member).collect(),
        skipped: Default::default(),
    })
}

/// Unpacks the works.
fn works(compressed: &[u8]) -> Result<Vec<Work>, DataError> {
    let damaged = || DataError::Embedded { name: "books", expected: "one work per line" };
    let mut text = String::new();
    let decoder = zstd::Decoder::new(compressed);
    decoder.and_then(|mut decoder| decoder.read_to_string(&mut text)).map_err(|_| damaged())?;
    text.lines().map(|line| serde_json::from_str(line).map_err(|_| damaged())).collect()
}

/// Returns a work as a document of its author's group.
fn member(work: Work) -> Member {
    let Work { title, author, split, text } = work;
    let name = format!("{author}: {title}");
    Member { name, group: author, split, licence: None, text: text.into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_books_are_an_error() {
        for damaged in [&BOOKS[..BOOKS.len() / 2], b"no zstd"] {
            let error = works(damaged).unwrap_err().to_string();
            assert_eq!(error, "books: expected one work per line, got damaged data; install the crate again");
        }
    }
}
