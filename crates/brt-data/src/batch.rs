//! Segments of documents side by side: tokens, targets, and which of them are scored.
//! B rows, N tokens per segment.

use serde::{Deserialize, Serialize};

use crate::{DataError, TokenSet, tokenizer::PAD_TOKEN};

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

/// How documents are cut and laid side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamConfig {
    /// Number of rows B.
    pub batch: usize,
    /// Number of tokens per segment N.
    pub segment_len: usize,
    /// Which token each position predicts.
    pub target_rule: TargetRule,
    /// Longest piece of a document that is read, in tokens; `None` for whole documents.
    pub max_document_len: Option<usize>,
}

impl StreamConfig {
    /// Checks that a stream of this configuration over `set` predicts anything.
    ///
    /// # Errors
    /// [`DataError::TooSmall`] with the name of the option, [`DataError::NothingToPredict`] for a set of documents
    /// of one token each.
    pub fn validate(&self, set: &TokenSet) -> Result<(), DataError> {
        let shortest_segment = match self.target_rule {
            TargetRule::WithinSegment => 2,
            TargetRule::AcrossSegments => 1,
        };
        let limits = [
            ("batch", self.batch, 1),
            ("segment_len", self.segment_len, shortest_segment),
            ("max_document_len", self.max_document_len.unwrap_or(2), 2),
        ];
        for (name, got, expected) in limits {
            if got < expected {
                return Err(DataError::TooSmall { name, expected, got });
            }
        }
        match set.longest_document() {
            longest @ 0..2 => Err(DataError::NothingToPredict { longest }),
            _ => Ok(()),
        }
    }
}

/// One segment of each row. Matrices are row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentBatch {
    /// Number of rows B.
    pub batch: usize,
    /// Number of tokens per segment N.
    pub segment_len: usize,
    /// Tokens, padded with 0. `[B, N]`
    pub tokens: Vec<i64>,
    /// Token that each position predicts, 0 for none. `[B, N]`
    pub targets: Vec<i64>,
    /// 1 where the prediction is scored, 0 elsewhere. `[B, N]`
    pub loss_mask: Vec<f32>,
    /// Whether the row's document (or piece of one) begins with this segment. `[B]`
    pub start_of_sequence: Vec<bool>,
    /// Index of the row's document in its set; `None` for an idle row, which is all padding. `[B]`
    pub document_idx: Vec<Option<usize>>,
    /// Position of the segment's first token in its document; 0 for an idle row. `[B]`
    pub start_token: Vec<usize>,
    /// Number of scored predictions of all rows.
    pub num_scored: u64,
}

/// A segment's place: the piece of a document that a row reads, and how far the row has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Index of the document in its set.
    pub(crate) document_idx: usize,
    /// Position of the piece's first token in the document.
    pub(crate) piece_start: usize,
    /// Tokens of the piece.
    pub(crate) piece: &'a [u16],
    /// Position of the segment's first token in the piece.
    pub(crate) position: usize,
}

impl SegmentBatch {
    /// Returns a batch of idle rows.
    pub(crate) fn idle(config: &StreamConfig) -> Self {
        let (batch, segment_len) = (config.batch, config.segment_len);
        Self {
            batch,
            segment_len,
            tokens: vec![i64::from(PAD_TOKEN); batch * segment_len],
            targets: vec![i64::from(PAD_TOKEN); batch * segment_len],
            loss_mask: vec![0.; batch * segment_len],
            start_of_sequence: vec![false; batch],
            document_idx: vec![None; batch],
            start_token: vec![0; batch],
            num_scored: 0,
        }
    }

    /// Returns a batch of given segments under the paper's rule ([`TargetRule::WithinSegment`]), for texts that are in no
    /// corpus. Row i is document i.
    ///
    /// # Panics
    /// Where a segment is longer than `segment_len` or empty, or the numbers of rows differ.
    pub fn of_segments(segments: &[&[u16]], start_of_sequence: &[bool], segment_len: usize) -> Self {
        let (batch, target_rule) = (segments.len(), TargetRule::WithinSegment);
        assert!(start_of_sequence.len() == batch, "expected one start_of_sequence for each of {batch} rows");
        let config = StreamConfig { batch, segment_len, target_rule, max_document_len: None };
        let mut this = Self::idle(&config);
        for (row_idx, &piece) in segments.iter().enumerate() {
            let len = piece.len();
            assert!(
                (1..=segment_len).contains(&len),
                "expected a segment of 1 to {segment_len} tokens, got {len}"
            );
            let place = Place { document_idx: row_idx, piece_start: 0, piece, position: 0 };
            this.fill_row(row_idx, place, target_rule);
        }
        this.start_of_sequence = start_of_sequence.to_vec();
        this
    }

