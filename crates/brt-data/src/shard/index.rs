//! The index of a shard: where its documents are. Little endian, read where it lies, never parsed as a whole.
//!
//! ```text
//! header     8 bytes `brtindex`, then u64 each: version, number of documents, of long spans, of bytes of names
//! documents  u64 each: end of the tokens, bytes, words, end of the name, end of the group
//! long spans u64 each: token, bytes, words; spans that do not fit into two bytes
//! names      name and group of each document, one after another, UTF-8
//! ```
//! An end is the start of what follows; the first start is 0.

use super::{Bytes, SpanCode};
use crate::Span;

const MAGIC: &[u8; 8] = b"brtindex";
const VERSION: u64 = 1;
const HEADER_LEN: usize = 40;
const DOCUMENT_LEN: usize = 40;
const LONG_SPAN_LEN: usize = 24;

/// One document of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry<'a> {
    pub(crate) name: &'a str,
    pub(crate) group: &'a str,
    pub(crate) first_token: usize,
    pub(crate) num_tokens: usize,
    pub(crate) span: Span,
}

/// An index under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct IndexBuilder {
    documents: Vec<u8>,
    long_spans: Vec<u8>,
    names: Vec<u8>,
    num_documents: u64,
}

impl IndexBuilder {
    /// Adds a document whose tokens end at `end_token`.
    pub(crate) fn push(&mut self, name: &str, group: &str, end_token: u64, span: Span) {
        self.names.extend_from_slice(name.as_bytes());
        let name_end = self.names.len() as u64;
        self.names.extend_from_slice(group.as_bytes());
        let group_end = self.names.len() as u64;
        for field in [end_token, span.num_bytes, span.num_words, name_end, group_end] {
            self.documents.extend_from_slice(&field.to_le_bytes());
        }
        self.num_documents += 1;
    }

    /// Adds the span of a token that [`SpanCode`] has no room for.
    pub(crate) fn push_long_span(&mut self, token_idx: u64, span: Span) {
        for field in [token_idx, span.num_bytes, span.num_words] {
            self.long_spans.extend_from_slice(&field.to_le_bytes());
        }
    }

    /// Returns the number of documents.
    pub(crate) fn num_documents(&self) -> u64 {
        self.num_documents
    }

    /// Returns the number of long spans, for [`IndexBuilder::truncate_long_spans`].
    pub(crate) fn num_long_spans(&self) -> usize {
        self.long_spans.len() / LONG_SPAN_LEN
    }

    /// Forgets the long spans after the first `count`.
    pub(crate) fn truncate_long_spans(&mut self, count: usize) {
        self.long_spans.truncate(count * LONG_SPAN_LEN);
    }

    /// Returns the index.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let counts = [VERSION, self.num_documents, self.num_long_spans() as u64, self.names.len() as u64];
        for count in counts {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes.extend_from_slice(&self.documents);
        bytes.extend_from_slice(&self.long_spans);
        bytes.extend_from_slice(&self.names);
        bytes
    }
}

/// An index in a file or in memory.
#[derive(Debug)]
pub(crate) struct Index {
    bytes: Bytes,
    num_documents: usize,
    num_long_spans: usize,
}

impl Index {
    /// Checks the header and the lengths, not the documents; or says what is wrong.
    pub(crate) fn new(bytes: Bytes) -> Result<Self, String> {
        let header = bytes.get(..HEADER_LEN).ok_or("a file shorter than its header")?;
        if &header[..8] != MAGIC {
            return Err("a file that is no index".into());
        }
        let [version, num_documents, num_long_spans, names_len] =
            [8, 16, 24, 32].map(|at| number(header, at));
        if version != VERSION {
            return Err(format!("an index of version {version}, not {VERSION}"));
        }
        let expected = num_documents
            .checked_mul(DOCUMENT_LEN as u64)
            .and_then(|len| len.checked_add(num_long_spans.checked_mul(LONG_SPAN_LEN as u64)?))
            .and_then(|len| len.checked_add(names_len)?.checked_add(HEADER_LEN as u64));
        if expected != Some(bytes.len() as u64) {
            return Err(format!("{} bytes, which do not hold its {num_documents} documents", bytes.len()));
        }
        let (num_documents, num_long_spans) = (num_documents as usize, num_long_spans as usize);
        Ok(Self { bytes, num_documents, num_long_spans })
    }

