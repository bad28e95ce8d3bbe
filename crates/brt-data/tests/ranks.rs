//! What a row reads does not depend on the number of processes that share the rows.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Arc;

use brt_data::{
    Document, EvaluationStream, Pack, Prefetch, Rank, SegmentBatch, StreamConfig, StreamCursor, TargetRule,
    TokenSet, TrainStream,
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

fn config(batch: usize, rank: Rank, max_document_len: Option<usize>) -> StreamConfig {
    let (target_rule, pack) = (TargetRule::AcrossSegments, Pack::RestartAnywhere);
    StreamConfig { batch, segment_len: 3, target_rule, pack, rank, max_document_len }
}

fn ranks(count: usize) -> impl Iterator<Item = Rank> {
    (0..count).map(move |idx| Rank { idx, count })
}

/// Returns the rows of a batch, each as tokens, document, place in it, and whether it begins.
type Row = (Vec<i64>, Option<usize>, usize, bool);
fn rows(batch: &SegmentBatch) -> Vec<Row> {
    let row = |row: usize| {
        let tokens = &batch.tokens[row * batch.segment_len..(row + 1) * batch.segment_len];
        (tokens.to_vec(), batch.document_idx[row], batch.start_token[row], batch.start_of_sequence[row])
    };
    (0..batch.batch).map(row).collect()
}

proptest! {
    #[test]
    fn processes_train_on_the_rows_of_one(
        lens in prop::collection::vec(2usize..30, 1..20),
        batch in 1usize..7,
        max_document_len in prop::option::of(2usize..12),
        phases in prop::collection::vec((1usize..6, 0usize..12), 1..4),
    ) {
        let set = set(&lens);
        let mut alone = TrainStream::new(Arc::clone(&set), config(batch, Rank::ALONE, max_document_len), 7).unwrap();
        for (count, num_steps) in phases {
            // Another number of processes goes on from the cursor of any of those before.
            let cursor = serde_json::to_string(&alone.cursor()).unwrap();
            let mut processes: Vec<TrainStream> = ranks(count)
                .map(|rank| {
                    let cursor: StreamCursor = serde_json::from_str(&cursor).unwrap();
                    TrainStream::resume(Arc::clone(&set), config(batch, rank, max_document_len), 7, cursor).unwrap()
                })
                .collect();
            for _ in 0..num_steps {
                let whole = alone.next_batch().unwrap();
                let parts: Vec<_> = processes.iter_mut().map(|stream| stream.next_batch().unwrap()).collect();
                prop_assert_eq!(parts.iter().flat_map(rows).collect::<Vec<_>>(), rows(&whole));
                prop_assert_eq!(parts.iter().map(|part| part.num_scored).sum::<u64>(), whole.num_scored);
                prop_assert!(processes.iter().all(|stream| stream.cursor() == alone.cursor()));
            }
        }
    }

    #[test]
    fn processes_evaluate_the_rows_of_one(
        lens in prop::collection::vec(2usize..30, 3..30), batch in 1usize..5, count in 1usize..7,
    ) {
        let set = set(&lens);
        let stream = |rank| EvaluationStream::new(Arc::clone(&set), config(batch, rank, None)).unwrap();
        let alone: Vec<_> = stream(Rank::ALONE).map(Result::unwrap).collect();
        let processes: Vec<Vec<_>> = ranks(count).map(|rank| stream(rank).map(Result::unwrap).collect()).collect();
        prop_assert!(processes.iter().all(|batches| batches.len() == alone.len()));
        for (idx, whole) in alone.iter().enumerate() {
            let parts = processes.iter().flat_map(|batches| rows(&batches[idx])).collect::<Vec<_>>();
            prop_assert_eq!(parts, rows(whole));
        }
    }
}

#[test]
fn a_thread_that_reads_ahead_changes_nothing() {
    let set = set(&[9, 4, 17, 3, 8, 12]);
    let stream = || TrainStream::new(Arc::clone(&set), config(2, Rank::ALONE, None), 3).unwrap();
    let (mut here, mut ahead) = (stream(), Prefetch::new(stream(), 3));
    for _ in 0..20 {
        assert_eq!(ahead.next_batch().unwrap(), here.next_batch().unwrap());
        assert_eq!(ahead.cursor(), here.cursor());
    }
}
