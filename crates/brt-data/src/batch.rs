//! Segments of documents side by side: tokens, targets, and which of them are scored.
//! B rows, N tokens per segment.

use crate::{DataError, StreamConfig, TargetRule, Tokens};

/// What fills the end of a document's last segment.
const PAD_TOKEN: i64 = 0;

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
    pub(crate) piece: Tokens<'a>,
    /// Position of the segment's first token in the piece.
    pub(crate) position: usize,
}

impl SegmentBatch {
    /// Returns a batch of idle rows.
    pub(crate) fn idle(batch: usize, segment_len: usize) -> Self {
        Self {
            batch,
            segment_len,
            tokens: vec![PAD_TOKEN; batch * segment_len],
            targets: vec![PAD_TOKEN; batch * segment_len],
            loss_mask: vec![0.; batch * segment_len],
            start_of_sequence: vec![false; batch],
            document_idx: vec![None; batch],
            start_token: vec![0; batch],
            num_scored: 0,
        }
    }

    /// Returns a batch of given segments under the paper's rules ([`TargetRule::WithinSegment`], [`crate::Pack::Paper`]), for
    /// texts that are in no corpus. Row i is document i.
    ///
    /// # Panics
    /// Where a segment is longer than `segment_len` or empty, or the numbers of rows differ.
    pub fn of_segments(segments: &[&[u16]], start_of_sequence: &[bool], segment_len: usize) -> Self {
        let batch = segments.len();
        assert!(start_of_sequence.len() == batch, "expected one start_of_sequence for each of {batch} rows");
        let mut this = Self::idle(batch, segment_len);
        for (row_idx, &piece) in segments.iter().enumerate() {
            let len = piece.len();
            assert!(
                (1..=segment_len).contains(&len),
                "expected a segment of 1 to {segment_len} tokens, got {len}"
            );
            let place =
                Place { document_idx: row_idx, piece_start: 0, piece: Tokens::Narrow(piece), position: 0 };
            this.fill_row(row_idx, place, TargetRule::WithinSegment);
        }
        this.leave_out_zeros();
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
                    self.leave_out(at);
                }
            }
        }
    }

    /// Returns the batches of `num_parts` equal groups of rows, in their order.
    ///
    /// # Panics
    /// Where `num_parts` does not divide the rows.
    pub fn split(&self, num_parts: usize) -> Vec<Self> {
        assert!(
            num_parts > 0 && self.batch.is_multiple_of(num_parts),
            "expected {num_parts} equal parts of the rows"
        );
        let (batch, n) = (self.batch / num_parts, self.segment_len);
        let part = |idx: usize| {
            let (rows, at) = (idx * batch..(idx + 1) * batch, idx * batch * n..(idx + 1) * batch * n);
            let loss_mask = self.loss_mask[at.clone()].to_vec();
            Self {
                batch,
                segment_len: n,
                tokens: self.tokens[at.clone()].to_vec(),
                targets: self.targets[at].to_vec(),
                num_scored: loss_mask.iter().map(|&mask| mask as u64).sum(),
                loss_mask,
                start_of_sequence: self.start_of_sequence[rows.clone()].to_vec(),
                document_idx: self.document_idx[rows.clone()].to_vec(),
                start_token: self.start_token[rows].to_vec(),
            }
        };
        (0..num_parts).map(part).collect()
    }

    /// Leaves unscored what predicts token 0 or is predicted from it: the paper's rule.
    pub(crate) fn leave_out_zeros(&mut self) {
        for at in 0..self.tokens.len() {
            if self.tokens[at] == PAD_TOKEN || self.targets[at] == PAD_TOKEN {
                self.leave_out(at);
            }
        }
    }

    fn leave_out(&mut self, at: usize) {
        self.num_scored -= self.loss_mask[at] as u64;
        self.loss_mask[at] = 0.;
    }

    /// Puts the segment at `place` into an idle row and returns the largest token.
    pub(crate) fn fill_row(&mut self, row_idx: usize, place: Place<'_>, rule: TargetRule) -> u32 {
        let Place { document_idx, piece_start, piece, position } = place;
        self.document_idx[row_idx] = Some(document_idx);
        self.start_of_sequence[row_idx] = position == 0;
        self.start_token[row_idx] = piece_start + position;
        let end = piece.len().min(position + self.segment_len);
        let target_end = match rule {
            TargetRule::WithinSegment => end,
            TargetRule::AcrossSegments => piece.len().min(end + 1),
        };
        let row = row_idx * self.segment_len..(row_idx + 1) * self.segment_len;
        let num_targets = target_end - position - 1;
        let largest_token = piece.slice(position..end).copy_to(&mut self.tokens[row.clone()]);
        let largest_target = piece.slice(position + 1..target_end).copy_to(&mut self.targets[row.clone()]);
        self.loss_mask[row][..num_targets].fill(1.);
        self.num_scored += num_targets as u64;
        largest_token.max(largest_target)
    }

    /// Puts the segment at `place` into an idle row, by the rules of a stream.
    pub(crate) fn read(
        &mut self,
        row_idx: usize,
        place: Place<'_>,
        config: &StreamConfig,
        vocab_size: usize,
    ) -> Result<(), DataError> {
        let largest = self.fill_row(row_idx, place, config.target_rule);
        match largest as usize >= vocab_size {
            true => Err(DataError::Token { document_idx: place.document_idx, vocab_size, got: largest }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pack;

    /// Returns tokens, targets and mask of the segment of a document at `position`.
    fn segment(document: &[u16], position: usize, rule: TargetRule) -> (Vec<i64>, Vec<i64>, Vec<f32>, u64) {
        packed(document, position, rule, Pack::RestartAnywhere)
    }

    fn packed(
        document: &[u16],
        position: usize,
        rule: TargetRule,
        pack: Pack,
    ) -> (Vec<i64>, Vec<i64>, Vec<f32>, u64) {
        let mut batch = SegmentBatch::idle(1, 4);
        let piece = Tokens::Narrow(document);
        batch.fill_row(0, Place { document_idx: 7, piece_start: 10, piece, position }, rule);
        if pack == Pack::Paper {
            batch.leave_out_zeros();
        }
        assert_eq!(batch.start_of_sequence, [position == 0]);
        assert_eq!((batch.document_idx[0], batch.start_token[0]), (Some(7), 10 + position));
        (batch.tokens, batch.targets, batch.loss_mask, batch.num_scored)
    }

    #[test]
    fn parts_of_a_batch_are_its_rows() {
        let batch = SegmentBatch::of_segments(
            &[&[1, 2, 3], &[4], &[5, 6], &[7, 8, 9]],
            &[true, false, true, true],
            3,
        );
        let [first, second] = &batch.split(2)[..] else { panic!("expected 2 parts") };
        assert_eq!(
            (first.tokens.as_slice(), second.tokens.as_slice()),
            (&batch.tokens[..6], &batch.tokens[6..])
        );
        assert_eq!((first.num_scored, second.num_scored), (2, 3));
        assert_eq!((first.document_idx[1], second.start_of_sequence[0]), (Some(1), true));
        assert_eq!(batch.split(1), [batch]);
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
    fn token_0_is_scored_unless_the_paper_says_padding() {
        let document = [11, 0, 13, 14, 15, 16];
        let all = (vec![11, 0, 13, 14], vec![0, 13, 14, 15], vec![1.; 4], 4);
        assert_eq!(segment(&document, 0, TargetRule::AcrossSegments), all);
        let segment = |document: &[u16], position, rule| packed(document, position, rule, Pack::Paper);
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
