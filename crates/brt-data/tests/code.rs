//! The corpus of the crates that this workspace's lock file pins.

use std::{collections::HashMap, path::PathBuf};

use brt_data::{CorpusSource, PrepareConfig, Split, TokenSet, Tokenizer, manifest_sha256, prepare};
use tempfile::tempdir;

#[test]
fn crates_of_the_lock_file_are_a_sound_corpus() {
    let manifest_path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"));
    if !manifest_path.with_file_name("Cargo.lock").exists() {
        println!("skipped: no workspace around this crate");
        return;
    }
    let source = PrepareConfig::new(CorpusSource::Code { manifest_path });
    let (out, again) = (tempdir().unwrap(), tempdir().unwrap());
    let manifest = prepare(&source, out.path()).unwrap();
    let test = &manifest.splits[&Split::Test];
    assert!(test.num_documents >= 20, "{} test documents", test.num_documents);
    assert!(manifest.splits[&Split::Validation].num_documents >= 5);
    assert!(manifest.near_copies.is_empty(), "{:?}", manifest.near_copies);
    prepare(&source, again.path()).unwrap();
    assert_eq!(manifest_sha256(out.path()).unwrap(), manifest_sha256(again.path()).unwrap());
    assert_eq!(prepare(&source, out.path()).unwrap(), manifest);

    let mut splits = HashMap::new();
    for work in &manifest.works {
        assert_eq!(splits.entry(&work.group).or_insert(work.split), &work.split, "{}", work.group);
        assert!(work.num_bytes >= 32 * 1024 && work.licence.is_some(), "{}", work.name);
    }
    let set = TokenSet::open(out.path(), Split::Test).unwrap();
    let text =
        String::from_utf8(Tokenizer::t5_bytes().decode(&set.document(0).unwrap().tokens.to_vec())).unwrap();
    assert!(text.starts_with("// ") && text.lines().next().unwrap().ends_with(".rs"));
}
