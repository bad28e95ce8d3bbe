//! What users can get wrong with a preparation, and what the machine can: each is told, and nothing looks whole that is not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::fs;

use brt_data::{
    CorpusSource, DataError, OnError, PrepareConfig, Skipped, SourceConfig, SourceFormat, Split, TokenSet,
    Tokenizer, prepare,
};
use common::{books, files, many_files, write};
use tempfile::tempdir;

fn text(error: DataError) -> String {
    error.to_string()
}

/// A document that the tokenizer has no tokens for is an error, or left out and counted, like all input that cannot be
/// read; also behind a piece that has tokens.
#[test]
fn documents_that_cannot_be_tokenised_are_told() {
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    let words = r#"{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"known": 0}, "unk_token": "[UNK]"}}"#;
    write(folder.path(), "words.json", words);
    let tokenizer = Tokenizer::open(&folder.path().join("words.json").display().to_string()).unwrap();
    let known = "known ".repeat(400_000);
    write(folder.path(), "text/train/a", "known known");
    write(folder.path(), "text/train/b", format!("{known}unknown {known}"));
    write(folder.path(), "text/train/c", "known");
    write(folder.path(), "text/validation/a", "known");
    write(folder.path(), "text/test/a", "known");
    let source = SourceConfig::new(folder.path().join("text"));
    let config = |on_error| PrepareConfig {
        tokenizer: tokenizer.clone(),
        ..PrepareConfig::new(CorpusSource::Files(SourceConfig { on_error, ..source.clone() }))
    };
    assert_eq!(text(prepare(&config(OnError::Stop), out.path()).unwrap_err()), "train/b");
    let out = tempdir().unwrap();
    let manifest = prepare(&config(OnError::Skip), out.path()).unwrap();
    assert_eq!(manifest.skipped, [Skipped { reason: "cannot be tokenised".into(), count: 1 }]);
    let set = TokenSet::open(out.path(), Split::Train).unwrap();
    let lens: Vec<_> = (0..2).map(|i| set.document(i).unwrap().tokens.len()).collect();
    assert_eq!((set.num_documents(), lens), (2, vec![2, 1]));
}

/// A tree whose files have other names is another corpus, though its sub-folders have the same names and sizes.
#[test]
fn renamed_files_of_a_tree_make_another_corpus() {
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    for name in ["a", "b", "c"] {
        write(folder.path(), &format!("{name}/one.rs"), name);
    }
    let config = PrepareConfig::new(CorpusSource::files(folder.path(), SourceFormat::Tree));
    prepare(&config, out.path()).unwrap();
    fs::rename(folder.path().join("a/one.rs"), folder.path().join("a/two.rs")).unwrap();
    assert!(matches!(prepare(&config, out.path()), Err(DataError::OtherCorpus { .. })));
}

#[test]
fn impossible_options_are_errors() {
    let folder = many_files();
    let out = tempdir().unwrap();
    let error = |config: PrepareConfig| text(prepare(&config, out.path()).unwrap_err());
    let got = error(PrepareConfig { validation: 1.5, ..files(&folder) });
    assert_eq!(got, "validation: expected a part of the documents in 0.0 .. 1.0, got 1.5");
    let got = error(PrepareConfig { validation: 0.5, test: 0.5, ..files(&folder) });
    assert_eq!(got, "validation + test: expected less than 1, the rest is for training, got 1");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn folders_without_documents_are_errors() {
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    let path = folder.path().display();
    let missing = CorpusSource::files(folder.path().join("missing"), SourceFormat::Files);
    let error = text(prepare(&PrepareConfig::new(missing), out.path()).unwrap_err());
    assert!(error.starts_with(&format!("{path}/missing: expected ")), "{error}");
    let error = text(prepare(&files(&folder), out.path()).unwrap_err());
    assert!(error.starts_with(&format!("{path}: expected ")), "{error}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);

    write(folder.path(), "empty.txt", "");
    let error = text(prepare(&files(&folder), out.path()).unwrap_err());
    let expected = "expected at least 1 document (not empty), got 0; look at what was left out";
    assert_eq!(error, format!("files:{path}: {expected}"));

    let only = tempdir().unwrap();
    write(only.path(), "a.txt", "a");
    prepare(&files(&only), only.path().join(".out").as_path()).unwrap();
    let error = text(TokenSet::open(&only.path().join(".out"), Split::Test).unwrap_err());
    assert!(error.contains("expected at least 1 document in split test, got 0"), "{error}");
}

#[test]
fn an_unwritable_folder_is_an_error() {
    let out = tempdir().unwrap();
    write(out.path(), "file", "");
    let folder = out.path().join("file/corpus");
    let error = text(prepare(&files(&books()), &folder).unwrap_err());
    assert_eq!(error, format!("{}: cannot create", folder.display()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_that_looks_whole() {
    let (books, out) = (books(), tempdir().unwrap());
    let runs = out.path().join(".prepare/00000.runs");
    fs::create_dir(out.path().join(".prepare")).unwrap();
    std::os::unix::fs::symlink("/dev/full", &runs).unwrap();
    let error = text(prepare(&files(&books), out.path()).unwrap_err());
    assert_eq!(error, format!("{}: cannot write", runs.display()));
    let error = text(TokenSet::open(out.path(), Split::Train).unwrap_err());
    assert!(error.contains("expected a prepared corpus"), "{error}");
    fs::remove_file(runs).unwrap();
    prepare(&files(&books), out.path()).unwrap();
    TokenSet::open(out.path(), Split::Test).unwrap();
}

/// Writing fails with the first shard while a hundred batches are still to come: the reader ends, too.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_early_ends_the_preparation() {
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    let text = "a line of some text\n".repeat(100_000);
    for i in 0..100 {
        write(folder.path(), &format!("{i}.txt"), &text);
    }
    let runs = out.path().join(".prepare/00000.runs");
    fs::create_dir(out.path().join(".prepare")).unwrap();
    std::os::unix::fs::symlink("/dev/full", &runs).unwrap();
    let config = PrepareConfig { shard_bytes: 1, ..files(&folder) };
    let error = prepare(&config, out.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: cannot write", runs.display()));
}

#[test]
fn sources_are_read_from_their_names() {
    assert_eq!("books".parse::<CorpusSource>().unwrap(), CorpusSource::Books);
    assert_eq!(
        "code".parse::<CorpusSource>().unwrap(),
        CorpusSource::Code { manifest_path: "Cargo.toml".into() }
    );
    let folder = CorpusSource::files("a/b:c", SourceFormat::Files);
    assert_eq!("folder:a/b:c".parse::<CorpusSource>().unwrap(), folder);
    assert_eq!(folder.to_string(), "files:a/b:c");
    assert_eq!("jsonl:a".parse::<CorpusSource>().unwrap(), CorpusSource::files("a", SourceFormat::Jsonl));
    assert_eq!("tests".parse::<CorpusSource>().unwrap(), CorpusSource::files("tests", SourceFormat::Auto));
    for name in ["book", "folder:", "folder", "", "pg19", "jsonl:"] {
        let error = text(name.parse::<CorpusSource>().unwrap_err());
        assert!(
            error.starts_with("corpus: expected `code`, ") && error.ends_with(&format!("got `{name}`")),
            "{error}"
        );
    }
}
