//! Tokens as they lie in a shard, and the text that they stand for.

use std::{iter::Sum, ops::Range};

/// Tokens of a document: two bytes each where the vocabulary has at most 65,536 rows, else four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens<'a> {
    /// Two bytes each.
    Narrow(&'a [u16]),
    /// Four bytes each.
    Wide(&'a [u32]),
}

impl<'a> Tokens<'a> {
    /// Returns the number of tokens.
    pub fn len(&self) -> usize {
        match self {
            Self::Narrow(tokens) => tokens.len(),
            Self::Wide(tokens) => tokens.len(),
        }
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a token.
    ///
    /// # Panics
    /// Where `idx` is not below [`Tokens::len`].
    pub fn get(&self, idx: usize) -> u32 {
        match self {
            Self::Narrow(tokens) => u32::from(tokens[idx]),
            Self::Wide(tokens) => tokens[idx],
        }
    }

    /// Returns a part of the tokens.
    ///
    /// # Panics
    /// Where the range reaches over the end.
    pub fn slice(&self, range: Range<usize>) -> Tokens<'a> {
        match self {
            Self::Narrow(tokens) => Tokens::Narrow(&tokens[range]),
            Self::Wide(tokens) => Tokens::Wide(&tokens[range]),
        }
    }

    /// Returns a copy of the tokens.
    pub fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::Narrow(tokens) => tokens.iter().map(|&token| u32::from(token)).collect(),
            Self::Wide(tokens) => tokens.to_vec(),
        }
    }

    /// Returns the largest token; 0 for none.
    pub(crate) fn largest(&self) -> u32 {
        match self {
            Self::Narrow(tokens) => tokens.iter().max().map_or(0, |&token| u32::from(token)),
            Self::Wide(tokens) => tokens.iter().max().copied().unwrap_or(0),
        }
    }

    /// Copies the tokens to the start of `out` and returns the largest; 0 for none.
    pub(crate) fn copy_to(&self, out: &mut [i64]) -> u32 {
        match self {
            Self::Narrow(tokens) => {
                let copy = out.iter_mut().zip(*tokens).map(|(out, &token)| {
                    *out = i64::from(token);
                    token
                });
                copy.max().map_or(0, u32::from)
            }
            Self::Wide(tokens) => {
                let copy = out.iter_mut().zip(*tokens).map(|(out, &token)| {
                    *out = i64::from(token);
                    token
                });
                copy.max().unwrap_or(0)
            }
        }
    }
}

/// How much text a token, or several, stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Number of bytes.
    pub num_bytes: u64,
    /// Number of words that begin in those bytes: runs of characters that are not white space.
    pub num_words: u64,
}

impl Sum for Span {
    fn sum<I: Iterator<Item = Self>>(spans: I) -> Self {
        spans.fold(Self::default(), |sum, span| Self {
            num_bytes: sum.num_bytes + span.num_bytes,
            num_words: sum.num_words + span.num_words,
        })
    }
}
