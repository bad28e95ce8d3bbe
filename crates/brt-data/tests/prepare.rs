//! From files to shards: what is written, that it is the same every time, and what every kind of damage says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::fs;

use brt_data::{
    CorpusSource, Counts, DataError, Manifest, PrepareConfig, SourceFormat, Split, TokenSet, Tokenizer,
    Tokens, manifest_sha256, prepare, train_tokenizer, verify,
};
use common::{books, contents, files, files_of, many_files, near_copies_in, prepared, write};
use tempfile::tempdir;

fn text(error: DataError) -> String {
    error.to_string()
}

#[test]
fn splits_are_subfolders_and_documents_follow_one_another() {
    let (books, out) = (books(), tempdir().unwrap());
    let manifest = prepare(&files(&books), out.path()).unwrap();
    assert_eq!(manifest, Manifest::read(out.path()).unwrap());
    let counts = Counts { num_documents: 2, num_tokens: 16, num_bytes: 16, num_words: 3 };
    assert_eq!(manifest.splits[&Split::Train], counts);
    assert_eq!((manifest.num_documents(), manifest.tokenizer.vocab_size), (4, 260));
    assert_eq!(manifest.shards.len(), 1);

    let set = TokenSet::open(out.path(), Split::Train).unwrap();
    let names: Vec<_> = (0..2).map(|i| set.document(i).unwrap().name).collect();
    assert_eq!(names, ["train/a/1.txt", "train/b.txt"]);
    assert_eq!(set.document(0).unwrap().tokens, Tokens::Narrow(&[105, 108, 117, 118, 119]));
    assert_eq!((set.num_tokens(), set.vocab_size()), (16, 260));
    assert_eq!(set.manifest_sha256(), manifest_sha256(out.path()).unwrap());
    let (_, test) = &contents(out.path())[2];
    assert_eq!(test[..], [("test/d.txt".into(), "test/d.txt".into(), "fourth, é".into(), 2)]);
    let tokens = fs::read(out.path().join("00000.validation.tokens")).unwrap();
    assert_eq!(tokens[..4], [b't' + 3, 0, b'h' + 3, 0]);
}

#[test]
fn the_same_inputs_make_the_same_files_and_are_not_written_twice() {
    let (books, out, other) = (books(), tempdir().unwrap(), prepared());
    let manifest = prepare(&files(&books), out.path()).unwrap();
    assert_eq!(files_of(out.path()), files_of(other.path()));
    let written = || fs::metadata(out.path().join("00000.train.tokens")).unwrap().modified().unwrap();
    let before = written();
    assert_eq!(prepare(&files(&books), out.path()).unwrap(), manifest);
    assert_eq!(written(), before);

    let other = "expected an empty folder or the same corpus, got the corpus `files` made from other inputs; \
                 delete it or choose another folder";
    let raw = PrepareConfig { tokenizer: Tokenizer::bytes(), ..files(&books) };
    let error = text(prepare(&raw, out.path()).unwrap_err());
    assert_eq!(error, format!("{}: {other}", out.path().display()));
    write(books.path(), "train/b.txt", "another text");
    let error = text(prepare(&files(&books), out.path()).unwrap_err());
    assert_eq!(error, format!("{}: {other}", out.path().display()));
}

#[test]
fn processes_that_prepare_one_folder_wait_for_each_other() {
    let (books, out) = (books(), tempdir().unwrap());
    let prepare_it = || prepare(&files(&books), out.path()).unwrap();
    let manifests = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(prepare_it)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(manifests.iter().all(|manifest| *manifest == manifests[0]));
    TokenSet::open(out.path(), Split::Train).unwrap();
}

#[test]
fn any_number_of_threads_writes_the_same_bytes() {
    let folder = many_files();
    let config = PrepareConfig { shard_bytes: 1000, ..files(&folder) };
    let prepare_with_threads = |num_threads| {
        let out = tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
        pool.install(|| prepare(&config, out.path()).unwrap());
        files_of(out.path())
    };
    let one = prepare_with_threads(1);
    assert!(one.keys().any(|name| name.starts_with("00005.train")), "{:?}", one.keys());
    for num_threads in [2, 3, 8] {
        assert_eq!(prepare_with_threads(num_threads), one);
    }
}

/// The same with documents of several pieces, several batches, word pieces and their spans.
#[test]
fn any_number_of_threads_writes_the_same_bytes_of_word_pieces() {
    let books = PrepareConfig { shard_bytes: 3 << 20, ..PrepareConfig::new(CorpusSource::Books) };
    let train = || train_tokenizer(&books, 600, 1 << 20, &mut |_, _| ()).unwrap();
    let prepare_with_threads = |num_threads| {
        let out = tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
        pool.install(|| prepare(&PrepareConfig { tokenizer: train(), ..books.clone() }, out.path()).unwrap());
        files_of(out.path())
    };
    let one = prepare_with_threads(1);
    assert!(one.contains_key("00002.train.spans"), "{:?}", one.keys());
    assert_eq!(prepare_with_threads(7), one);
}

