//! The streams read every token, once, in order, and continue exactly.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Arc;

use brt_data::{
    Document, EvaluationStream, Pack, Rank, SegmentBatch, StreamConfig, StreamCursor, TargetRule, TokenSet,
    TrainStream,
};
use proptest::prelude::*;

/// Returns a set of documents of these lengths; token `i` of a document tells its position modulo 251.
fn set(lens: &[usize]) -> Arc<TokenSet> {
    let document = |(document_idx, &len): (usize, &usize)| Document {
        name: format!("d{document_idx}"),
        group: "g".into(),
        text: (0..len).map(|i| (i % 251) as u8).collect(),
    };
    let documents: Vec<_> = lens.iter().enumerate().map(document).collect();
    Arc::new(TokenSet::from_documents(&documents).unwrap())
}

fn config(batch: usize, segment_len: usize, target_rule: TargetRule) -> StreamConfig {
    let (pack, rank) = (Pack::RestartAnywhere, Rank::ALONE);
    StreamConfig { batch, segment_len, target_rule, pack, rank, max_document_len: None }
}

fn evaluation(set: &Arc<TokenSet>, config: StreamConfig) -> EvaluationStream {
    EvaluationStream::new(Arc::clone(set), config).unwrap()
}

fn training(set: &Arc<TokenSet>, config: StreamConfig, seed: u64) -> TrainStream {
    TrainStream::new(Arc::clone(set), config, seed).unwrap()
}

/// Counts how often each token of each document was read and predicted, and checks tokens and targets.
struct Coverage {
    set: Arc<TokenSet>,
    read: Vec<Vec<u32>>,
    scored: Vec<Vec<u32>>,
}

impl Coverage {
    fn new(set: &Arc<TokenSet>) -> Self {
        let counts = |i| vec![0; set.document(i).unwrap().tokens.len()];
        let zeros: Vec<_> = (0..set.num_documents()).map(counts).collect();
        Self { set: Arc::clone(set), read: zeros.clone(), scored: zeros }
    }

    fn add(&mut self, batch: &SegmentBatch) {
        let n = batch.segment_len;
        let mut num_scored = 0;
        for row in 0..batch.batch {
            let start = batch.start_token[row];
            let Some(document_idx) = batch.document_idx[row] else {
                assert!(batch.tokens[row * n..][..n].iter().all(|&token| token == 0));
                assert!(batch.loss_mask[row * n..][..n].iter().all(|&mask| mask == 0.));
                continue;
            };
            let tokens = self.set.document(document_idx).unwrap().tokens;
            for i in (0..n).filter(|i| batch.tokens[row * n + i] != 0) {
                assert_eq!(batch.tokens[row * n + i], i64::from(tokens.get(start + i)));
                self.read[document_idx][start + i] += 1;
            }
            for i in (0..n).filter(|i| batch.loss_mask[row * n + i] == 1.) {
                assert_eq!(batch.targets[row * n + i], i64::from(tokens.get(start + i + 1)));
                self.scored[document_idx][start + i + 1] += 1;
                num_scored += 1;
            }
        }
        assert_eq!(batch.num_scored, num_scored);
    }
}

