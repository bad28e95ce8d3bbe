//! What streams say about configurations and cursors that do not fit.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Arc;

use brt_data::{
    Document, EvaluationStream, Pack, Rank, StreamConfig, StreamCursor, TargetRule, TokenSet, TrainStream,
};

/// Returns a set of documents of these lengths.
fn set(lens: &[usize]) -> Arc<TokenSet> {
    let document = |len: &usize| Document { name: "d".into(), group: "g".into(), text: vec![b'a'; *len] };
    Arc::new(TokenSet::from_documents(&lens.iter().map(document).collect::<Vec<_>>()).unwrap())
}

fn config(batch: usize, segment_len: usize, target_rule: TargetRule) -> StreamConfig {
    let (pack, rank) = (Pack::RestartAnywhere, Rank::ALONE);
    StreamConfig { batch, segment_len, target_rule, pack, rank, max_document_len: None }
}

#[test]
fn unusable_configurations_are_errors() {
    let across = config(2, 3, TargetRule::AcrossSegments);
    let cases = [
        (StreamConfig { batch: 0, ..across }, "batch: expected at least 1, got 0"),
        (StreamConfig { segment_len: 0, ..across }, "segment_len: expected at least 1, got 0"),
        (config(2, 1, TargetRule::WithinSegment), "segment_len: expected at least 2, got 1"),
        (
            StreamConfig { max_document_len: Some(1), ..across },
            "max_document_len: expected at least 2, got 1",
        ),
        (
            StreamConfig { rank: Rank { idx: 2, count: 2 }, ..across },
            "rank.count: expected at least 3, got 2",
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(TrainStream::new(set(&[9]), config, 0).unwrap_err().to_string(), expected);
        assert_eq!(EvaluationStream::new(set(&[9]), config).unwrap_err().to_string(), expected);
    }
    let error = TrainStream::new(set(&[1, 1]), across, 0).unwrap_err().to_string();
    let expected = "documents: expected one of at least 2 tokens, got none; add longer documents";
    assert_eq!(error, expected);
    assert_eq!(EvaluationStream::new(set(&[1]), across).unwrap_err().to_string(), expected);
}

#[test]
fn cursors_of_other_runs_are_errors() {
    let across = config(2, 3, TargetRule::AcrossSegments);
    let mut stream = TrainStream::new(set(&[9, 9]), across, 4).unwrap();
    stream.next_batch().unwrap();
    let cursor = stream.cursor();
    let with = |change: fn(&mut StreamCursor)| {
        let mut cursor = cursor.clone();
        change(&mut cursor);
        TrainStream::resume(set(&[9, 9]), across, 4, cursor).map(|_| ()).unwrap_err().to_string()
    };
    let text =
        |what: &str| format!("cursor: expected {what}; resume with the configuration that wrote the cursor");
    assert_eq!(with(|c| c.seed = 5), text("seed 4, got 5"));
    assert_eq!(with(|c| c.segment_len = 2), text("segment_len 3, got 2"));
    assert_eq!(with(|c| c.max_document_len = Some(8)), text("max_document_len none, got 8"));
    assert_eq!(with(|c| c.rows.truncate(1)), text("batch 2, got 1"));
    assert!(with(|c| c.num_taken = u64::MAX).starts_with("cursor: expected num_taken a place up to "));
    assert_eq!(with(|c| c.rows[0].as_mut().unwrap().document_idx = 2), text("document_idx below 2, got 2"));
    assert_eq!(with(|c| c.rows[0].as_mut().unwrap().position = 9), text("row position below 9, got 0 + 9"));
    assert!(with(|c| c.manifest_sha256.clear()).starts_with("cursor: expected manifest_sha256 "));
}

#[test]
fn sets_without_text_are_errors() {
    let error = TokenSet::from_documents(&[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "documents: expected at least 1 document in split train, got 0; add documents to the corpus"
    );
    let empty = Document { name: "d".into(), group: "g".into(), text: vec![] };
    let error = TokenSet::from_documents(&[empty]).unwrap_err().to_string();
    assert_eq!(error, "document text: expected at least 1, got 0");
}