/// The manifest says how a corpus was made, but not where the files lay.
#[test]
fn the_manifest_tells_the_options() {
    let (books, out) = (books(), tempdir().unwrap());
    let licence = Some("CC0-1.0".to_owned());
    let config = PrepareConfig { validation: 0.2, licence, origin: Some("a shelf".into()), ..files(&books) };
    let manifest = prepare(&config, out.path()).unwrap();
    assert_eq!((manifest.licence.as_str(), manifest.origin.as_str()), ("CC0-1.0", "a shelf"));
    let source = manifest.options.source.clone().unwrap();
    assert_eq!((source.format, source.path.as_os_str().len()), (SourceFormat::Files, 0));
    assert_eq!(manifest.options.validation, 0.2);
    let text = fs::read_to_string(out.path().join("manifest.json")).unwrap();
    assert!(!text.contains(&books.path().display().to_string()), "{text}");
}

/// A process that was killed after its last file leaves what only it needs; the next one removes it.
#[test]
fn what_an_ended_process_left_is_removed() {
    let (books, out) = (books(), tempdir().unwrap());
    prepare(&files(&books), out.path()).unwrap();
    write(out.path(), ".prepare/spill/bucket-0000.rows", "rows");
    prepare(&files(&books), out.path()).unwrap();
    assert!(!out.path().join(".prepare").exists());
}

#[test]
fn shards_hold_the_documents_of_one_shard() {
    let folder = many_files();
    let out = [1, 300, 5000, 1 << 28].map(|shard_bytes| {
        let out = tempdir().unwrap();
        prepare(&PrepareConfig { shard_bytes, ..files(&folder) }, out.path()).unwrap();
        verify(out.path(), &mut |_, _| ()).unwrap();
        contents(out.path())
    });
    assert_eq!(out[3].iter().map(|(_, documents)| documents.len()).sum::<usize>(), 59);
    assert!(out.iter().all(|contents| *contents == out[3]));
}

#[test]
fn what_was_interrupted_goes_on() {
    let folder = many_files();
    let bad = folder.path().join("3/45.txt");
    let good = fs::read(&bad).unwrap();
    fs::write(&bad, vec![0xFF; good.len()]).unwrap();
    let config = PrepareConfig { shard_bytes: 1000, ..files(&folder) };
    let (out, fresh) = (tempdir().unwrap(), tempdir().unwrap());
    let error = text(prepare(&config, out.path()).unwrap_err());
    assert!(error.contains("3/45.txt") && error.contains("UTF-8"), "{error}");
    assert!(text(TokenSet::open(out.path(), Split::Train).unwrap_err()).contains("prepared corpus"));
    let written = || fs::metadata(out.path().join("00001.train.tokens")).unwrap().modified().unwrap();
    let before = written();

    let raw = PrepareConfig { tokenizer: Tokenizer::bytes(), ..config.clone() };
    assert!(text(prepare(&raw, out.path()).unwrap_err()).contains("got the corpus `unfinished`"));
    fs::write(&bad, good).unwrap();
    prepare(&config, out.path()).unwrap();
    assert_eq!(written(), before);
    prepare(&config, fresh.path()).unwrap();
    assert_eq!(files_of(out.path()), files_of(fresh.path()));
}

#[test]
fn a_flat_folder_is_split_by_the_hash_of_its_names() {
    let folder = tempdir().unwrap();
    for i in 0..200 {
        write(folder.path(), &format!("{}/{i}.txt", i % 7), format!("document {i}"));
    }
    write(folder.path(), "empty.txt", "");
    write(folder.path(), ".git/config", "hidden");
    let manifest = prepare(&files(&folder), tempdir().unwrap().path()).unwrap();
    let counts = Split::ALL.map(|split| manifest.splits[&split].num_documents);
    assert_eq!(counts.iter().sum::<u64>(), 200);
    assert!(counts[0] > 160 && counts[1] >= 4 && counts[2] >= 4, "{counts:?}");
    let skipped: Vec<_> = manifest.skipped.iter().map(|s| (s.reason.as_str(), s.count)).collect();
    assert_eq!(skipped, [("empty", 1), ("hidden", 1)]);
}

#[test]
fn three_files_are_enough_for_three_splits() {
    let folder = tempdir().unwrap();
    for name in ["a", "b", "c"] {
        write(folder.path(), name, name);
    }
    let manifest = prepare(&files(&folder), tempdir().unwrap().path()).unwrap();
    assert!(manifest.splits.values().all(|split| split.num_documents == 1));
}

#[test]
fn near_copies_are_found_with_their_share() {
    let folder = tempdir().unwrap();
    near_copies_in(folder.path());
    let out = tempdir().unwrap();
    // One document a shard: copies are found across shards.
    let manifest = prepare(&PrepareConfig { shard_bytes: 1, ..files(&folder) }, out.path()).unwrap();
    let [copy] = &manifest.near_copies[..] else { panic!("{:?}", manifest.near_copies) };
    assert_eq!((copy.name.as_str(), copy.train_document.as_str()), ("test/half", "train/all"));
    // Of the 93 runs of `half`, 43 lie in lines 50..100.
    assert_eq!((copy.shared, manifest.num_near_copies), (43. / 93., 1));
}

#[test]
fn what_others_left_in_the_folder_stays() {
    let (books, out) = (books(), tempdir().unwrap());
    write(out.path(), "download.iso.part", "half of it");
    write(out.path(), "00000.train.tokens.part", "ours");
    prepare(&files(&books), out.path()).unwrap();
    assert!(out.path().join("download.iso.part").exists());
    assert!(!out.path().join("00000.train.tokens.part").exists());
}
