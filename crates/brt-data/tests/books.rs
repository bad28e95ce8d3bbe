//! The books that come with this crate.

use std::collections::HashMap;

use brt_data::{CorpusSource, PrepareConfig, Split, TokenSet, Tokenizer, manifest_sha256, prepare};
use tempfile::tempdir;

#[test]
fn books_are_whole_and_no_author_is_in_two_splits() {
    let (out, again) = (tempdir().unwrap(), tempdir().unwrap());
    let config = PrepareConfig::new(CorpusSource::Books);
    let manifest = prepare(&config, out.path()).unwrap();
    let counts = Split::ALL.map(|split| manifest.splits[&split].num_documents);
    assert_eq!(counts, [20, 3, 10]);
    assert!(manifest.near_copies.is_empty(), "{:?}", manifest.near_copies);
    prepare(&config, again.path()).unwrap();
    assert_eq!(manifest_sha256(out.path()).unwrap(), manifest_sha256(again.path()).unwrap());

    let mut splits = HashMap::new();
    let mut names = HashMap::new();
    for split in Split::ALL {
        let set = TokenSet::open(out.path(), split).unwrap();
        for (document_idx, entry) in manifest.works.iter().filter(|work| work.split == split).enumerate() {
            assert_eq!(*splits.entry(entry.group.clone()).or_insert(split), split, "{}", entry.group);
            assert_eq!(names.insert(entry.name.clone(), split), None, "{}", entry.name);
            let document = set.document(document_idx).unwrap();
            let text = String::from_utf8(Tokenizer::t5_bytes().decode(&document.tokens.to_vec())).unwrap();
            assert_eq!((document.name, document.group), (entry.name.as_str(), entry.group.as_str()));
            assert_eq!((text.len() as u64, document.span.num_bytes), (entry.num_bytes, entry.num_bytes));
            assert_eq!(document.span.num_words, text.split_whitespace().count() as u64);
            assert!(text.len() > 32 * 1024, "{}: {} bytes", entry.name, text.len());
            assert!(
                !text.contains('\r') && !text.contains('\0') && !text.contains("Gutenberg"),
                "{}",
                entry.name
            );
        }
    }
    assert_eq!(splits.values().filter(|&&split| split == Split::Test).count(), 10);
}
