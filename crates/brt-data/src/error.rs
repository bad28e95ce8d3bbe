//! What can go wrong with a corpus, and what to do about it.

use std::{io, path::PathBuf};

use brt_report::FileError;

use crate::Split;

/// An error of this crate; every text names the thing, what was expected of it and what it is.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("{path}: cannot {action}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, for example `read`.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A manifest cannot be read or written.
    #[error(transparent)]
    Record(#[from] FileError),
    /// No corpus of this name.
    #[error("corpus: expected `code`, `books` or `folder:PATH`, got `{got}`")]
    UnknownCorpus {
        /// What was asked for.
        got: String,
    },
    /// A file or folder that a corpus is made from is not there.
    #[error("{path}: expected {expected}, got nothing at this path")]
    Missing {
        /// The path.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
    },
    /// `cargo metadata` did not say where the sources of the crates are.
    #[error(
        "{manifest_path}: expected a list of crates from `cargo metadata --locked`, got: {got}; \
         run `cargo fetch` and try again"
    )]
    Cargo {
        /// The workspace whose crates were asked for.
        manifest_path: PathBuf,
        /// What cargo said.
        got: String,
    },
    /// The data that come with this crate are damaged.
    #[error("{name}: expected {expected}, got damaged data; install the crate again")]
    Embedded {
        /// The data.
        name: &'static str,
        /// What should be in them.
        expected: &'static str,
    },
    /// Too little text to make three splits.
    #[error(
        "{name}: expected at least {expected} documents (UTF-8, not empty), got {got}; add documents to the corpus"
    )]
    TooFewDocuments {
        /// The corpus: its folder or its name.
        name: String,
        /// Number of documents that are needed.
        expected: usize,
        /// Number of documents that there are.
        got: usize,
    },
    /// A split has nothing in it.
    #[error("{name}: expected at least 1 document in split {split}, got 0; add documents to the corpus")]
    EmptySplit {
        /// The corpus: its folder or its name.
        name: String,
        /// The split.
        split: Split,
    },
    /// The folder is taken.
    #[error(
        "{path}: expected an empty folder or the same corpus, got the corpus `{got}` made from other inputs; \
         delete it or choose another folder"
    )]
    OtherCorpus {
        /// The folder.
        path: PathBuf,
        /// Source of the corpus that is there.
        got: String,
    },
    /// A folder without a manifest: never prepared, or interrupted.
    #[error("{path}: expected a prepared corpus with a manifest.json, got none; prepare the corpus first")]
    NotPrepared {
        /// The folder.
        path: PathBuf,
    },
    /// The manifest was written by another version of this crate.
    #[error(
        "{path}: expected manifest format {expected}, got {got}; delete its folder and prepare the corpus again"
    )]
    ManifestFormat {
        /// The manifest.
        path: PathBuf,
        /// Format that this version reads.
        expected: u32,
        /// Format of the manifest.
        got: u32,
    },
    /// A number of the manifest contradicts another.
    #[error(
        "{path}: expected documents that follow one another, got a gap or an empty one at `{document}`; \
         delete its folder and prepare the corpus again"
    )]
    ManifestDocuments {
        /// The manifest.
        path: PathBuf,
        /// The first document that does not fit.
        document: String,
    },
    /// A file of tokens is too short or too long.
    #[error("{path}: expected {expected} bytes, got {got}; delete its folder and prepare the corpus again")]
    TokensLength {
        /// The file.
        path: PathBuf,
        /// Length in bytes according to the manifest.
        expected: u64,
        /// Length in bytes.
        got: u64,
    },
    /// A file of tokens has changed since it was written.
    #[error("{path}: expected sha256 {expected}, got {got}; delete its folder and prepare the corpus again")]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Checksum according to the manifest.
        expected: String,
        /// Checksum of the file.
        got: String,
    },
    /// A document set in which no token can be predicted.
    #[error("documents: expected one of at least 2 tokens, got a longest of {longest}; add longer documents")]
    NothingToPredict {
        /// Number of tokens of the longest document.
        longest: usize,
    },
    /// A length or a count is too small.
    #[error("{name}: expected at least {expected}, got {got}")]
    TooSmall {
        /// The option's name.
        name: &'static str,
        /// Smallest value that works.
        expected: usize,
        /// The value.
        got: usize,
    },
    /// A data cursor that belongs to another run.
    #[error(
        "cursor: expected {name} {expected}, got {got}; resume with the configuration that wrote the cursor"
    )]
    Cursor {
        /// What differs.
        name: &'static str,
        /// Value of the stream that is resumed.
        expected: String,
        /// Value in the cursor.
        got: String,
    },
}

impl DataError {
    /// Returns a function that turns the system's error into [`DataError::Io`].
    pub(crate) fn io(path: &std::path::Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }
}
