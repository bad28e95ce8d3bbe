//! Arbitrary and mutated input: never a panic, never an endless loop. `BRT_FUZZ_CASES` sets the number of inputs.

use std::{fs, path::Path};

use proptest::prelude::*;
use tempfile::tempdir;

use super::{Read, gzip, read, resume::check_source, skipping, write, zstd};
use crate::source::{
    BytesRead, InvalidUtf8, SourceConfig, Unit, bucket, columns::Row, error::Place, unit::Kind,
    walk::FileEntry,
};

fn num_cases() -> u32 {
    std::env::var("BRT_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500)
}

/// Changes of a file: overwritten bytes, a cut, a repeated part.
fn mutate(bytes: &[u8], changes: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (index, kind, byte) in changes {
        if bytes.is_empty() {
            break;
        }
        let at = index.index(bytes.len());
        match kind % 5 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, *byte),
            2 => bytes.extend_from_within(at..),
            3 => bytes[at] ^= 1 << (byte % 8),
            _ => bytes[at] = *byte,
        }
        bytes.truncate(100_000);
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 0..6)
}

/// Pieces of JSON in any order, and bytes.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let parts = [
        "{",
        "}",
        "\"text\":",
        "\"content\":",
        "\"",
        "a",
        "\\ud800",
        "\\n",
        "1",
        "null",
        "[",
        "]",
        ",",
        "\n",
        "\r\n",
        "{\"text\":\"x\"}\n",
    ];
    let part = prop_oneof![
        6 => prop::sample::select(parts.to_vec()).prop_map(|part| part.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4)
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

/// Reads a file with and without skipping. With skipping nothing is an error; without, the first error is the first
/// skip that is no empty document. Reading resumes behind every input.
fn check(path: &Path, invalid_utf8: InvalidUtf8) {
    let config = SourceConfig { invalid_utf8, ..SourceConfig::new(path) };
    let found = read(&skipping(&config)).unwrap();
    let has_error = found.skips.iter().any(|(reason, _)| reason != "empty");
    assert_eq!(read(&config).is_err(), has_error);
    check_source(&config);
}

fn modes() -> impl Strategy<Value = InvalidUtf8> {
    prop::sample::select(vec![InvalidUtf8::Strict, InvalidUtf8::Replace, InvalidUtf8::Bytes])
}

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sources").join(name)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: num_cases(), ..ProptestConfig::default() })]

    #[test]
    fn any_lines_are_read(text in lines(), mode in modes(), changes in changes()) {
        let folder = tempdir().unwrap();
        check(&write(folder.path(), "a.jsonl", &text), mode);
        check(&write(folder.path(), "a.jsonl.gz", mutate(&gzip(&text), &changes)), mode);
        check(&write(folder.path(), "a.jsonl.zst", mutate(&zstd(&text), &changes)), mode);
    }

    #[test]
    fn any_table_is_read(idx in 0..8usize, mode in modes(), changes in changes()) {
        let names = ["snappy_string", "gzip_large_string", "zstd_binary_v2_plain", "lz4_required", "none_delta", "nulls", "nested", "empty"];
        let bytes = sample(&format!("parquet_variants/{}.parquet", names[idx]));
        let folder = tempdir().unwrap();
        check(&write(folder.path(), "a.parquet", mutate(&bytes, &changes)), mode);
    }

    #[test]
    fn any_bucket_is_read(rows in prop::collection::vec(("[ab]", prop::option::of("[ab]"), "[a\n]{0,9}"), 0..9), changes in changes()) {
        let place = Place::file(Path::new("a"), "a");
        let mut bytes = Vec::new();
        for (group, path, text) in rows {
            let row = Row { text: text.into_bytes(), name: None, group: Some(group), path, place: place.clone() };
            bucket::write(&row, None, &mut bytes);
        }
        let folder = tempdir().unwrap();
        let path = write(folder.path(), "a.rows", mutate(&bytes, &changes));
        let file = FileEntry { path: path.clone(), name: "a".to_owned(), num_bytes: 0 };
        let unit = Unit { name: "a".to_owned(), num_bytes: 0, split: None, kind: Kind::Bucket { file } };
        let mut read = Read::default();
        read.add(unit.open(&skipping(&SourceConfig::new(path)), 0, &BytesRead::default())).unwrap();
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300), mode in modes()) {
        let folder = tempdir().unwrap();
        for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.txt"] {
            check(&write(folder.path(), name, &bytes), mode);
        }
    }
}