    /// Returns the number of documents.
    pub(crate) fn num_documents(&self) -> usize {
        self.num_documents
    }

    /// Returns a document; `None` where the index contradicts itself there.
    pub(crate) fn entry(&self, document_idx: usize) -> Option<IndexEntry<'_>> {
        let [end_token, num_bytes, num_words, name_end, group_end] = self.fields(document_idx);
        let [first_token, .., name_start] = match document_idx {
            0 => [0; 5],
            _ => self.fields(document_idx - 1),
        };
        let names = &self.bytes[HEADER_LEN + self.num_documents * DOCUMENT_LEN..]
            [self.num_long_spans * LONG_SPAN_LEN..];
        let text = |start: u64, end: u64| std::str::from_utf8(names.get(start as usize..end as usize)?).ok();
        Some(IndexEntry {
            name: text(name_start, name_end)?,
            group: text(name_end, group_end)?,
            first_token: first_token as usize,
            num_tokens: end_token.checked_sub(first_token)? as usize,
            span: Span { num_bytes, num_words },
        })
    }

    /// Returns the number of tokens of all documents.
    pub(crate) fn num_tokens(&self) -> u64 {
        self.num_documents.checked_sub(1).map_or(0, |last| self.fields(last)[0])
    }

    /// Returns the span of a token from its code.
    pub(crate) fn span(&self, token_idx: usize, code: SpanCode) -> Span {
        code.span().unwrap_or_else(|| self.long_span(token_idx as u64))
    }

    /// Returns the long span of a token; nothing where the index has none, which only damage can do.
    fn long_span(&self, token_idx: u64) -> Span {
        let start = HEADER_LEN + self.num_documents * DOCUMENT_LEN;
        let spans = &self.bytes[start..][..self.num_long_spans * LONG_SPAN_LEN];
        let (spans, _) = spans.as_chunks::<LONG_SPAN_LEN>();
        match spans.binary_search_by_key(&token_idx, |span| number(span, 0)) {
            Ok(i) => Span { num_bytes: number(&spans[i], 8), num_words: number(&spans[i], 16) },
            Err(_) => Span::default(),
        }
    }

    fn fields(&self, document_idx: usize) -> [u64; 5] {
        assert!(document_idx < self.num_documents, "expected a document below {}", self.num_documents);
        let record = &self.bytes[HEADER_LEN + document_idx * DOCUMENT_LEN..][..DOCUMENT_LEN];
        [0, 8, 16, 24, 32].map(|at| number(record, at))
    }
}

/// Returns the number at a place that the caller knows to be there.
fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(num_bytes: u64, num_words: u64) -> Span {
        Span { num_bytes, num_words }
    }

    fn index() -> Vec<u8> {
        let mut builder = IndexBuilder::default();
        builder.push("a", "é", 7, span(9, 2));
        builder.push("", "", 7, span(0, 0));
        builder.push_long_span(8, span(70_000, 3));
        builder.push("third", "é", 20, span(70_020, 5));
        builder.build()
    }

    #[test]
    fn what_was_pushed_comes_back() {
        let index = Index::new(Bytes::Memory(index())).unwrap();
        assert_eq!((index.num_documents(), index.num_tokens()), (3, 20));
        let entry = IndexEntry { name: "a", group: "é", first_token: 0, num_tokens: 7, span: span(9, 2) };
        assert_eq!(index.entry(0), Some(entry));
        assert_eq!(index.entry(1).map(|e| (e.name, e.group, e.num_tokens)), Some(("", "", 0)));
        assert_eq!(index.entry(2).map(|e| (e.name, e.first_token, e.num_tokens)), Some(("third", 7, 13)));
        assert_eq!(index.span(8, SpanCode::new(span(70_000, 3))), span(70_000, 3));
        assert_eq!(index.span(9, SpanCode::new(span(4, 1))), span(4, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn damaged_indexes_never_panic(at in 0usize..200, byte: u8, cut in 0usize..220, any in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut damaged = index();
            let len = damaged.len();
            damaged[at % len] = byte;
            damaged.truncate(cut);
            for bytes in [damaged, any] {
                if let Ok(index) = Index::new(Bytes::Memory(bytes)) {
                    for document_idx in 0..index.num_documents() {
                        index.entry(document_idx);
                    }
                    index.span(8, SpanCode::LONG);
                }
            }
        }
    }
}
