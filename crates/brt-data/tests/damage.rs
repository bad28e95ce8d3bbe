//! What every kind of damage to a prepared corpus says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::{fs, path::Path};

use brt_data::{
    DataError, EvaluationStream, Pack, Prefetch, Rank, Split, StreamConfig, TargetRule, TokenSet,
    TrainStream, prepare, verify,
};
use common::{books, files, files_of, prepared};
use tempfile::tempdir;

fn text(error: DataError) -> String {
    error.to_string()
}

/// Damages a prepared corpus and checks the start of the error of opening its training documents, after the path.
fn check_damage(damage: impl Fn(&Path), expected: &str) {
    let out = prepared();
    damage(out.path());
    let error = text(TokenSet::open(out.path(), Split::Train).unwrap_err());
    let expected = format!("{}{expected}", out.path().display());
    assert!(error.starts_with(&expected), "expected {expected}\ngot      {error}");
}

fn config() -> StreamConfig {
    StreamConfig {
        batch: 2,
        segment_len: 16,
        target_rule: TargetRule::AcrossSegments,
        pack: Pack::RestartAnywhere,
        rank: Rank::ALONE,
        max_document_len: None,
    }
}

fn edit(folder: &Path, name: &str, edit: fn(&mut Vec<u8>)) {
    let path = folder.join(name);
    let mut bytes = fs::read(&path).unwrap();
    edit(&mut bytes);
    fs::write(&path, bytes).unwrap();
}

