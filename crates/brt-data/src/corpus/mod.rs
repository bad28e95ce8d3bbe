//! The corpora: which documents, and which split each belongs to.

mod books;
mod code;
mod folder;
mod near_copies;

use std::{borrow::Cow, fmt, fs, path::PathBuf, str::FromStr};

use sha2::{Digest, Sha256};

use crate::{DataError, NearCopy, Skipped, Split};

/// Where documents come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorpusSource {
    /// The sources of the crates that a workspace's lock file pins; one document per crate.
    Code {
        /// The workspace's `Cargo.toml`, with a `Cargo.lock` beside it.
        manifest_path: PathBuf,
    },
    /// Public-domain books that come with this crate; one document per work.
    Books,
    /// Text files; one document per file.
    Folder {
        /// The folder, with or without the subfolders `train`, `validation` and `test`.
        path: PathBuf,
    },
}

impl FromStr for CorpusSource {
    type Err = DataError;

    /// Reads `code` (the workspace in the current folder), `books` or `folder:PATH`.
    fn from_str(text: &str) -> Result<Self, DataError> {
        match (text, text.strip_prefix("folder:")) {
            ("code", _) => Ok(Self::Code { manifest_path: "Cargo.toml".into() }),
            ("books", _) => Ok(Self::Books),
            (_, Some(path)) if !path.is_empty() => Ok(Self::Folder { path: path.into() }),
            _ => Err(DataError::UnknownCorpus { got: text.to_owned() }),
        }
    }
}

impl fmt::Display for CorpusSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { .. } => f.write_str("code"),
            Self::Books => f.write_str("books"),
            Self::Folder { path } => write!(f, "folder:{}", path.display()),
        }
    }
}

impl CorpusSource {
    /// Lists the documents of the corpus and their splits.
    pub(crate) fn read(&self) -> Result<Corpus, DataError> {
        match self {
            Self::Code { manifest_path } => code::read(manifest_path),
            Self::Books => books::read(),
            Self::Folder { path } => folder::read(path),
        }
    }
}

/// A corpus before it is written.
#[derive(Debug)]
pub(crate) struct Corpus {
    pub(crate) source: &'static str,
    pub(crate) licence: &'static str,
    pub(crate) origin: String,
    pub(crate) members: Vec<Member>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) near_copies: Vec<NearCopy>,
}

/// A document of a corpus, in memory or still on the disk.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) split: Split,
    pub(crate) text: Text,
}

/// Where a document's text is.
#[derive(Debug)]
pub(crate) enum Text {
    Memory(Vec<u8>),
    File(PathBuf),
}

impl Corpus {
    /// Returns the documents of a split in their order.
    pub(crate) fn members(&self, split: Split) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.split == split)
    }
}

impl Member {
    /// Returns the text, read from the disk if it is there.
    pub(crate) fn text(&self) -> Result<Cow<'_, [u8]>, DataError> {
        match &self.text {
            Text::Memory(text) => Ok(text.into()),
            Text::File(path) => Ok(fs::read(path).map_err(DataError::io(path, "read"))?.into()),
        }
    }
}

/// Returns a number in 0..1 that depends only on the salt and the name: their SHA-256 as a fraction.
pub(crate) fn fraction(salt: &str, name: &str) -> f64 {
    let hash = Sha256::digest(format!("{salt}{name}"));
    let head: [u8; 4] = [hash[0], hash[1], hash[2], hash[3]];
    f64::from(u32::from_be_bytes(head)) / f64::from(u32::MAX) // at most 1
}
