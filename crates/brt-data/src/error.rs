//! What can go wrong with a corpus, and what to do about it.

use std::{io, path::PathBuf};

use brt_report::FileError;

use crate::{SourceError, Split};

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
    #[error(
        "corpus: expected `code`, `books`, `latex`, `pg19:FOLDER`, a path that is there, or one after its format \
         (`files:`, `tree:`, `raw:`, `jsonl:`, `parquet:`), got `{got}`"
    )]
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
    /// A package cannot be had or unpacked.
    #[error("{package}: expected a Debian package from apt-get or in the folder of packages, got: {got}")]
    Package {
        /// The package.
        package: String,
        /// What its client said.
        got: String,
    },
    /// A package is neither the one that is expected nor the one that the machine's package list has.
    #[error(
        "{path}: expected sha256 {expected}, or the one that `apt-cache show` prints, got {got}; \
         remove the file to download it again"
    )]
    PackageChecksum {
        /// The package's file.
        path: PathBuf,
        /// The checksum in Debian 12.
        expected: String,
        /// The checksum of the file.
        got: String,
    },
    /// Documents cannot be read.
    #[error(transparent)]
    Source(Box<SourceError>),
    /// A tokenizer cannot be read, or a text has no tokens.
    #[error(transparent)]
    Tokenizer(#[from] crate::TokenizerError),
    /// A document that the tokenizer cannot read.
    #[error("{document}")]
    Document {
        /// The document.
        document: String,
        /// Why.
        #[source]
        source: Box<crate::TokenizerError>,
    },
    /// An option that cannot be.
    #[error("{name}: expected {expected}, got {got}")]
    Option {
        /// The option's name.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A corpus without documents.
    #[error("{name}: expected at least 1 document (not empty), got 0; look at what was left out")]
    NoDocuments {
        /// The corpus: its folder or its name.
        name: String,
    },
    /// The parts of several jobs do not fit together.
    #[error(
        "{path}: expected {expected}, got {got}; run the jobs that are missing, and merge the parts of one run"
    )]
    Parts {
        /// A part.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
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
    /// The manifest was written by an older version of this crate.
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
    /// The manifest was written by a newer version of this crate.
    #[error(
        "{path}: expected manifest format {expected}, got {got} of a newer version; use that version of brt"
    )]
    NewerManifest {
        /// The manifest.
        path: PathBuf,
        /// Format that this version reads.
        expected: u32,
        /// Format of the manifest.
        got: u32,
    },
    /// The sizes in a manifest are not those of the files.
    #[error(
        "{path}: expected the sizes that the manifest says of {what}, got others; prepare the corpus again"
    )]
    Counts {
        /// The folder or file.
        path: PathBuf,
        /// Whose sizes they are.
        what: String,
    },
    /// A file of a corpus is too short or too long.
    #[error("{path}: expected {expected} bytes, got {got}; copy the file again, or prepare the corpus again")]
    Length {
        /// The file.
        path: PathBuf,
        /// Length in bytes according to the manifest.
        expected: u64,
        /// Length in bytes.
        got: u64,
    },
    /// A file of a corpus has changed since it was written.
    #[error(
        "{path}: expected sha256 {expected}, got {got}; copy the file again, or prepare the corpus again"
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Checksum according to the manifest.
        expected: String,
        /// Checksum of the file.
        got: String,
    },
    /// An index that does not fit its shard.
    #[error("{path}: expected the index of the shard's documents, got {got}; copy the files again")]
    Index {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        got: String,
    },
    /// A document that its index says nonsense about.
    #[error(
        "document {document_idx}: expected tokens and a name, got a damaged index; run `brt data verify`"
    )]
    DamagedDocument {
        /// Index of the document in its set.
        document_idx: usize,
    },
    /// A token that the vocabulary does not have.
    #[error(
        "document {document_idx}: expected tokens below {vocab_size}, got {got}: a damaged file; run `brt data verify`"
    )]
    Token {
        /// Index of the document in its set.
        document_idx: usize,
        /// Number of rows of the vocabulary.
        vocab_size: usize,
        /// The token.
        got: u32,
    },
    /// A document set in which no token can be predicted.
    #[error("documents: expected one of at least 2 tokens, got none; add longer documents")]
    NothingToPredict,
    /// A stream is read on after an error.
    #[error(
        "batches: expected a stream that goes on, got one that ended with an error; resume from the cursor"
    )]
    StreamEnded,
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

impl From<SourceError> for DataError {
    fn from(error: SourceError) -> Self {
        Self::Source(Box::new(error))
    }
}

impl DataError {
    /// Returns a function that turns the system's error into [`DataError::Io`].
    pub(crate) fn io(path: &std::path::Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }
}