/// Both streams leave out token 0 where the paper's rule is asked for, and score it where not.
#[test]
fn token_0_is_scored_by_restart_anywhere_only() {
    let (texts, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for split in ["train", "validation", "test"] {
        std::fs::create_dir(texts.path().join(split)).unwrap();
        std::fs::write(texts.path().join(split).join("a"), b"a\0b\0\0cde").unwrap();
    }
    let source = brt_data::CorpusSource::files(texts.path(), brt_data::SourceFormat::Files);
    let tokenizer = brt_data::Tokenizer::bytes();
    let corpus = brt_data::PrepareConfig { tokenizer, ..brt_data::PrepareConfig::new(source) };
    brt_data::prepare(&corpus, out.path()).unwrap();
    let set = Arc::new(TokenSet::open(out.path(), brt_data::Split::Train).unwrap());
    for (pack, mask) in [
        (Pack::RestartAnywhere, [1., 1., 1., 1., 1., 1., 1., 0.]),
        (Pack::Paper, [0., 0., 0., 0., 0., 1., 1., 0.]),
    ] {
        let config = StreamConfig { pack, ..config(1, 8, TargetRule::AcrossSegments) };
        let batches = [
            training(&set, config, 1).next_batch().unwrap(),
            evaluation(&set, config).next().unwrap().unwrap(),
        ];
        for batch in batches {
            assert_eq!(batch.loss_mask, mask, "{pack:?}");
            assert_eq!(batch.num_scored, mask.iter().sum::<f32>() as u64);
        }
    }
}

#[test]
fn rows_carry_on_independently_and_idle_at_the_end() {
    let stream = evaluation(&set(&[5, 2, 1]), config(2, 3, TargetRule::WithinSegment));
    let batches: Vec<_> = stream.map(Result::unwrap).collect();
    let [first, second] = &batches[..] else { panic!("expected 2 batches, got {}", batches.len()) };
    // Byte b is token b + 3. Row 1 takes the third document when the second has ended.
    assert_eq!(first.tokens, [3, 4, 5, /**/ 3, 4, 0]);
    assert_eq!(first.targets, [4, 5, 0, /**/ 4, 0, 0]);
    assert_eq!(first.loss_mask, [1., 1., 0., /**/ 1., 0., 0.]);
    assert_eq!((first.num_scored, &first.start_of_sequence[..]), (3, &[true, true][..]));
    assert_eq!(first.document_idx, [Some(0), Some(1)]);
    assert_eq!(second.tokens, [6, 7, 0, /**/ 3, 0, 0]);
    assert_eq!(second.targets, [7, 0, 0, /**/ 0, 0, 0]);
    assert_eq!(second.start_of_sequence, [false, true]);
    assert_eq!((&second.document_idx[..], &second.start_token[..]), (&[Some(0), Some(2)][..], &[3, 0][..]));
    assert_eq!(second.num_scored, 1);

    let mut stream = evaluation(&set(&[7, 2]), config(2, 3, TargetRule::AcrossSegments));
    assert_eq!(stream.next().unwrap().unwrap().targets, [4, 5, 6, /**/ 4, 0, 0]);
    let second = stream.next().unwrap().unwrap();
    assert_eq!(second.tokens, [6, 7, 8, /**/ 0, 0, 0]);
    assert_eq!(second.targets, [7, 8, 9, /**/ 0, 0, 0]);
    assert_eq!((second.document_idx[1], second.start_of_sequence[1]), (None, false));
    let third = stream.next().unwrap().unwrap();
    assert_eq!((third.tokens[0], third.num_scored), (9, 0));
    assert!(stream.next().is_none() && stream.next().is_none());
}

#[test]
fn only_the_first_tokens_are_evaluated_with_a_limit() {
    let config = StreamConfig { max_document_len: Some(4), ..config(1, 3, TargetRule::AcrossSegments) };
    let stream = evaluation(&set(&[9, 2]), config);
    let tokens: Vec<_> = stream.flat_map(|batch| batch.unwrap().tokens).collect();
    assert_eq!(tokens, [3, 4, 5, /**/ 6, 0, 0, /**/ 3, 4, 0]);
}

#[test]
fn the_order_of_documents_depends_on_seed_and_epoch() {
    let set = set(&[3; 40]);
    let order = |seed| {
        let mut stream = training(&set, config(1, 3, TargetRule::WithinSegment), seed);
        (0..80).map(|_| stream.next_batch().unwrap().document_idx[0].unwrap()).collect::<Vec<_>>()
    };
    let epochs = order(1);
    assert_ne!(epochs[..40], epochs[40..]);
    assert_ne!(epochs, order(2));
    assert_eq!(epochs, order(1));
    // Written down: the order of the data must not change with a version of this crate or of a library.
    assert_eq!(epochs[..8], [6, 14, 22, 1, 11, 25, 13, 19]);
}

#[test]
fn more_rows_than_documents_read_later_epochs() {
    let mut stream = training(&set(&[6, 6]), config(5, 3, TargetRule::WithinSegment), 3);
    let batch = stream.next_batch().unwrap();
    assert!(batch.start_of_sequence.iter().all(|&start| start));
    assert_eq!(stream.cursor().num_taken, 5);
}

#[test]
fn every_piece_of_a_long_document_has_its_epoch() {
    let set = set(&[10, 3]);
    let config = StreamConfig { max_document_len: Some(4), ..config(1, 2, TargetRule::AcrossSegments) };
    let mut stream = training(&set, config, 5);
    let mut coverage = Coverage::new(&set);
    let mut starts = Vec::new();
    // Three pieces of 4 tokens, the last one overlaps; each epoch has 2 segments of each document.
    for _ in 0..12 {
        let batch = stream.next_batch().unwrap();
        if batch.document_idx[0] == Some(0) && batch.start_of_sequence[0] {
            starts.push(batch.start_token[0]);
        }
        coverage.add(&batch);
    }
    starts.sort_unstable();
    assert_eq!(starts, [0, 4, 6]);
    assert_eq!(coverage.read[0], [1, 1, 1, 1, 1, 1, 2, 2, 1, 1]);
    assert_eq!(coverage.read[1], [3; 3]);
    assert_eq!(coverage.scored[0], [0, 1, 1, 1, 0, 1, 1, 2, 1, 1]);
}

fn rules() -> impl Strategy<Value = TargetRule> {
    prop_oneof![Just(TargetRule::WithinSegment), Just(TargetRule::AcrossSegments)]
}

/// Documents of at least two tokens in the first place, so that something is predicted.
fn lens() -> impl Strategy<Value = Vec<usize>> {
    (2usize..40, prop::collection::vec(1usize..40, 0..9)).prop_map(|(first, mut lens)| {
        lens.push(first);
        lens
    })
}

proptest! {
    #[test]
    fn an_evaluation_scores_every_token_but_the_first_once(
        lens in lens(), batch in 1usize..5, segment_len in 1usize..12,
    ) {
        let set = set(&lens);
        let mut coverage = Coverage::new(&set);
        let mut num_rows = vec![0; lens.len()];
        for batch in evaluation(&set, config(batch, segment_len, TargetRule::AcrossSegments)).map(Result::unwrap) {
            coverage.add(&batch);
            for row in (0..batch.batch).filter(|&row| batch.start_of_sequence[row]) {
                num_rows[batch.document_idx[row].unwrap()] += 1;
            }
        }
        for (document_idx, &len) in lens.iter().enumerate() {
            prop_assert_eq!(&coverage.read[document_idx], &vec![1; len]);
            let mut scored = vec![1; len];
            scored[0] = 0;
            prop_assert_eq!(&coverage.scored[document_idx], &scored);
            prop_assert_eq!(num_rows[document_idx], 1);
        }
    }

    #[test]
    fn within_segments_only_the_first_token_of_each_is_not_scored(lens in lens(), segment_len in 2usize..12) {
        let set = set(&lens);
        let mut coverage = Coverage::new(&set);
        for batch in evaluation(&set, config(3, segment_len, TargetRule::WithinSegment)).map(Result::unwrap) {
            coverage.add(&batch);
        }
        for (document_idx, &len) in lens.iter().enumerate() {
            let scored: Vec<u32> = (0..len).map(|i| u32::from(i % segment_len != 0)).collect();
            prop_assert_eq!(&coverage.scored[document_idx], &scored);
        }
    }

    #[test]
    fn one_row_reads_each_token_once_per_epoch(
        lens in lens(), segment_len in 2usize..12, rule in rules(), seed: u64,
    ) {
        let set = set(&lens);
        let mut stream = training(&set, config(1, segment_len, rule), seed);
        let num_segments: usize = lens.iter().map(|len| len.div_ceil(segment_len)).sum();
        for _ in 0..3 {
            let mut coverage = Coverage::new(&set);
            for _ in 0..num_segments {
                coverage.add(&stream.next_batch().unwrap());
            }
            for (read, &len) in coverage.read.iter().zip(&lens) {
                prop_assert_eq!(read, &vec![1; len]);
            }
        }
    }

    #[test]
    fn rows_read_whole_documents_in_order_and_epochs_are_even(
        lens in lens(), batch in 1usize..5, segment_len in 2usize..12, seed: u64,
    ) {
        let set = set(&lens);
        let mut stream = training(&set, config(batch, segment_len, TargetRule::AcrossSegments), seed);
        let mut at: Vec<Option<(usize, usize)>> = vec![None; batch];
        let mut num_starts = vec![0i64; lens.len()];
        for _ in 0..60 {
            let segments = stream.next_batch().unwrap();
            for (row, at) in at.iter_mut().enumerate() {
                let document_idx = segments.document_idx[row].unwrap();
                let expected = at.unwrap_or((document_idx, 0));
                prop_assert_eq!((document_idx, segments.start_token[row]), expected);
                prop_assert_eq!(segments.start_of_sequence[row], at.is_none());
                num_starts[document_idx] += i64::from(at.is_none());
                let next = expected.1 + segment_len;
                *at = (next < lens[document_idx]).then_some((document_idx, next));
            }
            // No document is begun twice before all others were begun once.
            let most = num_starts.iter().max().unwrap();
            prop_assert!(num_starts.iter().all(|starts| most - starts <= 1));
        }
    }

    #[test]
    fn a_resumed_stream_is_the_uninterrupted_one(
        lens in lens(), batch in 1usize..5, segment_len in 2usize..12, seed: u64, num_before in 0usize..40,
        max_document_len in prop::option::of(2usize..20), rule in rules(),
    ) {
        let set = set(&lens);
        let config = StreamConfig { max_document_len, ..config(batch, segment_len, rule) };
        let mut stream = training(&set, config, seed);
        for _ in 0..num_before {
            stream.next_batch().unwrap();
        }
        let text = serde_json::to_string(&stream.cursor()).unwrap();
        let cursor: StreamCursor = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&cursor, &stream.cursor());
        let mut resumed = TrainStream::resume(Arc::clone(&set), config, seed, cursor).unwrap();
        for _ in 0..30 {
            prop_assert_eq!(resumed.next_batch().unwrap(), stream.next_batch().unwrap());
        }
        prop_assert_eq!(resumed.cursor(), stream.cursor());
    }
}
