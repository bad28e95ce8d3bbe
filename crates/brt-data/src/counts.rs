//! Sizes of documents.

use std::{iter::Sum, ops::Add};

use serde::{Deserialize, Serialize};

/// Sizes of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Number of documents.
    pub num_documents: u64,
    /// Number of tokens.
    pub num_tokens: u64,
    /// Number of bytes of text.
    pub num_bytes: u64,
    /// Number of words of text: runs of characters that are not white space.
    pub num_words: u64,
}

impl Add for Counts {
    type Output = Self;

    /// Without overflow: a damaged file may say anything.
    fn add(self, other: Self) -> Self {
        Self {
            num_documents: self.num_documents.saturating_add(other.num_documents),
            num_tokens: self.num_tokens.saturating_add(other.num_tokens),
            num_bytes: self.num_bytes.saturating_add(other.num_bytes),
            num_words: self.num_words.saturating_add(other.num_words),
        }
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}
