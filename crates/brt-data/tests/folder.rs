//! Folders of text files: what becomes a document, and what every kind of bad input says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{fs, path::Path};

use brt_data::{ByteTokenizer, CorpusSource, DataError, Manifest, Split, TokenSet, manifest_sha256, prepare};
use tempfile::{TempDir, tempdir};

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn source(folder: &TempDir) -> CorpusSource {
    CorpusSource::Folder { path: folder.path().to_path_buf() }
}

/// Returns a folder in the layout of PG-19 with four documents.
fn books() -> TempDir {
    let folder = tempdir().unwrap();
    write(folder.path(), "train/b.txt", "second book");
    write(folder.path(), "train/a/1.txt", "first");
    write(folder.path(), "validation/c.txt", "third");
    write(folder.path(), "test/d.txt", "fourth, é");
    write(folder.path(), "metadata.csv", "ignored");
    folder
}

/// Returns a prepared folder.
fn prepared() -> TempDir {
    let out = tempdir().unwrap();
    prepare(&source(&books()), out.path()).unwrap();
    out
}

fn text(error: DataError) -> String {
    error.to_string()
}

#[test]
fn splits_are_subfolders_and_documents_follow_one_another() {
    let (books, out) = (books(), tempdir().unwrap());
    let manifest = prepare(&source(&books), out.path()).unwrap();
    assert_eq!(manifest, Manifest::read(out.path()).unwrap());
    let train = &manifest.splits[&Split::Train];
    let entries: Vec<_> =
        train.documents.iter().map(|d| (d.name.as_str(), d.num_tokens, d.first_token)).collect();
    assert_eq!(entries, [("train/a/1.txt", 5, 0), ("train/b.txt", 11, 5)]);
    assert_eq!((train.num_documents, train.num_tokens, train.num_bytes), (2, 16, 16));
    assert_eq!(
        (manifest.num_documents(), manifest.vocab_size, manifest.tokenizer.as_str()),
        (4, 260, "bytes")
    );

    let set = TokenSet::open(out.path(), Split::Test).unwrap();
    let document = set.document(0);
    assert_eq!((set.num_documents(), document.name, document.num_bytes), (1, "test/d.txt", 10));
    assert_eq!(ByteTokenizer.decode(document.tokens), "fourth, é".as_bytes());
    assert_eq!(set.manifest_sha256(), manifest_sha256(out.path()).unwrap());
    assert_eq!(set.vocab_size(), 260);
    assert_eq!(fs::read(out.path().join("validation.tokens")).unwrap()[..4], [b't' + 3, 0, b'h' + 3, 0]);
}

#[test]
fn the_same_inputs_make_the_same_files_and_are_not_written_twice() {
    let (books, out, other) = (books(), tempdir().unwrap(), prepared());
    let manifest = prepare(&source(&books), out.path()).unwrap();
    assert_eq!(manifest_sha256(out.path()).unwrap(), manifest_sha256(other.path()).unwrap());
    let written = || fs::metadata(out.path().join("train.tokens")).unwrap().modified().unwrap();
    let before = written();
    assert_eq!(prepare(&source(&books), out.path()).unwrap(), manifest);
    assert_eq!(written(), before);

    write(books.path(), "train/b.txt", "another text");
    let error = text(prepare(&source(&books), out.path()).unwrap_err());
    let expected = "expected an empty folder or the same corpus, got the corpus `folder` made from other inputs; \
                    delete it or choose another folder";
    assert_eq!(error, format!("{}: {expected}", out.path().display()));
}

#[test]
fn processes_that_prepare_one_folder_wait_for_each_other() {
    let (books, out) = (books(), tempdir().unwrap());
    let prepare_it = || prepare(&source(&books), out.path()).unwrap();
    let manifests = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(prepare_it)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(manifests.iter().all(|manifest| *manifest == manifests[0]));
    TokenSet::open(out.path(), Split::Train).unwrap();
}

#[test]
fn a_flat_folder_is_split_by_the_hash_of_its_names() {
    let folder = tempdir().unwrap();
    for i in 0..200 {
        write(folder.path(), &format!("{}/{i}.txt", i % 7), format!("document {i}"));
    }
    write(folder.path(), "empty.txt", "");
    write(folder.path(), "latin1.txt", b"caf\xe9");
    write(folder.path(), ".git/config", "hidden");
    let manifest = prepare(&source(&folder), tempdir().unwrap().path()).unwrap();
    let counts = Split::ALL.map(|split| manifest.splits[&split].num_documents);
    assert_eq!(counts.iter().sum::<usize>(), 200);
    assert!(counts[0] > 160 && counts[1] >= 4 && counts[2] >= 4, "{counts:?}");
    let skipped: Vec<_> = manifest.skipped.iter().map(|s| (s.reason.as_str(), s.count)).collect();
    assert_eq!(skipped, [("empty", 1), ("hidden", 1), ("not UTF-8", 1)]);
}

#[test]
fn three_files_are_enough_for_three_splits() {
    let folder = tempdir().unwrap();
    for name in ["a", "b", "c"] {
        write(folder.path(), name, name);
    }
    let manifest = prepare(&source(&folder), tempdir().unwrap().path()).unwrap();
    assert!(manifest.splits.values().all(|split| split.num_documents == 1));
}

