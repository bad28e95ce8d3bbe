//! Where a stream is: a few numbers per row, with which it is continued.

use serde::{Deserialize, Serialize};

use crate::{StreamConfig, TokenSet};

/// Where each row of a [`crate::TrainStream`] is, those of other processes included: with it the stream is continued
/// exactly, by any number of processes.
///
/// Documents are taken in one endless sequence, the shuffles of epoch 0, 1, 2 … one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamCursor {
    /// SHA-256 of the corpus's manifest.
    pub manifest_sha256: String,
    /// Seed of the order of the documents.
    pub seed: u64,
    /// Number of tokens per segment N.
    pub segment_len: usize,
    /// Longest piece of a document, in tokens.
    pub max_document_len: Option<usize>,
    /// Number of documents that were taken: the place in the sequence of the next one.
    pub num_taken: u64,
    /// One entry per row; `None` where the row takes a new document next.
    pub rows: Vec<Option<RowCursor>>,
}

/// Where one row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowCursor {
    /// Index of the row's document in its set.
    pub document_idx: usize,
    /// Position of the first token of the piece that the row reads, in the document.
    pub piece_start: usize,
    /// Position of the next segment's first token in the piece.
    pub position: usize,
}

impl StreamCursor {
    /// Returns the cursor of a stream's beginning.
    pub(super) fn start(set: &TokenSet, config: &StreamConfig, seed: u64) -> Self {
        Self {
            manifest_sha256: set.manifest_sha256().to_owned(),
            seed,
            segment_len: config.segment_len,
            max_document_len: config.max_document_len,
            num_taken: 0,
            rows: vec![None; config.batch],
        }
    }
}
