//! How documents are cut and laid side by side.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{DataError, TokenSet};

/// Which token each position of a segment predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetRule {
    /// The paper's: targets end with the segment, so the first token of a segment is never predicted.
    WithinSegment,
    /// The last position predicts the first token of the next segment, so every token of a document but its first
    /// is predicted once.
    AcrossSegments,
}

/// What is done where a document ends. In both cases the row goes on with the next document in its next segment, and
/// no segment ever holds two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pack {
    /// Every token of a document is scored, padding is not: what is padding is known by its place.
    RestartAnywhere,
    /// The paper's: token 0 is taken for padding wherever it stands, neither predicted nor a reason to predict. The same
    /// where 0 stands for no text, as in the T5 layout of bytes; other tokenizers have their unknown piece or a character
    /// there, which is then not scored.
    Paper,
}

/// Which of several processes reads; each has rows of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// Number of the process, from 0.
    pub idx: usize,
    /// Number of processes.
    pub count: usize,
}

impl Rank {
    /// The only process.
    pub const ALONE: Self = Self { idx: 0, count: 1 };

    /// Returns the rows of this process: of `batch` rows an equal share, or one more or less where they are not divisible.
    ///
    /// ```
    /// use brt_data::Rank;
    /// assert_eq!(Rank { idx: 1, count: 4 }.rows(8), 2..4);
    /// ```
    pub fn rows(self, batch: usize) -> Range<usize> {
        self.idx * batch / self.count..(self.idx + 1) * batch / self.count
    }
}

/// How documents are cut and laid side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamConfig {
    /// Number of rows B, those of all processes.
    pub batch: usize,
    /// Number of tokens per segment N.
    pub segment_len: usize,
    /// Which token each position predicts.
    pub target_rule: TargetRule,
    /// What is done where a document ends.
    pub pack: Pack,
    /// Which process reads.
    pub rank: Rank,
    /// Longest piece of a document that is read, in tokens; `None` for whole documents.
    pub max_document_len: Option<usize>,
}

impl StreamConfig {
    /// Returns the rows of this process.
    pub fn own_rows(&self) -> Range<usize> {
        self.rank.rows(self.batch)
    }

    /// Checks that a stream of this configuration over `set` predicts anything.
    ///
    /// # Errors
    /// [`DataError::TooSmall`] with the name of the option, [`DataError::NothingToPredict`] for a set of documents
    /// of one token each, [`DataError::DamagedDocument`].
    pub fn validate(&self, set: &TokenSet) -> Result<(), DataError> {
        let shortest_segment = match self.target_rule {
            TargetRule::WithinSegment => 2,
            TargetRule::AcrossSegments => 1,
        };
        let limits = [
            ("batch", self.batch, 1),
            ("segment_len", self.segment_len, shortest_segment),
            ("max_document_len", self.max_document_len.unwrap_or(2), 2),
            ("rank.count", self.rank.count, self.rank.idx.saturating_add(1)),
        ];
        for (name, got, expected) in limits {
            if got < expected {
                return Err(DataError::TooSmall { name, expected, got });
            }
        }
        for document_idx in 0..set.num_documents() {
            if set.document(document_idx)?.tokens.len() >= 2 {
                return Ok(());
            }
        }
        Err(DataError::NothingToPredict)
    }
}
