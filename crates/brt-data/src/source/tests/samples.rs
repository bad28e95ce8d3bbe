//! The layouts that people have: documents, bytes and a hash of the texts, as Python counted them (`json`, `gzip`,
//! `zstandard`, `pyarrow`): SHA-256 of the texts joined by a zero byte, the first 16 digits.

use std::path::{Path, PathBuf};

use super::{Read, config, error, read};
use crate::{
    Split,
    manifest::sha256_hex,
    source::{SourceConfig, SourceFormat, plan},
};

const ROWS: (usize, usize, &str) = (25, 1265, "af34e073857768c1");
const ARXIV: (usize, usize, &str) = (5, 45_875, "70e1ffa301385ae4");

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sources").join(name)
}

/// Returns documents, bytes and the hash of the documents that `keep` accepts.
fn count(read: &Read, split: Option<Split>) -> (usize, usize, String) {
    let texts: Vec<&[u8]> = read
        .docs
        .iter()
        .filter(|doc| split.is_none() || doc.split == split)
        .map(|doc| &doc.text[..])
        .collect();
    let hash = sha256_hex(&texts.join(&0))[..16].to_owned();
    (texts.len(), texts.iter().map(|text| text.len()).sum(), hash)
}

fn check(name: &str, format: SourceFormat, expected: (usize, usize, &str)) {
    let config = SourceConfig::new(sample(name));
    assert_eq!(plan(&config).unwrap().format, format, "{name}");
    let (docs, bytes, hash) = count(&read(&config).unwrap(), None);
    assert_eq!((docs, bytes, hash.as_str()), expected, "{name}");
}

#[test]
fn rows_are_what_python_reads() {
    check("redpajama_arxiv/arxiv_sample.jsonl", SourceFormat::Jsonl, ARXIV);
    check("redpajama_arxiv/arxiv_sample.jsonl.gz", SourceFormat::Jsonl, ARXIV);
    for name in [
        "redpajama_github/filtered.jsonl.gz",
        "the_stack_v1",
        "the_stack_v2_style",
        "the_stack_v2_style/part-0.parquet",
    ] {
        let format = if name.contains("stack") { SourceFormat::Parquet } else { SourceFormat::Jsonl };
        check(name, format, (5, 6890, "2720cbf0afc5833a"));
    }
    for name in ["snappy_string", "gzip_large_string", "zstd_binary_v2_plain", "lz4_required", "none_delta"] {
        check(&format!("parquet_variants/{name}.parquet"), SourceFormat::Parquet, ROWS);
    }
    check("parquet_variants/nested.parquet", SourceFormat::Parquet, (3, 12, "ff02438c926fc48b"));
    let both = read(&SourceConfig::new(sample("redpajama_arxiv"))).unwrap();
    assert_eq!((both.docs.len(), both.docs[5].name.as_str()), (10, "arxiv_sample.jsonl.gz:1"));
}

#[test]
fn splits_are_in_the_paths() {
    let expected = [
        (Split::Train, (2, 15_912), "1787d1aa6d48fd3a"),
        (Split::Validation, (1, 7960), "96016802450e101e"),
        (Split::Test, (1, 7956), "6602e14b0a574999"),
    ];
    let parquet = read(&SourceConfig::new(sample("pg19_parquet"))).unwrap();
    let zst = read(&SourceConfig::new(sample("proof_pile_2"))).unwrap();
    for (split, (docs, bytes), hash) in expected {
        assert_eq!(count(&parquet, Some(split)), (docs, bytes, hash.to_owned()), "{split}");
        assert_eq!(count(&zst, Some(split)), (2, 18_347, "fa949ecde8175ec4".to_owned()), "{split}");
    }
    assert_eq!(parquet.docs[0].name, "data/test-00000-of-00001.parquet:1");
    assert_eq!(parquet.docs[0].group, parquet.docs[0].name);
}

#[test]
fn books_belong_to_their_authors() {
    let books = read(&SourceConfig::new(sample("pg19_layout"))).unwrap();
    let found: Vec<_> =
        books.docs.iter().map(|doc| (doc.name.as_str(), doc.group.as_str(), doc.split)).collect();
    let expected = [
        ("test/105.txt", "Jane Austen", Some(Split::Test)),
        ("train/1695.txt", "G. K. Chesterton", Some(Split::Train)),
        ("train/28885.txt", "Lewis Carroll", Some(Split::Train)),
        ("validation/121.txt", "Jane Austen", Some(Split::Validation)),
    ];
    assert_eq!(found, expected);
    assert_eq!(count(&books, Some(Split::Test)).2, "6602e14b0a574999");
    assert_eq!(books.docs[1].text, std::fs::read(sample("pg19_layout/train/1695.txt")).unwrap());
}

#[test]
fn names_come_from_a_column() {
    let config = SourceConfig {
        name_column: Some("short_book_title".to_owned()),
        ..SourceConfig::new(sample("pg19_parquet"))
    };
    assert_eq!(read(&config).unwrap().docs[0].name, "Persuasion by Jane Austen");
    let year = SourceConfig { name_column: Some("publication_date".to_owned()), ..config };
    assert_eq!(read(&year).unwrap().docs[0].name, "1817");
    let nested = SourceConfig {
        name_column: Some("meta.arxiv_id".to_owned()),
        ..SourceConfig::new(sample("redpajama_arxiv/arxiv_sample.jsonl"))
    };
    assert_eq!(read(&nested).unwrap().docs[4].name, "2001.00004");
}

#[test]
fn tables_without_the_columns_are_errors() {
    let message = |name: &str, expected: &str| {
        let path = sample(&format!("parquet_variants/{name}.parquet"));
        assert_eq!(error(&config(&path, SourceFormat::Auto)), format!("{}{expected}", path.display()));
    };
    message(
        "no_text",
        ": expected a text column `text` or `content`, got the columns `title`, `body`; name it with --text-column",
    );
    let other = "; name another one with --text-column";
    message("number", &format!(": expected text in column `text`, got numbers{other}"));
    message("list", &format!(": expected text in column `text`, got nested columns{other}"));
    message(
        "nulls",
        ": row 2: expected text in column `text`, got null; leave such rows out with --on-error skip",
    );
    message(
        "brotli",
        ": expected columns packed with snappy, gzip, zstd, lz4 or not at all, got BROTLI(BrotliLevel(1)); write it anew",
    );
    message(
        "invalid_utf8",
        ": row 2: expected UTF-8, got the byte 0xE9 at offset 3 of the text; convert it, or choose --invalid-utf8 replace or bytes",
    );
}