#[test]
fn folders_without_documents_are_errors() {
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    let (path, out) = (folder.path().display(), out.path());
    let missing = CorpusSource::Folder { path: folder.path().join("missing") };
    let error = text(prepare(&missing, out).unwrap_err());
    assert_eq!(error, format!("{path}/missing: expected a folder of text files, got nothing at this path"));

    let few = |got| {
        format!(
            "{path}: expected at least 3 documents (UTF-8, not empty), got {got}; add documents to the corpus"
        )
    };
    assert_eq!(text(prepare(&source(&folder), out).unwrap_err()), few(0));
    write(folder.path(), "a.txt", "a");
    write(folder.path(), "b.txt", "b");
    assert_eq!(text(prepare(&source(&folder), out).unwrap_err()), few(2));

    write(folder.path(), "train/c.txt", "c");
    write(folder.path(), "test/empty.txt", "");
    let error = text(prepare(&source(&folder), out).unwrap_err());
    let expected = "expected a folder with the documents of this split, got nothing at this path";
    assert_eq!(error, format!("{path}/validation: {expected}"));
    write(folder.path(), "validation/d.txt", "d");
    let error = text(prepare(&source(&folder), out).unwrap_err());
    let expected = "expected at least 1 document in split test, got 0; add documents to the corpus";
    assert_eq!(error, format!("folder:{path}: {expected}"));
    assert_eq!(fs::read_dir(out).unwrap().count(), 0);
}

/// Damages a prepared corpus and checks the start of the error of opening its training documents, after the path.
fn check_damage(damage: impl Fn(&Path), expected: &str) {
    let out = prepared();
    damage(out.path());
    let error = text(TokenSet::open(out.path(), Split::Train).unwrap_err());
    let expected = format!("{}{expected}", out.path().display());
    assert!(error.starts_with(&expected), "expected {expected}\ngot      {error}");
}

fn edit_tokens(folder: &Path, edit: fn(&mut Vec<u8>)) {
    let path = folder.join("train.tokens");
    let mut bytes = fs::read(&path).unwrap();
    edit(&mut bytes);
    fs::write(&path, bytes).unwrap();
}

fn edit_manifest(folder: &Path, from: &str, to: &str) {
    let path = folder.join("manifest.json");
    let manifest = fs::read_to_string(&path).unwrap();
    assert!(manifest.contains(from));
    fs::write(&path, manifest.replacen(from, to, 1)).unwrap();
}

#[test]
fn damaged_tokens_are_errors() {
    let truncated =
        "/train.tokens: expected 32 bytes, got 31; delete its folder and prepare the corpus again";
    check_damage(|folder| edit_tokens(folder, |bytes| bytes.truncate(31)), truncated);
    check_damage(|folder| edit_tokens(folder, |bytes| bytes[7] ^= 1), "/train.tokens: expected sha256 ");
    check_damage(
        |folder| fs::remove_file(folder.join("train.tokens")).unwrap(),
        "/train.tokens: cannot read",
    );

    let (books, out) = (books(), tempdir().unwrap());
    prepare(&source(&books), out.path()).unwrap();
    edit_tokens(out.path(), |bytes| bytes.truncate(31));
    let error = text(prepare(&source(&books), out.path()).unwrap_err());
    assert_eq!(error, format!("{}{truncated}", out.path().display()));
}

#[test]
fn damaged_manifests_are_errors() {
    let cases = [
        (
            "\"format\": 1",
            "\"format\": 2",
            "manifest format 1, got 2; delete its folder and prepare the corpus again",
        ),
        ("{", "[", "a corpus manifest"),
        (
            "\"first_token\": 5",
            "\"first_token\": 4",
            "documents that follow one another, got a gap or an empty one at `train/b.txt`; delete its folder and prepare the corpus again",
        ),
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
fn an_unwritable_folder_is_an_error() {
    let out = tempdir().unwrap();
    write(out.path(), "file", "");
    let folder = out.path().join("file/corpus");
    let error = text(prepare(&source(&books()), &folder).unwrap_err());
    assert_eq!(error, format!("{}: cannot create", folder.display()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_that_looks_whole() {
    let (books, out) = (books(), tempdir().unwrap());
    std::os::unix::fs::symlink("/dev/full", out.path().join("test.tokens.part")).unwrap();
    let error = text(prepare(&source(&books), out.path()).unwrap_err());
    assert_eq!(error, format!("{}/test.tokens.part: cannot write", out.path().display()));
    let error = text(TokenSet::open(out.path(), Split::Train).unwrap_err());
    assert!(error.contains("expected a prepared corpus"), "{error}");
    // The next attempt succeeds: the unfinished file is gone.
    prepare(&source(&books), out.path()).unwrap();
    TokenSet::open(out.path(), Split::Test).unwrap();
}

#[test]
fn sources_are_read_from_their_names() {
    assert_eq!("books".parse::<CorpusSource>().unwrap(), CorpusSource::Books);
    assert_eq!(
        "code".parse::<CorpusSource>().unwrap(),
        CorpusSource::Code { manifest_path: "Cargo.toml".into() }
    );
    let folder = CorpusSource::Folder { path: "a/b:c".into() };
    assert_eq!("folder:a/b:c".parse::<CorpusSource>().unwrap(), folder);
    assert_eq!(folder.to_string(), "folder:a/b:c");
    for name in ["book", "folder:", "folder", ""] {
        let error = text(name.parse::<CorpusSource>().unwrap_err());
        assert_eq!(error, format!("corpus: expected `code`, `books` or `folder:PATH`, got `{name}`"));
    }
}
