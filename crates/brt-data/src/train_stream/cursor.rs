//! Where a stream is: a few numbers per row, with which it is continued, also by other numbers of rows and processes.

use serde::{Deserialize, Serialize};

use crate::{DataError, Rank, StreamConfig, TokenSet};

/// Where each row of a [`crate::TrainStream`] is: with it a stream is continued exactly.
///
/// Documents are taken in one endless sequence, the shuffles of epoch 0, 1, 2 … one after another. Of the documents of
/// the sequence that were not taken yet, process i of n takes number i, i + n, i + 2n ….
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
    /// The process.
    pub rank: Rank,
    /// Place in the sequence below which all documents were taken when the number of processes last changed.
    pub base: u64,
    /// Places above it that had been taken, too, in order.
    pub ahead: Vec<u64>,
    /// Number of documents that this process has taken since.
    pub num_taken: u64,
    /// Documents that were begun by rows that there are no more: they are continued before new ones are taken.
    pub waiting: Vec<RowCursor>,
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
    /// Whether the row's state is that of another document: the document was begun in another row. Its next segment is
    /// then a start of sequence.
    pub state_is_lost: bool,
}

impl StreamCursor {
    /// Returns the cursor of a stream's beginning.
    pub(super) fn start(set: &TokenSet, config: &StreamConfig, seed: u64) -> Self {
        Self {
            manifest_sha256: set.manifest_sha256().to_owned(),
            seed,
            segment_len: config.segment_len,
            max_document_len: config.max_document_len,
            rank: config.rank,
            base: 0,
            ahead: vec![],
            num_taken: 0,
            waiting: vec![],
            rows: vec![None; config.batch],
        }
    }

    /// Returns the place in the sequence of the document that this process takes next.
    pub(super) fn next_place(&self) -> u64 {
        self.place(self.num_taken * self.rank.count as u64 + self.rank.idx as u64)
    }

    /// Returns the place of one of the documents that were not taken when the number of processes last changed.
    fn place(&self, idx: u64) -> u64 {
        let skips = |place: &u64, ahead: &u64| ahead <= place;
        self.ahead.iter().fold(self.base + idx, |place, ahead| place + u64::from(skips(&place, ahead)))
    }

    /// Returns the cursors of the same place in the data for `count` processes of `batch` rows each, in their order.
    ///
    /// Given are the cursors of all processes, in their order. Documents in the middle of which a row is are dealt to
    /// the rows of the new processes in their order; where there are more of them than rows, the rest waits and is
    /// continued first; where there are fewer, the other rows take new documents. No document is skipped, none is read
    /// twice. The states of the rows do not go with them: a document that is continued begins with a fresh state.
    ///
    /// # Errors
    /// [`DataError::Cursor`] where these are not the cursors of all processes of one run at one step;
    /// [`DataError::TooSmall`] without rows or processes.
    pub fn redistribute(cursors: &[Self], batch: usize, count: usize) -> Result<Vec<Self>, DataError> {
        for (name, got) in [("batch", batch), ("rank.count", count)] {
            if got == 0 {
                return Err(DataError::TooSmall { name, expected: 1, got });
            }
        }
        let first = check_is_one_run(cursors)?;
        let (base, ahead) = taken(cursors, first);
        let rows = cursors.iter().flat_map(|cursor| cursor.rows.iter().flatten());
        let begun = rows.chain(cursors.iter().flat_map(|cursor| &cursor.waiting)).copied();
        let begun: Vec<RowCursor> = begun.map(|row| RowCursor { state_is_lost: true, ..row }).collect();
        let (rows, waiting) = begun.split_at(begun.len().min(batch * count));
        let cursor = |idx| Self {
            rank: Rank { idx, count },
            base,
            ahead: ahead.clone(),
            num_taken: 0,
            waiting: waiting.iter().skip(idx).step_by(count).copied().collect(),
            rows: (idx * batch..(idx + 1) * batch).map(|row| rows.get(row).copied()).collect(),
            ..first.clone()
        };
        Ok((0..count).map(cursor).collect())
    }
}

/// Checks that the cursors are those of all processes of one run, and returns the first.
fn check_is_one_run(cursors: &[StreamCursor]) -> Result<&StreamCursor, DataError> {
    let error = |name, expected: String, got: String| DataError::Cursor { name, expected, got };
    let none = || error("cursors", "one of each process".into(), "none".into());
    let first = cursors.first().ok_or_else(none)?;
    let shared = |cursor: &StreamCursor| StreamCursor {
        rank: Rank::ALONE,
        num_taken: 0,
        waiting: vec![],
        rows: vec![],
        ..cursor.clone()
    };
    for (idx, cursor) in cursors.iter().enumerate() {
        let (expected, got) = (Rank { idx, count: cursors.len() }, cursor.rank);
        if expected != got {
            return Err(error("rank", expected.to_string(), got.to_string()));
        }
        if shared(cursor) != shared(first) {
            let got = format!("another of rank {idx}");
            return Err(error(
                "corpus, seed, segment_len, max_document_len, base and ahead",
                "those of rank 0".into(),
                got,
            ));
        }
    }
    Ok(first)
}

/// Returns the place below which all documents are taken, and the places above it that are taken, too.
fn taken(cursors: &[StreamCursor], first: &StreamCursor) -> (u64, Vec<u64>) {
    let count = cursors.len() as u64;
    let next = |cursor: &StreamCursor| cursor.num_taken * count + cursor.rank.idx as u64;
    let first_idx = cursors.iter().map(next).min().unwrap_or(0);
    let base = first.place(first_idx);
    let mut ahead: Vec<u64> = first.ahead.iter().copied().filter(|&place| place > base).collect();
    for cursor in cursors {
        let idx = cursor.rank.idx as u64;
        let from = first_idx.saturating_sub(idx).div_ceil(count);
        ahead.extend((from..cursor.num_taken).map(|taken| first.place(taken * count + idx)));
    }
    ahead.sort_unstable();
    (base, ahead)
}
