//! The corpora: which documents, and which split each belongs to.

mod books;
mod code;
mod latex;

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use crate::{
    DataError, Split, Work,
    manifest::sha256_hex,
    source::{SourceConfig, SourceFormat},
};

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
    /// Manuals and articles in LaTeX from Debian packages; one document per work.
    Latex {
        /// Folder of the packages; those that are missing are downloaded into it with `apt-get`.
        packages: PathBuf,
    },
    /// PG-19: books of Project Gutenberg from before 1919, one document per book.
    ///
    /// The folder has `train/ID.txt`, `validation/`, `test/` and `metadata.csv`, or parquet files.
    Pg19(SourceConfig),
    /// The user's own files.
    Files(SourceConfig),
}

impl FromStr for CorpusSource {
    type Err = DataError;

    /// Reads `code` (the workspace in the current folder), `books`, `latex`, `latex:FOLDER`, `pg19:FOLDER`, a path, or
    /// a path after its format: `files:`, `tree:`, `raw:`, `jsonl:`, `parquet:` (and `folder:`, the same as `files:`).
    fn from_str(text: &str) -> Result<Self, DataError> {
        let unknown = || DataError::UnknownCorpus { got: text.to_owned() };
        let (kind, path) = text.split_once(':').unwrap_or((text, ""));
        match (kind, path) {
            ("code", "") => return Ok(Self::Code { manifest_path: "Cargo.toml".into() }),
            ("books", "") => return Ok(Self::Books),
            ("latex", "") => return Ok(Self::Latex { packages: latex::default_folder() }),
            ("latex", path) => return Ok(Self::Latex { packages: path.into() }),
            ("pg19", path) if !path.is_empty() => return Ok(Self::Pg19(SourceConfig::new(path))),
            ("folder", path) if !path.is_empty() => return Ok(Self::files(path, SourceFormat::Files)),
            _ => (),
        }
        match kind.parse() {
            Ok(format) if !path.is_empty() => Ok(Self::files(path, format)),
            _ if std::path::Path::new(text).exists() => Ok(Self::files(text, SourceFormat::Auto)),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for CorpusSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { .. } => f.write_str("code"),
            Self::Books => f.write_str("books"),
            Self::Latex { .. } => f.write_str("latex"),
            Self::Pg19(config) => write!(f, "pg19:{}", config.path.display()),
            Self::Files(config) => write!(f, "{}:{}", config.format, config.path.display()),
        }
    }
}

impl CorpusSource {
    /// Returns the source of files in a layout, with every other option at its default.
    pub fn files(path: impl Into<PathBuf>, format: SourceFormat) -> Self {
        Self::Files(SourceConfig { format, ..SourceConfig::new(path) })
    }

    /// Lists the works of a named corpus, or tells which files make it.
    pub(crate) fn read(&self) -> Result<Listing, DataError> {
        match self {
            Self::Code { manifest_path } => code::read(manifest_path).map(Listing::Works),
            Self::Books => books::read().map(Listing::Works),
            Self::Latex { packages } => latex::read(packages).map(Listing::Works),
            Self::Pg19(config) => Ok(Listing::Files {
                name: "pg19".into(),
                licence: "public domain".into(),
                origin: "PG-19, books of Project Gutenberg from before 1919".into(),
                config: config.clone(),
            }),
            Self::Files(config) => Ok(Listing::Files {
                name: config.format.to_string(),
                licence: "the owner's".into(),
                origin: "files".into(),
                config: config.clone(),
            }),
        }
    }
}

/// What a corpus is made from.
#[derive(Debug)]
pub(crate) enum Listing {
    Works(Corpus),
    Files { name: String, licence: String, origin: String, config: SourceConfig },
}

/// A named corpus whose texts are in memory.
#[derive(Debug)]
pub(crate) struct Corpus {
    pub(crate) name: &'static str,
    pub(crate) licence: &'static str,
    pub(crate) origin: String,
    pub(crate) members: Vec<Member>,
    pub(crate) skipped: BTreeMap<String, u64>,
}

/// A document of a named corpus.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) split: Split,
    pub(crate) licence: Option<String>,
    pub(crate) text: Vec<u8>,
}

impl Member {
    /// Returns what the manifest says of the document.
    pub(crate) fn work(&self) -> Work {
        Work {
            name: self.name.clone(),
            group: self.group.clone(),
            split: self.split,
            licence: self.licence.clone(),
            num_bytes: self.text.len() as u64,
            sha256: sha256_hex(&self.text),
        }
    }
}

/// Returns a number in 0..1 that depends only on the salt and the name: their SHA-256 as a fraction.
pub(crate) fn fraction(salt: &str, name: &str) -> f64 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(format!("{salt}{name}"));
    let head: [u8; 4] = [hash[0], hash[1], hash[2], hash[3]];
    f64::from(u32::from_be_bytes(head)) / f64::from(u32::MAX) // at most 1
}
