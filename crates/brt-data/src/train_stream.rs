//! The order in which a model reads its training documents; it can stop anywhere and go on as if it had not.

use std::sync::Arc;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{DataError, SegmentBatch, StreamConfig, TokenSet, batch::Place};

/// Where each row of a [`TrainStream`] is: with it a stream is continued exactly.
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
    /// Epoch that the next document is taken from, from 0.
    pub epoch: u64,
    /// Number of documents of the epoch that rows have taken.
    pub num_taken: usize,
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

/// Endless segment batches of the training documents.
///
/// Each row reads one document segment by segment, in order, and then takes the next unread document of the epoch's
/// shuffle, which depends only on the seed and the epoch. When an epoch has no unread document left, the next one
/// begins; with more rows than documents, rows read documents of later epochs at once.
///
/// A document longer than `max_document_len` is read one piece of that length per epoch, a different one each
/// epoch until all of it was read; where it starts depends on the seed and the document. A piece counts as a
/// document: its first segment is a start of sequence.
#[derive(Debug)]
pub struct TrainStream {
    set: Arc<TokenSet>,
    config: StreamConfig,
    cursor: StreamCursor,
    order: Vec<usize>, // shuffle of the cursor's epoch
}

impl TrainStream {
    /// Returns the stream from its beginning.
    ///
    /// # Errors
    /// As [`StreamConfig::validate`].
    pub fn new(set: Arc<TokenSet>, config: StreamConfig, seed: u64) -> Result<Self, DataError> {
        config.validate(&set)?;
        let cursor = StreamCursor {
            manifest_sha256: set.manifest_sha256().to_owned(),
            seed,
            segment_len: config.segment_len,
            max_document_len: config.max_document_len,
            epoch: 0,
            num_taken: 0,
            rows: vec![None; config.batch],
        };
        let order = epoch_order(set.num_documents(), seed, 0);
        Ok(Self { set, config, cursor, order })
    }

    /// Returns the stream from where `cursor` was taken: its next batches are the ones that would have come.
    ///
    /// # Errors
    /// As [`StreamConfig::validate`]; [`DataError::Cursor`] where the cursor belongs to another corpus, seed or
    /// configuration.
    pub fn resume(
        set: Arc<TokenSet>,
        config: StreamConfig,
        seed: u64,
        cursor: StreamCursor,
    ) -> Result<Self, DataError> {
        let start = Self::new(set, config, seed)?;
        start.check(&cursor)?;
        let order = epoch_order(start.set.num_documents(), seed, cursor.epoch);
        Ok(Self { cursor, order, ..start })
    }

    /// Returns where the stream is, between two batches.
    pub fn cursor(&self) -> StreamCursor {
        self.cursor.clone()
    }

    /// Returns the next segment of every row.
    pub fn next_batch(&mut self) -> SegmentBatch {
        let mut batch = SegmentBatch::idle(&self.config);
        for row_idx in 0..self.config.batch {
            let row = self.cursor.rows[row_idx].unwrap_or_else(|| self.next_document());
            let piece = piece(&self.set, &self.config, row);
            let RowCursor { document_idx, piece_start, position } = row;
            let place = Place { document_idx, piece_start, piece, position };
            batch.fill_row(row_idx, place, self.config.target_rule);
            let position = position + self.config.segment_len;
            self.cursor.rows[row_idx] = (position < piece.len()).then_some(RowCursor { position, ..row });
        }
        batch
    }

    /// Takes the next unread document, of the next epoch where this one has none left.
    fn next_document(&mut self) -> RowCursor {
        if self.cursor.num_taken == self.order.len() {
            self.cursor.epoch += 1;
            self.cursor.num_taken = 0;
            self.order = epoch_order(self.order.len(), self.cursor.seed, self.cursor.epoch);
        }
        let document_idx = self.order[self.cursor.num_taken];
        self.cursor.num_taken += 1;
        RowCursor { document_idx, piece_start: self.piece_start(document_idx), position: 0 }
    }

    /// Returns where the epoch's piece of a document starts.
    ///
    /// The pieces lie end to end, the last one ends with the document, and each epoch takes the next of them.
    fn piece_start(&self, document_idx: usize) -> usize {
        let document_len = self.set.document(document_idx).tokens.len();
        let Some(piece_len) = self.config.max_document_len.filter(|&len| len < document_len) else {
            return 0;
        };
        let num_pieces = document_len.div_ceil(piece_len) as u64;
        let first = generator(self.cursor.seed, Purpose::Piece, document_idx as u64).next_u64() % num_pieces;
        let piece_idx = (first + self.cursor.epoch % num_pieces) % num_pieces;
        (piece_idx as usize * piece_len).min(document_len - piece_len)
    }

    /// Checks that a cursor was taken from a stream like this one.
    fn check(&self, cursor: &StreamCursor) -> Result<(), DataError> {
        let own = &self.cursor;
        let text = |len: Option<usize>| len.map_or("none".to_owned(), |len| len.to_string());
        let pairs = [
            ("manifest_sha256", own.manifest_sha256.clone(), cursor.manifest_sha256.clone()),
            ("seed", own.seed.to_string(), cursor.seed.to_string()),
            ("batch", own.rows.len().to_string(), cursor.rows.len().to_string()),
            ("segment_len", own.segment_len.to_string(), cursor.segment_len.to_string()),
            ("max_document_len", text(own.max_document_len), text(cursor.max_document_len)),
        ];
        for (name, expected, got) in pairs {
            if expected != got {
                return Err(DataError::Cursor { name, expected, got });
            }
        }
        let expected = |name, expected: String, got: String| Err(DataError::Cursor { name, expected, got });
        let num_documents = self.set.num_documents();
        if cursor.num_taken > num_documents {
            return expected("num_taken", format!("at most {num_documents}"), cursor.num_taken.to_string());
        }
        for row in cursor.rows.iter().flatten() {
            if row.document_idx >= num_documents {
                return expected(
                    "document_idx",
                    format!("below {num_documents}"),
                    row.document_idx.to_string(),
                );
            }
            let document_len = self.set.document(row.document_idx).tokens.len();
            let piece_len = self.config.max_document_len.unwrap_or(document_len).min(document_len);
            if row.position >= piece_len || row.piece_start > document_len - piece_len {
                let got = format!("{} + {}", row.piece_start, row.position);
                return expected("row position", format!("below {document_len}"), got);
            }
        }
        Ok(())
    }
}

/// Returns the tokens of the piece that a row reads.
fn piece<'a>(set: &'a TokenSet, config: &StreamConfig, row: RowCursor) -> &'a [u16] {
    let rest = &set.document(row.document_idx).tokens[row.piece_start..];
    &rest[..rest.len().min(config.max_document_len.unwrap_or(usize::MAX))]
}

/// Returns the order of an epoch: a shuffle that depends only on the arguments.
///
/// Written out, because the shuffle of a library may change with its version.
fn epoch_order(num_documents: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..num_documents).collect();
    let mut generator = generator(seed, Purpose::Order, epoch);
    for i in (1..num_documents).rev() {
        order.swap(i, (generator.next_u64() % (i as u64 + 1)) as usize);
    }
    order
}

/// What random numbers are drawn for; each purpose has its own.
#[derive(Clone, Copy)]
enum Purpose {
    Order = 0,
    Piece = 1,
}

/// Returns the generator of a seed, a purpose and an epoch or document.
fn generator(seed: u64, purpose: Purpose, idx: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&idx.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
