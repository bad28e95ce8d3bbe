//! Several processes read disjoint documents, and a run goes on with another number of rows or processes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{collections::HashMap, sync::Arc};

use brt_data::{
    Document, EvaluationStream, Pack, Prefetch, Rank, StreamConfig, StreamCursor, TargetRule, TokenSet,
    TrainStream,
};
use proptest::prelude::*;

/// Returns a set of documents of these lengths.
fn set(lens: &[usize]) -> Arc<TokenSet> {
    let document = |(i, &len): (usize, &usize)| Document {
        name: format!("d{i}"),
        group: "g".into(),
        text: vec![b'a' + (i % 26) as u8; len],
    };
    Arc::new(TokenSet::from_documents(&lens.iter().enumerate().map(document).collect::<Vec<_>>()).unwrap())
}

fn config(batch: usize, rank: Rank) -> StreamConfig {
    let (target_rule, pack) = (TargetRule::AcrossSegments, Pack::RestartAnywhere);
    StreamConfig { batch, segment_len: 3, target_rule, pack, rank, max_document_len: None }
}

/// The streams of all processes of a run, and what they have read.
struct Run {
    streams: Vec<TrainStream>,
    /// How often each token of each document was read.
    read: HashMap<(usize, usize), u64>,
    num_starts: HashMap<usize, u64>,
    /// Of each row of each process, the document and the token that come next if it goes on.
    last: Vec<Vec<Option<(usize, usize)>>>,
}

impl Run {
    fn new(set: &Arc<TokenSet>, batch: usize, count: usize) -> Self {
        let stream = |idx| TrainStream::new(Arc::clone(set), config(batch, Rank { idx, count }), 7).unwrap();
        Self {
            streams: (0..count).map(stream).collect(),
            read: HashMap::new(),
            num_starts: HashMap::new(),
            last: vec![vec![]; count],
        }
    }

    fn cursors(&self) -> Vec<StreamCursor> {
        self.streams.iter().map(TrainStream::cursor).collect()
    }

    /// Goes on with other numbers of rows and processes.
    fn redistribute(&mut self, set: &Arc<TokenSet>, batch: usize, count: usize) {
        let cursors = StreamCursor::redistribute(&self.cursors(), batch, count).unwrap();
        let stream = |cursor: StreamCursor| {
            let config = config(batch, cursor.rank);
            TrainStream::resume(Arc::clone(set), config, 7, cursor).unwrap()
        };
        self.streams = cursors.into_iter().map(stream).collect();
        self.last = vec![vec![]; count];
    }

    fn step(&mut self) {
        for (rank_idx, stream) in self.streams.iter_mut().enumerate() {
            let batch = stream.next_batch().unwrap();
            for row in 0..batch.batch {
                let document_idx = batch.document_idx[row].unwrap();
                *self.num_starts.entry(document_idx).or_default() += u64::from(batch.start_token[row] == 0);
                // A row that goes on has the state of the document's segment before.
                let place = (document_idx, batch.start_token[row]);
                let goes_on = self.last[rank_idx].get(row).is_some_and(|last| *last == Some(place));
                assert_eq!(batch.start_of_sequence[row], !goes_on);
                let end = batch.start_token[row] + batch.segment_len;
                self.last[rank_idx].resize(batch.batch, None);
                self.last[rank_idx][row] = Some((document_idx, end));
                for i in (0..batch.segment_len).filter(|i| batch.tokens[row * batch.segment_len + i] != 0) {
                    *self.read.entry((document_idx, batch.start_token[row] + i)).or_default() += 1;
                }
            }
        }
    }

    /// Checks that every token was read once for each time its document was begun, unless a row or a queue still has
    /// it before it, and that every document was begun once in each epoch.
    fn check(&self, lens: &[usize]) {
        let cursors = self.cursors();
        let begun = || cursors.iter().flat_map(|c| c.rows.iter().flatten().chain(&c.waiting));
        for (document_idx, &len) in lens.iter().enumerate() {
            let num_starts = self.num_starts.get(&document_idx).copied().unwrap_or(0);
            for token in 0..len {
                let ahead =
                    begun().filter(|row| row.document_idx == document_idx && row.position <= token).count();
                let read = self.read.get(&(document_idx, token)).copied().unwrap_or(0);
                assert_eq!(read + ahead as u64, num_starts, "document {document_idx}, token {token}");
            }
        }
        let place = &StreamCursor::redistribute(&cursors, 1, 1).unwrap()[0];
        let num_epochs = place.base / lens.len() as u64;
        let total: u64 = self.num_starts.values().sum();
        assert_eq!(total, place.base + place.ahead.len() as u64);
        assert!((0..lens.len()).all(|i| self.num_starts.get(&i).copied().unwrap_or(0) >= num_epochs));
    }
}

