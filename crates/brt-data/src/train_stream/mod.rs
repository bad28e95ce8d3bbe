//! The order in which a model reads its training documents; it can stop anywhere and go on as if it had not.

mod cursor;
mod prefetch;

use std::sync::Arc;

pub use cursor::{RowCursor, StreamCursor};
pub use prefetch::Prefetch;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{DataError, Pack, SegmentBatch, StreamConfig, TokenSet, Tokens, batch::Place};

/// Places in the sequence of documents that no run reaches; a cursor behind it is damaged.
const MAX_PLACE: u64 = 1 << 62;

/// Endless segment batches of the training documents.
///
/// Each row reads one document segment by segment, in order, and then takes the next unread document of the epoch's
/// shuffle, which depends only on the seed and the epoch. When an epoch has no unread document left, the next one
/// begins; with more rows than documents, rows read documents of later epochs at once.
///
/// A document longer than `max_document_len` is read one piece of that length per epoch, a different one each
/// epoch until all of it was read; where it starts depends on the seed and the document. A piece counts as a
/// document: its first segment is a start of sequence.
///
/// Of several processes each reads its own rows ([`crate::Rank::rows`]) and follows where the others are, which takes the
/// lengths of their documents only. So a row reads the same, however many processes share the rows.
#[derive(Debug)]
pub struct TrainStream {
    set: Arc<TokenSet>,
    config: StreamConfig,
    cursor: StreamCursor,
    order: EpochOrder,
}

impl TrainStream {
    /// Returns the stream from its beginning.
    ///
    /// # Errors
    /// As [`StreamConfig::validate`].
    pub fn new(set: Arc<TokenSet>, config: StreamConfig, seed: u64) -> Result<Self, DataError> {
        config.validate(&set)?;
        let cursor = StreamCursor::start(&set, &config, seed);
        let order = EpochOrder::new(set.num_documents(), seed, 0);
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
        Ok(Self { cursor, ..start })
    }

    /// Returns where the stream is, between two batches.
    pub fn cursor(&self) -> StreamCursor {
        self.cursor.clone()
    }

    /// Returns the next segment of every row of this process.
    ///
    /// # Errors
    /// [`DataError::DamagedDocument`] and [`DataError::Token`] where the corpus is damaged.
    pub fn next_batch(&mut self) -> Result<SegmentBatch, DataError> {
        let own = self.config.own_rows();
        let mut batch = SegmentBatch::idle(own.len(), self.config.segment_len);
        for row_idx in 0..self.config.batch {
            let row = match self.cursor.rows[row_idx] {
                Some(row) => row,
                None => self.next_document()?,
            };
            let piece = piece(&self.set, &self.config, row)?;
            let RowCursor { document_idx, piece_start, position } = row;
            if own.contains(&row_idx) {
                let place = Place { document_idx, piece_start, piece, position };
                batch.read(row_idx - own.start, place, &self.config, self.set.vocab_size())?;
            }
            let position = position + self.config.segment_len;
            self.cursor.rows[row_idx] = (position < piece.len()).then_some(RowCursor { position, ..row });
        }
        if self.config.pack == Pack::Paper {
            batch.leave_out_zeros();
        }
        Ok(batch)
    }

    /// Takes the next document of the sequence.
    fn next_document(&mut self) -> Result<RowCursor, DataError> {
        let (place, count) = (self.cursor.num_taken, self.set.num_documents() as u64);
        let (epoch, idx) = (place / count, (place % count) as usize);
        if self.order.epoch != epoch {
            self.order = EpochOrder::new(self.set.num_documents(), self.cursor.seed, epoch);
        }
        let document_idx = self.order.documents[idx] as usize;
        self.cursor.num_taken += 1;
        let piece_start = self.piece_start(document_idx, epoch)?;
        Ok(RowCursor { document_idx, piece_start, position: 0 })
    }

    /// Returns where the epoch's piece of a document starts.
    ///
    /// The pieces lie end to end, the last one ends with the document, and each epoch takes the next of them.
    fn piece_start(&self, document_idx: usize, epoch: u64) -> Result<usize, DataError> {
        let document_len = self.set.document(document_idx)?.tokens.len();
        let Some(piece_len) = self.config.max_document_len.filter(|&len| len < document_len) else {
            return Ok(0);
        };
        let num_pieces = document_len.div_ceil(piece_len) as u64;
        let first = generator(self.cursor.seed, Purpose::Piece, document_idx as u64).next_u64() % num_pieces;
        let piece_idx = (first + epoch % num_pieces) % num_pieces;
        Ok((piece_idx as usize * piece_len).min(document_len - piece_len))
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
        if cursor.num_taken > MAX_PLACE {
            return expected("num_taken", format!("a place up to {MAX_PLACE}"), cursor.num_taken.to_string());
        }
        for row in cursor.rows.iter().flatten() {
            if row.document_idx >= num_documents {
                return expected(
                    "document_idx",
                    format!("below {num_documents}"),
                    row.document_idx.to_string(),
                );
            }
            let document_len = self.set.document(row.document_idx)?.tokens.len();
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
fn piece<'a>(set: &'a TokenSet, config: &StreamConfig, row: RowCursor) -> Result<Tokens<'a>, DataError> {
    let tokens = set.document(row.document_idx)?.tokens;
    let end = row.piece_start.saturating_add(config.max_document_len.unwrap_or(usize::MAX));
    Ok(tokens.slice(row.piece_start..end.min(tokens.len())))
}

/// The order of the documents of an epoch: a shuffle that depends only on the seed and the epoch.
#[derive(Debug)]
struct EpochOrder {
    epoch: u64,
    documents: Vec<u32>,
}

impl EpochOrder {
    /// Written out, because the shuffle of a library may change with its version.
    fn new(num_documents: usize, seed: u64, epoch: u64) -> Self {
        let mut documents: Vec<u32> = (0..num_documents as u32).collect();
        let mut generator = generator(seed, Purpose::Order, epoch);
        for i in (1..num_documents).rev() {
            documents.swap(i, (generator.next_u64() % (i as u64 + 1)) as usize);
        }
        Self { epoch, documents }
    }
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
