//! Shards: files of tokens, read where they lie on the disk.
//!
//! A corpus is cut into shards, each of some hundred MiB of text in the order of the input. A shard has, for each split
//! that has documents in it, `NAME.SPLIT.tokens` (the tokens of all its documents one after another, two or four bytes
//! each, little endian), `NAME.SPLIT.index` (where the documents are) and, unless tokens are bytes, `NAME.SPLIT.spans`
//! (how many bytes and words each token stands for).

mod files;
mod index;
mod reader;
mod writer;

pub use files::FileRecord;
pub(crate) use files::{Bytes, copy_whole, map};
pub(crate) use index::{Index, IndexBuilder};
pub(crate) use reader::Shard;
pub(crate) use writer::{ShardWriter, TokenizedPiece};

use crate::Span;

/// Number of bytes of a token in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Narrow = 2,
    Wide = 4,
}

impl Width {
    /// Returns the width of the tokens of a vocabulary.
    pub(crate) fn of(vocab_size: usize) -> Self {
        if vocab_size <= 1 << 16 { Self::Narrow } else { Self::Wide }
    }
}

/// The span of a token in two bytes: 12 bits of bytes and 4 bits of words. Longer ones are in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanCode(pub(crate) u16);

impl SpanCode {
    /// Says that the span is in the index.
    pub(crate) const LONG: Self = Self(u16::MAX);

    /// Returns the code of a span.
    pub(crate) fn new(span: Span) -> Self {
        match (span.num_bytes, span.num_words) {
            (0..0xFFF, 0..=0xF) => Self((span.num_bytes as u16) << 4 | span.num_words as u16),
            _ => Self::LONG,
        }
    }

    /// Returns the span; `None` where it is in the index.
    pub(crate) fn span(self) -> Option<Span> {
        let Self(code) = self;
        let span = Span { num_bytes: u64::from(code >> 4), num_words: u64::from(code & 0xF) };
        (self != Self::LONG).then_some(span)
    }
}
