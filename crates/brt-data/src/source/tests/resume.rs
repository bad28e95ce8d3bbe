//! Reading that begins in the middle gives what would have come.

use tempfile::tempdir;

use super::{Read, config, gzip, skipping, write};
use crate::source::{BytesRead, SourceConfig, SourceFormat, Unit, plan};

/// Reads a unit from behind each of its documents, where a preparation goes on, and compares with what is left of the
/// whole.
pub(super) fn check(unit: &Unit, config: &SourceConfig) {
    let read = |num_done| {
        let mut read = Read::default();
        read.add(unit.open(config, num_done, &BytesRead::default())).unwrap();
        read
    };
    let whole = read(0);
    for &num_done in [0].iter().chain(&whole.document_ends) {
        let rest = read(num_done);
        assert_eq!(rest.num_inputs, whole.num_inputs.saturating_sub(num_done), "{num_done}");
        assert_eq!(rest.docs, whole.docs[whole.docs.len() - rest.docs.len()..]);
        assert_eq!(rest.skips, whole.skips[whole.skips.len() - rest.skips.len()..]);
    }
}

/// Checks each unit of a source.
pub(super) fn check_source(config: &SourceConfig) {
    let config = skipping(config);
    plan(&config).unwrap().units.iter().for_each(|unit| check(unit, &config));
}

#[test]
fn every_format_resumes() {
    let folder = tempdir().unwrap();
    let path = folder.path();
    let rows =
        "{\"text\":\"a\"}\n\n{\"text\":1}\n{\"text\":\"\"}\nbroken\n{\"text\":\"b\"}\r\n{\"text\":\"c\"}";
    check_source(&SourceConfig::new(write(path, "a.jsonl", rows)));
    let mut cut = gzip(rows.repeat(9).as_bytes());
    cut.truncate(cut.len() - 3);
    check_source(&SourceConfig::new(write(path, "b.jsonl.gz", cut)));
    check_source(&SourceConfig::new(write(path, "empty.jsonl", "")));
    check_source(&config(&write(path, "raw", "some text\n".repeat(99)), SourceFormat::Raw));
    check_source(&config(&write(path, "tiny", "x"), SourceFormat::Raw));
    check_source(&config(&write(path, "file", "some text"), SourceFormat::Files));
    write(path, "tree/one/a", "a");
    write(path, "tree/one/b", b"\xff");
    write(path, "tree/two/b", b"\xff");
    check_source(&config(&path.join("tree"), SourceFormat::Tree));
}

/// What was readable when a preparation was interrupted and is not any more is an error, or a skip that is counted:
/// its documents do not vanish.
#[test]
fn what_vanished_meanwhile_is_told() {
    let folder = tempdir().unwrap();
    let samples =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sources/parquet_variants");
    let parquet = std::fs::read(samples.join("snappy_string.parquet")).unwrap();
    let rows = "{\"text\":\"a\"}\n".repeat(9);
    for (name, contents) in [
        ("a.jsonl", rows.as_bytes().to_vec()),
        ("a.jsonl.gz", gzip(rows.as_bytes())),
        ("a.parquet", parquet),
        ("raw", rows.clone().into_bytes()),
    ] {
        let path = write(folder.path(), name, &contents);
        let config = SourceConfig::new(&path);
        let units = plan(&config).unwrap().units;
        for contents in [None, Some(&contents[..3])] {
            match contents {
                None => std::fs::remove_file(&path).unwrap(),
                Some(contents) => drop(write(folder.path(), name, contents)),
            }
            if contents.is_some() && name != "a.jsonl.gz" && name != "a.parquet" {
                continue; // A shorter file of text is a whole one.
            }
            let open = |config: &SourceConfig| units[0].open(config, 2, &BytesRead::default());
            assert!(Read::default().add(open(&config)).is_err(), "{name}");
            let mut read = Read::default();
            read.add(open(&skipping(&config))).unwrap();
            assert_eq!((read.docs.len(), read.skips.is_empty()), (0, false), "{name}");
        }
    }
}

#[test]
fn parquet_resumes_inside_and_between_groups_of_rows() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sources/parquet_variants");
    for name in [
        "snappy_string",
        "gzip_large_string",
        "zstd_binary_v2_plain",
        "lz4_required",
        "none_delta",
        "nulls",
        "empty",
    ] {
        check_source(&SourceConfig::new(folder.join(format!("{name}.parquet"))));
    }
}

#[test]
fn every_byte_of_the_disk_is_counted() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sources");
    for name in ["pg19_layout", "pg19_parquet", "proof_pile_2", "redpajama_arxiv"] {
        let config = SourceConfig::new(folder.join(name));
        for unit in plan(&config).unwrap().units {
            let bytes_read = BytesRead::default();
            assert!(unit.open(&config, 0, &bytes_read).all(|event| event.is_ok()));
            assert_eq!(bytes_read.get(), unit.num_bytes, "{}", unit.name);
        }
    }
}
