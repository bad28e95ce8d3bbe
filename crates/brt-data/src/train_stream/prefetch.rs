//! The next batches, read on another thread while the trainer works.

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread::{self, JoinHandle},
};

use super::{StreamCursor, TrainStream};
use crate::{DataError, SegmentBatch};

/// A [`TrainStream`] that is ahead of its reader: it reads from the disk and cuts segments on a thread of its own.
///
/// ```
/// use std::sync::Arc;
/// use brt_data::{Document, Pack, Prefetch, Rank, StreamConfig, TargetRule, TokenSet, TrainStream};
///
/// # fn main() -> Result<(), brt_data::DataError> {
/// let document = Document { name: "d".into(), group: "g".into(), text: b"to be or not to be".to_vec() };
/// let set = Arc::new(TokenSet::from_documents(&[document])?);
/// let config = StreamConfig {
///     batch: 2,
///     segment_len: 8,
///     target_rule: TargetRule::AcrossSegments,
///     pack: Pack::RestartAnywhere,
///     rank: Rank::ALONE,
///     max_document_len: None,
/// };
/// let mut batches = Prefetch::new(TrainStream::new(set, config, 1)?, 4);
/// assert_eq!(batches.next_batch()?.tokens.len(), 16);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Prefetch {
    batches: Option<Receiver<Prefetched>>,
    thread: Option<JoinHandle<()>>,
    cursor: StreamCursor,
}

/// A batch, and where the stream is after it.
type Prefetched = Result<(SegmentBatch, StreamCursor), DataError>;

impl Prefetch {
    /// Starts to read at most `depth` batches ahead.
    pub fn new(mut stream: TrainStream, depth: usize) -> Self {
        let cursor = stream.cursor();
        let (sender, batches) = sync_channel(depth);
        let thread = thread::spawn(move || {
            loop {
                let batch = stream.next_batch().map(|batch| (batch, stream.cursor()));
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    return; // Nobody reads any more, or there is nothing more to read.
                }
            }
        });
        Self { batches: Some(batches), thread: Some(thread), cursor }
    }

    /// Returns the next segment of every row, and waits for it where it is not there yet.
    ///
    /// # Errors
    /// As [`TrainStream::next_batch`]; after one, [`DataError::StreamEnded`].
    pub fn next_batch(&mut self) -> Result<SegmentBatch, DataError> {
        let received = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        let (batch, cursor) = received.unwrap_or(Err(DataError::StreamEnded))?;
        self.cursor = cursor;
        Ok(batch)
    }

    /// Returns where the stream was after the last batch that was taken: what was read ahead is read again.
    pub fn cursor(&self) -> StreamCursor {
        self.cursor.clone()
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.batches = None; // The thread's next send fails, and it ends.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // A panic there was already reported.
        }
    }
}
