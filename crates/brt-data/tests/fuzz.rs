//! Damaged corpora are errors or other numbers, never a panic.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::{fs, path::Path, sync::Arc};

use brt_data::{
    EvaluationStream, Manifest, Pack, PrepareConfig, Rank, Split, SplitStatistics, StreamConfig, TargetRule,
    TokenSet, prepare, train_tokenizer, verify,
};
use common::{files, files_of, many_files};
use proptest::{collection::vec, prelude::*, sample::Index};
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};

/// Returns a corpus of word pieces in several shards, and its manifest.
fn corpus() -> (TempDir, Manifest) {
    let (folder, out) = (many_files(), tempdir().unwrap());
    let config = PrepareConfig { shard_bytes: 4000, ..files(&folder) };
    let tokenizer = train_tokenizer(&config, 300, 1 << 20, &mut |_, _| ()).unwrap();
    let manifest = prepare(&PrepareConfig { tokenizer, ..config }, out.path()).unwrap();
    (out, manifest)
}

/// Reads everything there is.
fn read(folder: &Path) -> Option<()> {
    let read = verify(folder, &mut |_, _| ()).is_ok();
    for split in Split::ALL {
        let _ = SplitStatistics::of(folder, split, 3);
        let set = Arc::new(TokenSet::open(folder, split).ok()?);
        for document_idx in 0..set.num_documents().min(100) {
            let len = set.document(document_idx).ok()?.tokens.len();
            set.spans(document_idx, 0..len).ok()?;
        }
        let config = StreamConfig {
            batch: 2,
            segment_len: 16,
            target_rule: TargetRule::AcrossSegments,
            pack: Pack::Paper,
            rank: Rank::ALONE,
            max_document_len: None,
        };
        EvaluationStream::new(set, config).ok()?.take(100).for_each(drop);
    }
    read.then_some(())
}

#[test]
fn damaged_corpora_never_panic() {
    let (out, _) = corpus();
    read(out.path()).expect("a sound corpus");
    let names: Vec<String> =
        files_of(out.path()).into_keys().filter(|name| name != "tokenizer.json").collect();
    let cases = std::env::var("BRT_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500);
    let damage = (any::<Index>(), vec((any::<Index>(), any::<u8>()), 0..5), any::<Index>(), any::<bool>());
    proptest!(ProptestConfig::with_cases(cases), |((name, bytes, end, cut) in damage)| {
        let path = out.path().join(name.get(&names));
        let sound = fs::read(&path).unwrap();
        let mut damaged = sound.clone();
        for (at, byte) in &bytes {
            damaged[at.index(sound.len())] = *byte;
        }
        if cut {
            damaged.truncate(end.index(sound.len()));
        }
        let is_sound = damaged == sound;
        fs::write(&path, damaged).unwrap();
        let read = read(out.path());
        fs::write(&path, sound).unwrap();
        prop_assert_eq!(read.is_some(), is_sound);
    });
}

#[test]
fn any_manifest_is_an_error_or_a_manifest() {
    let (out, manifest) = corpus();
    let path = out.path().join("manifest.json");
    let sound = fs::read_to_string(&path).unwrap();
    // Numbers that contradict the files, with a checksum made by the same hand.
    proptest!(ProptestConfig::with_cases(300), |(at: Index, number: u64, text in r"\PC{0,40}")| {
        let digits: Vec<usize> = sound.match_indices(": ").map(|(at, _)| at + 2).collect();
        let at = *at.get(&digits);
        let end = at + sound[at..].find([',', '\n']).unwrap_or(0);
        let number = format!("{}{number}{}", &sound[..at], &sound[end..]);
        for damaged in [number, text, sound[..at].to_owned()] {
            fs::write(out.path().join("manifest.sha256"), format!("{:x}\n", Sha256::digest(&damaged))).unwrap();
            fs::write(&path, damaged).unwrap();
            read(out.path());
        }
    });
    fs::write(&path, sound).unwrap();
    assert_eq!(Manifest::read(out.path()).unwrap(), manifest);
}
