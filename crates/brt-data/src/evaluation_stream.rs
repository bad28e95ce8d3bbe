//! Every document of a split once, in order.

use std::sync::Arc;

use crate::{DataError, Pack, SegmentBatch, StreamConfig, TokenSet, batch::Place};

/// Segment batches that hold every document of a set once.
///
/// Documents are taken in the order of the set. Each is read in one row; a row whose document has ended takes the next
/// one, and is idle when there is none. With `max_document_len` the first that many tokens of each are read. Of several
/// processes each reads its own rows ([`crate::Rank::rows`]), and all have as many batches as one would.
#[derive(Debug)]
pub struct EvaluationStream {
    set: Arc<TokenSet>,
    config: StreamConfig,
    next_document_idx: usize,
    rows: Vec<Option<Row>>,
}

/// The document that a row reads, and the position of its next segment.
#[derive(Debug, Clone, Copy)]
struct Row {
    document_idx: usize,
    position: usize,
}

impl EvaluationStream {
    /// Returns the stream from its beginning.
    ///
    /// # Errors
    /// As [`StreamConfig::validate`].
    pub fn new(set: Arc<TokenSet>, config: StreamConfig) -> Result<Self, DataError> {
        config.validate(&set)?;
        Ok(Self { set, config, next_document_idx: 0, rows: vec![None; config.batch] })
    }

    /// Returns the next document of the set, `None` when all were taken.
    fn next_document(&mut self) -> Option<Row> {
        let document_idx = self.next_document_idx;
        (document_idx < self.set.num_documents()).then(|| {
            self.next_document_idx += 1;
            Row { document_idx, position: 0 }
        })
    }

    /// Puts the next segment of a row, if it is one of this process, into the batch; returns whether there was one.
    fn read_row(&mut self, row_idx: usize, batch: &mut SegmentBatch) -> Result<bool, DataError> {
        let Some(row) = self.rows[row_idx].or_else(|| self.next_document()) else { return Ok(false) };
        let Row { document_idx, position } = row;
        let tokens = self.set.document(document_idx)?.tokens;
        let piece = tokens.slice(0..tokens.len().min(self.config.max_document_len.unwrap_or(usize::MAX)));
        let own = self.config.own_rows();
        if own.contains(&row_idx) {
            let place = Place { document_idx, piece_start: 0, piece, position };
            batch.read(row_idx - own.start, place, &self.config, self.set.vocab_size())?;
        }
        let position = position + self.config.segment_len;
        self.rows[row_idx] = (position < piece.len()).then_some(Row { position, ..row });
        Ok(true)
    }
}

impl Iterator for EvaluationStream {
    type Item = Result<SegmentBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut batch = SegmentBatch::idle(self.config.own_rows().len(), self.config.segment_len);
        let mut is_idle = true;
        for row_idx in 0..self.config.batch {
            match self.read_row(row_idx, &mut batch) {
                Ok(was_read) => is_idle &= !was_read,
                Err(error) => {
                    self.next_document_idx = self.set.num_documents(); // After an error there is nothing more.
                    self.rows.fill(None);
                    return Some(Err(error));
                }
            }
        }
        if self.config.pack == Pack::Paper {
            batch.leave_out_zeros();
        }
        (!is_idle).then_some(Ok(batch))
    }
}
