//! Small corpora and what is in them.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{collections::BTreeMap, fs, path::Path};

use brt_data::{CorpusSource, PrepareConfig, SourceFormat, Split, TokenSet, Tokenizer, prepare};
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};

pub(crate) fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn files(folder: &TempDir) -> PrepareConfig {
    PrepareConfig::new(CorpusSource::files(folder.path(), SourceFormat::Files))
}

/// Returns a folder in the layout of PG-19 with four documents.
pub(crate) fn books() -> TempDir {
    let folder = tempdir().unwrap();
    write(folder.path(), "train/b.txt", "second book");
    write(folder.path(), "train/a/1.txt", "first");
    write(folder.path(), "validation/c.txt", "third");
    write(folder.path(), "test/d.txt", "fourth, é");
    write(folder.path(), "metadata.csv", "1,A Book by Somebody,1901,url\n");
    folder
}

/// Returns a folder with the corpus of [`books`].
pub(crate) fn prepared() -> TempDir {
    let out = tempdir().unwrap();
    prepare(&files(&books()), out.path()).unwrap();
    out
}

/// Returns a folder of 60 files, in all three splits, of 0 to 59 words.
pub(crate) fn many_files() -> TempDir {
    let folder = tempdir().unwrap();
    for i in 0..60 {
        let words: String = (0..i).map(|word| format!("word{} ", word * i)).collect();
        write(folder.path(), &format!("{}/{i}.txt", i % 7), words);
    }
    folder
}

/// Writes documents of which `test/half` repeats half of `train/all`.
pub(crate) fn near_copies_in(folder: &Path) {
    let lines =
        |lines: std::ops::Range<usize>| -> String { lines.map(|i| format!("  line {i}\n\n")).collect() };
    write(folder, "train/all", lines(0..100));
    write(folder, "train/some", lines(40..60));
    write(folder, "test/fresh", lines(200..300));
    write(folder, "test/half", lines(50..150));
    write(folder, "validation/little", lines(90..200));
}

/// A document: its name, its group, its text and its number of words.
pub(crate) type Content = (String, String, String, u64);

/// Returns all documents of a prepared corpus, decoded, in order.
pub(crate) fn contents(folder: &Path) -> Vec<(Split, Vec<Content>)> {
    let manifest = brt_data::Manifest::read(folder).unwrap();
    let tokenizer = Tokenizer::from_file(&manifest.tokenizer_path(folder)).unwrap();
    let split = |split| {
        let Ok(set) = TokenSet::open(folder, split) else { return (split, vec![]) };
        let content = |document_idx| {
            let document = set.document(document_idx).unwrap();
            let text = String::from_utf8(tokenizer.decode(&document.tokens.to_vec())).unwrap();
            (document.name.to_owned(), document.group.to_owned(), text, document.span.num_words)
        };
        (split, (0..set.num_documents()).map(content).collect())
    };
    Split::ALL.map(split).to_vec()
}

/// Returns the names and checksums of all files of a folder, except locks.
pub(crate) fn files_of(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let file = |entry: fs::DirEntry| {
        (
            entry.file_name().into_string().unwrap(),
            format!("{:x}", Sha256::digest(fs::read(entry.path()).unwrap())),
        )
    };
    entries.filter(|entry| entry.path().is_file() && entry.file_name() != ".lock").map(file).collect()
}
