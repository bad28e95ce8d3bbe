//! A folder of text files. With the subfolders `train`, `validation` and `test` (the layout of PG-19) those are the
//! splits; else a hash of each file's name decides.

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
};

use super::{Corpus, Member, Text};
use crate::{DataError, Skipped, Split, corpus::fraction};

/// Parts of the files, by hash of their names, that go to test and to validation; the rest is for training.
const TEST: f64 = 0.05;
const VALIDATION: f64 = 0.05;

/// What is hashed before a file's name.
const SALT: &str = "brt-data folder 1: ";

/// Lists the documents of a folder.
pub(super) fn read(folder: &Path) -> Result<Corpus, DataError> {
    if !folder.is_dir() {
        return Err(DataError::Missing { path: folder.to_path_buf(), expected: "a folder of text files" });
    }
    let mut listing = Listing::default();
    if has_splits(folder) {
        for split in Split::ALL {
            let path = folder.join(split.name());
            if !path.is_dir() {
                return Err(DataError::Missing {
                    path,
                    expected: "a folder with the documents of this split",
                });
            }
            listing.add(folder, &path, Some(split))?;
        }
    } else {
        listing.add(folder, folder, None)?;
        listing.fill_splits(folder)?;
    }
    Ok(Corpus {
        source: "folder",
        licence: "the owner's",
        origin: "a folder of files".to_owned(),
        skipped: listing.skipped(),
        members: listing.members,
        near_copies: vec![],
    })
}

/// Returns whether the folder is divided into splits: two of their subfolders tell it from a folder that happens to
/// have one called `test`.
fn has_splits(folder: &Path) -> bool {
    Split::ALL.iter().filter(|split| folder.join(split.name()).is_dir()).count() >= 2
}

/// The documents found so far.
#[derive(Debug, Default)]
struct Listing {
    members: Vec<Member>,
    num_empty: usize,
    num_hidden: usize,
    num_not_utf8: usize,
}

impl Listing {
    /// Adds the files under `folder`; without a split the hash of a file's name decides.
    fn add(&mut self, root: &Path, folder: &Path, split: Option<Split>) -> Result<(), DataError> {
        for path in files_under(folder)? {
            let name = relative_name(root, &path);
            if name.split('/').any(|part| part.starts_with('.')) {
                self.num_hidden += 1;
                continue;
            }
            let text = fs::read(&path).map_err(DataError::io(&path, "read"))?;
            if text.is_empty() {
                self.num_empty += 1;
            } else if std::str::from_utf8(&text).is_err() {
                self.num_not_utf8 += 1;
            } else {
                let split = split.unwrap_or_else(|| split_of(&name));
                self.members.push(Member { group: name.clone(), name, split, text: Text::File(path) });
            }
        }
        Ok(())
    }

    /// Returns what was left out, by the reasons that occurred.
    fn skipped(&self) -> Vec<Skipped> {
        let reasons =
            [("empty", self.num_empty), ("hidden", self.num_hidden), ("not UTF-8", self.num_not_utf8)];
        let occurred = reasons.into_iter().filter(|(_, count)| *count > 0);
        occurred.map(|(reason, count)| Skipped { reason: reason.to_owned(), count }).collect()
    }

    /// Moves documents to splits that the hash left without one.
    fn fill_splits(&mut self, folder: &Path) -> Result<(), DataError> {
        let (expected, got) = (Split::ALL.len(), self.members.len());
        if got < expected {
            return Err(DataError::TooFewDocuments { name: folder.display().to_string(), expected, got });
        }
        for split in Split::ALL {
            if self.count(split) > 0 {
                continue;
            }
            let fullest = Split::ALL.into_iter().max_by_key(|&split| self.count(split));
            let candidates = self.members.iter_mut().filter(|member| Some(member.split) == fullest);
            if let Some(member) = candidates.min_by(|a, b| by_hash(&a.name, &b.name)) {
                member.split = split;
            }
        }
        Ok(())
    }

    /// Returns the number of documents of a split.
    fn count(&self, split: Split) -> usize {
        self.members.iter().filter(|member| member.split == split).count()
    }
}

/// Compares the hashes of two names.
fn by_hash(a: &str, b: &str) -> Ordering {
    fraction(SALT, a).total_cmp(&fraction(SALT, b))
}

/// Returns the split that the hash of a name chooses.
fn split_of(name: &str) -> Split {
    match fraction(SALT, name) {
        part if part < TEST => Split::Test,
        part if part < TEST + VALIDATION => Split::Validation,
        _ => Split::Train,
    }
}

/// Returns a file's path in the folder, with `/` between its parts on every system.
pub(super) fn relative_name(root: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// Returns all files under a folder, sorted by path. Links to files are followed, links to folders are not: they
/// could lead back.
pub(super) fn files_under(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(DataError::io(&folder, "list"))? {
            let entry = entry.map_err(DataError::io(&folder, "list"))?;
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
