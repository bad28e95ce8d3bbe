//! What every kind of damage to a prepared corpus says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::{fs, path::Path};

use brt_data::{DataError, Split, TokenSet, prepare, verify};
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

#[test]
fn a_damaged_token_is_an_error_when_it_is_read() {
    let out = prepared();
    edit(out.path(), "00000.train.tokens", |bytes| bytes[1] = 9);
    let set = std::sync::Arc::new(TokenSet::open(out.path(), Split::Train).unwrap());
    let config = brt_data::StreamConfig {
        batch: 2,
        segment_len: 16,
        target_rule: brt_data::TargetRule::AcrossSegments,
        pack: brt_data::Pack::RestartAnywhere,
        rank: brt_data::Rank::ALONE,
        max_document_len: None,
    };
    let mut stream = brt_data::EvaluationStream::new(set, config).unwrap();
    let error = text(stream.next().unwrap().unwrap_err());
    let expected = "document 0: expected tokens below 260, got 2409: a damaged file; run `brt data verify`";
    assert_eq!(error, expected);
}