fn edit_manifest(folder: &Path, from: &str, to: &str) {
    let path = folder.join("manifest.json");
    let manifest = fs::read_to_string(&path).unwrap();
    assert!(manifest.contains(from), "{from}");
    fs::write(&path, manifest.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_shard_cut_short_is_an_error() {
    let truncated =
        "/00000.train.tokens: expected 32 bytes, got 31; copy the file again, or prepare the corpus again";
    check_damage(|folder| edit(folder, "00000.train.tokens", |bytes| bytes.truncate(31)), truncated);
    check_damage(
        |folder| edit(folder, "00000.train.index", |bytes| bytes.truncate(9)),
        "/00000.train.index: expected ",
    );
    let other =
        "/00000.train.index: expected the index of the shard's documents, got a file that is no index";
    check_damage(|folder| edit(folder, "00000.train.index", |bytes| bytes[0] = b'B'), other);
    check_damage(
        |folder| fs::remove_file(folder.join("00000.train.tokens")).unwrap(),
        "/00000.train.tokens: cannot read",
    );

    let (books, out) = (books(), tempdir().unwrap());
    prepare(&files(&books), out.path()).unwrap();
    edit(out.path(), "00000.train.tokens", |bytes| bytes.truncate(31));
    let error = text(prepare(&files(&books), out.path()).unwrap_err());
    assert_eq!(error, format!("{}{truncated}", out.path().display()));
}

#[test]
fn a_damaged_manifest_is_an_error() {
    let cases = [
        (
            "\"format\": 2",
            "\"format\": 1",
            "manifest format 2, got 1; delete its folder and prepare the corpus again",
        ),
        (
            "\"format\": 2",
            "\"format\": 3",
            "manifest format 2, got 3 of a newer version; use that version of brt",
        ),
        ("{", "[", "a corpus manifest"),
        ("\"num_documents\"", "\"num_dokuments\"", "a corpus manifest"),
    ];
    for (from, to, expected) in cases {
        check_damage(
            |folder| edit_manifest(folder, from, to),
            &format!("/manifest.json: expected {expected}"),
        );
    }
    check_damage(
        |folder| fs::remove_file(folder.join("manifest.json")).unwrap(),
        ": expected a prepared corpus with a manifest.json, got none; prepare the corpus first",
    );
}

#[test]
fn verifying_finds_any_flipped_bit() {
    let out = prepared();
    verify(out.path(), &mut |_, _| ()).unwrap();
    for name in files_of(out.path()).into_keys() {
        let bytes = fs::read(out.path().join(&name)).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(out.path().join(&name), damaged).unwrap();
            assert!(verify(out.path(), &mut |_, _| ()).is_err(), "{name}, byte {at}");
        }
        fs::write(out.path().join(&name), bytes).unwrap();
    }
    verify(out.path(), &mut |_, _| ()).unwrap();
}

/// The file of a byte tokenizer is read leniently where a user wrote it, not where a manifest vouches for it.
#[test]
fn verifying_finds_any_change_of_the_tokenizer() {
    let out = prepared();
    let path = out.path().join("tokenizer.bytes");
    let sound = fs::read(&path).unwrap();
    for at in 0..sound.len() {
        for byte in (0..=255).filter(|byte| *byte != sound[at]) {
            let mut damaged = sound.clone();
            damaged[at] = byte;
            fs::write(&path, damaged).unwrap();
            assert!(verify(out.path(), &mut |_, _| ()).is_err(), "byte {byte} at {at}");
        }
    }
    fs::write(&path, [&sound[..], b"\n"].concat()).unwrap();
    assert!(verify(out.path(), &mut |_, _| ()).is_err());
}

/// The writer makes no document without tokens; an index that says so must not make a stream panic.
#[test]
fn a_document_without_tokens_is_an_error() {
    let out = prepared();
    edit(out.path(), "00000.train.index", |bytes| bytes[40..48].fill(0)); // End of the first document's tokens.
    let set = std::sync::Arc::new(TokenSet::open(out.path(), Split::Train).unwrap());
    let expected = "document 0: expected tokens and a name, got a damaged index; run `brt data verify`";
    assert_eq!(text(set.document(0).unwrap_err()), expected);
    assert_eq!(text(EvaluationStream::new(set, config()).unwrap_err()), expected);
}

/// An error that the reading thread meets arrives after the batches before it; the cursor stays at the last of them.
#[test]
fn an_error_of_the_reading_thread_arrives() {
    let (books, out) = (books(), tempdir().unwrap());
    fs::write(books.path().join("train/b.txt"), "a line\n".repeat(100)).unwrap();
    prepare(&files(&books), out.path()).unwrap();
    edit(out.path(), "00000.train.tokens", |bytes| *bytes.last_mut().unwrap() = 9);
    let set = std::sync::Arc::new(TokenSet::open(out.path(), Split::Train).unwrap());
    let stream = || TrainStream::new(std::sync::Arc::clone(&set), config(), 1).unwrap();
    let (mut here, mut ahead) = (stream(), Prefetch::new(stream(), 3));
    let error = loop {
        let cursor = here.cursor();
        match (here.next_batch(), ahead.next_batch()) {
            (Ok(expected), Ok(got)) => assert_eq!(got, expected),
            (Err(expected), Err(got)) => {
                assert_eq!(ahead.cursor(), cursor);
                break [text(expected), text(got)];
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(error[0] == error[1] && error[0].contains("expected tokens below 260"), "{error:?}");
    let expected =
        "batches: expected a stream that goes on, got one that ended with an error; resume from the cursor";
    assert_eq!(text(ahead.next_batch().unwrap_err()), expected);
    drop(Prefetch::new(stream(), 1)); // With a full channel, too, the thread ends.
}

#[test]
fn a_damaged_token_is_an_error_when_it_is_read() {
    let out = prepared();
    edit(out.path(), "00000.train.tokens", |bytes| bytes[1] = 9);
    let set = std::sync::Arc::new(TokenSet::open(out.path(), Split::Train).unwrap());
    let mut stream = EvaluationStream::new(set, config()).unwrap();
    let error = text(stream.next().unwrap().unwrap_err());
    let expected = "document 0: expected tokens below 260, got 2409: a damaged file; run `brt data verify`";
    assert_eq!(error, expected);
    assert!(stream.next().is_none());
}