proptest! {
    #[test]
    fn no_document_is_skipped_or_read_twice(
        lens in prop::collection::vec(2usize..30, 1..30),
        phases in prop::collection::vec((1usize..4, 1usize..4, 0usize..25), 1..5),
    ) {
        let set = set(&lens);
        let (batch, count, num_steps) = phases[0];
        let mut run = Run::new(&set, batch, count);
        (0..num_steps).for_each(|_| run.step());
        run.check(&lens);
        for &(batch, count, num_steps) in &phases[1..] {
            run.redistribute(&set, batch, count);
            (0..num_steps).for_each(|_| run.step());
            run.check(&lens);
        }
    }

    #[test]
    fn processes_evaluate_each_document_once(
        lens in prop::collection::vec(2usize..30, 3..30), batch in 1usize..4, count in 1usize..4,
    ) {
        let set = set(&lens);
        let mut starts = vec![0; lens.len()];
        for idx in 0..count {
            let stream = EvaluationStream::new(Arc::clone(&set), config(batch, Rank { idx, count })).unwrap();
            for batch in stream.map(Result::unwrap) {
                for row in (0..batch.batch).filter(|&row| batch.start_of_sequence[row]) {
                    starts[batch.document_idx[row].unwrap()] += 1;
                }
            }
        }
        prop_assert_eq!(starts, vec![1; lens.len()]);
    }
}

#[test]
fn the_same_numbers_go_on_exactly() {
    let set = set(&[9, 4, 17, 3, 8, 12]);
    let mut run = Run::new(&set, 2, 2);
    (0..5).for_each(|_| run.step());
    let cursors = run.cursors();
    for (stream, cursor) in run.streams.iter_mut().zip(cursors) {
        let text = serde_json::to_string(&cursor).unwrap();
        let cursor: StreamCursor = serde_json::from_str(&text).unwrap();
        let mut resumed = TrainStream::resume(Arc::clone(&set), config(2, cursor.rank), 7, cursor).unwrap();
        (0..9).for_each(|_| assert_eq!(resumed.next_batch().unwrap(), stream.next_batch().unwrap()));
    }
}

#[test]
fn cursors_of_several_runs_are_refused() {
    let set = set(&[9, 4, 17]);
    let run = Run::new(&set, 2, 2);
    let cursors = run.cursors();
    let error = |cursors: &[StreamCursor]| StreamCursor::redistribute(cursors, 1, 1).unwrap_err().to_string();
    for (batch, count, name) in [(0, 1, "batch"), (1, 0, "rank.count")] {
        let error = StreamCursor::redistribute(&cursors, batch, count).unwrap_err().to_string();
        assert_eq!(error, format!("{name}: expected at least 1, got 0"));
    }
    assert!(error(&[]).starts_with("cursor: expected cursors one of each process, got none"));
    assert!(error(&cursors[..1]).starts_with("cursor: expected rank 0 of 1, got 0 of 2"));
    assert!(
        error(&[cursors[1].clone(), cursors[0].clone()])
            .starts_with("cursor: expected rank 0 of 2, got 1 of 2")
    );
    let other = StreamCursor { seed: 8, ..cursors[1].clone() };
    assert!(error(&[cursors[0].clone(), other]).contains("those of rank 0, got another of rank 1"));
}

#[test]
fn a_thread_that_reads_ahead_changes_nothing() {
    let set = set(&[9, 4, 17, 3, 8, 12]);
    let stream = || TrainStream::new(Arc::clone(&set), config(2, Rank::ALONE), 3).unwrap();
    let (mut here, mut ahead) = (stream(), Prefetch::new(stream(), 3));
    for _ in 0..20 {
        assert_eq!(ahead.next_batch().unwrap(), here.next_batch().unwrap());
        assert_eq!(ahead.cursor(), here.cursor());
    }
}