    /// Leaves unscored what `may_be_scored` (`[B, N]`, aligned with the tokens) does not allow to be predicted.
    ///
    /// # Panics
    /// Where the length is another.
    pub fn restrict(&mut self, may_be_scored: &[bool]) {
        assert!(may_be_scored.len() == self.tokens.len(), "expected one mark for each token");
        for row in 0..self.batch {
            for i in 0..self.segment_len - 1 {
                let at = row * self.segment_len + i;
                if !may_be_scored[at + 1] {
                    self.num_scored -= self.loss_mask[at] as u64;
                    self.loss_mask[at] = 0.;
                }
            }
        }
    }

    /// Puts the segment at `place` into an idle row.
    pub(crate) fn fill_row(&mut self, row_idx: usize, place: Place<'_>, rule: TargetRule) {
        self.document_idx[row_idx] = Some(place.document_idx);
        self.start_of_sequence[row_idx] = place.position == 0;
        self.start_token[row_idx] = place.piece_start + place.position;
        let rest = &place.piece[place.position..];
        let segment = &rest[..rest.len().min(self.segment_len)];
        let targets = match rule {
            TargetRule::WithinSegment => &segment[1..],
            TargetRule::AcrossSegments => &rest[1..rest.len().min(self.segment_len + 1)],
        };
        let row = row_idx * self.segment_len;
        for (i, &token) in segment.iter().enumerate() {
            self.tokens[row + i] = i64::from(token);
        }
        for (i, (&target, &token)) in targets.iter().zip(segment).enumerate() {
            self.targets[row + i] = i64::from(target);
            if token != PAD_TOKEN && target != PAD_TOKEN {
                self.loss_mask[row + i] = 1.;
                self.num_scored += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns tokens, targets and mask of the segment of a document at `position`.
    fn segment(document: &[u16], position: usize, rule: TargetRule) -> (Vec<i64>, Vec<i64>, Vec<f32>, u64) {
        let config = StreamConfig { batch: 1, segment_len: 4, target_rule: rule, max_document_len: None };
        let mut batch = SegmentBatch::idle(&config);
        batch.fill_row(0, Place { document_idx: 7, piece_start: 10, piece: document, position }, rule);
        assert_eq!(batch.start_of_sequence, [position == 0]);
        assert_eq!((batch.document_idx[0], batch.start_token[0]), (Some(7), 10 + position));
        (batch.tokens, batch.targets, batch.loss_mask, batch.num_scored)
    }

    #[test]
    fn a_document_of_one_token_more_than_a_segment() {
        use TargetRule::{AcrossSegments, WithinSegment};
        let document = [11, 12, 13, 14, 15];
        // Of N tokens, N - 1 are predicted; the token in the second segment never is.
        let first = (vec![11, 12, 13, 14], vec![12, 13, 14, 0], vec![1., 1., 1., 0.], 3);
        let second = (vec![15, 0, 0, 0], vec![0; 4], vec![0.; 4], 0);
        assert_eq!(segment(&document, 0, WithinSegment), first);
        assert_eq!(segment(&document, 4, WithinSegment), second);
        // Each of the four tokens after the first is predicted once.
        let first = (vec![11, 12, 13, 14], vec![12, 13, 14, 15], vec![1.; 4], 4);
        assert_eq!(segment(&document, 0, AcrossSegments), first);
        assert_eq!(segment(&document, 4, AcrossSegments), second);
    }

    #[test]
    fn padding_is_neither_predicted_nor_predicts() {
        let document = [11, 0, 13, 14, 15, 16];
        let first = (vec![11, 0, 13, 14], vec![0, 13, 14, 0], vec![0., 0., 1., 0.], 1);
        assert_eq!(segment(&document, 0, TargetRule::WithinSegment), first);
        let first = (vec![11, 0, 13, 14], vec![0, 13, 14, 15], vec![0., 0., 1., 1.], 2);
        assert_eq!(segment(&document, 0, TargetRule::AcrossSegments), first);
        let second = (vec![15, 16, 0, 0], vec![16, 0, 0, 0], vec![1., 0., 0., 0.], 1);
        for rule in [TargetRule::WithinSegment, TargetRule::AcrossSegments] {
            assert_eq!(segment(&document, 4, rule), second);
        }
    }
}
