//! What can go wrong with a tokenizer, and what to do about it.

use std::{io, path::PathBuf};

/// An error of the crate `tokenizers`.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error of a tokenizer; every text names the thing, what was expected of it and what it is.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// Neither a known name nor a file.
    #[error(
        "tokenizer: expected `t5-bytes`, `bytes` or the path of a tokenizer.json or a SentencePiece .model, \
         got `{got}`, and there is no such file"
    )]
    Unknown {
        /// What was asked for.
        got: String,
    },
    /// The operating system refused.
    #[error("{path}: cannot read the tokenizer")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file that is too long for a tokenizer.
    #[error("{path}: expected a tokenizer of at most {max} bytes, got a longer file; choose the right file")]
    FileTooLong {
        /// The file.
        path: PathBuf,
        /// Largest length that is read.
        max: u64,
    },
    /// The file is not what it should be.
    #[error("{path}: expected {expected}, got {got}; copy the file from its source again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What is in it.
        got: String,
    },
    /// The file is a tokenizer, but this version cannot use it.
    #[error("{path}: expected {expected}, got {got}; choose another tokenizer")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What can be used.
        expected: &'static str,
        /// What is in the file.
        got: String,
    },
    /// A text is not UTF-8, and the tokenizer works on characters.
    #[error("text: expected UTF-8, got an invalid byte at position {position}; use the tokenizer `t5-bytes`")]
    NotUtf8 {
        /// Position of the first invalid byte.
        position: usize,
    },
    /// A text whose positions do not fit into 32 bits, before or after its normalisation.
    #[error("text: expected at most {max} bytes, got {got}; encode it in pieces")]
    TextTooLong {
        /// Largest length that can be encoded at once.
        max: usize,
        /// Length of the text.
        got: usize,
    },
    /// The tokenizer could not encode a text.
    #[error("text: the tokenizer cannot encode it")]
    Encode {
        /// The reason of the crate `tokenizers`.
        #[source]
        source: Source,
    },
    /// A vocabulary without room for all bytes and a first merge.
    #[error("vocab_size: expected at least {expected} (256 bytes and a merge), got {got}")]
    VocabSize {
        /// Smallest size that works.
        expected: usize,
        /// The size.
        got: usize,
    },
    /// Training failed.
    #[error("tokenizer: training failed")]
    Train {
        /// The reason of the crate `tokenizers`.
        #[source]
        source: Source,
    },
}

/// What is wrong with the contents of a file, whose path the caller knows.
#[derive(Debug)]
pub(super) enum Fault {
    Damaged { expected: &'static str, got: String },
    Unsupported { expected: &'static str, got: String },
}

impl Fault {
    /// Returns the fault of a file that is not what it should be.
    pub(super) fn damaged(expected: &'static str, got: impl ToString) -> Self {
        Self::Damaged { expected, got: got.to_string() }
    }

    /// Returns the fault of a file that this version cannot use.
    pub(super) fn unsupported(expected: &'static str, got: impl ToString) -> Self {
        Self::Unsupported { expected, got: got.to_string() }
    }

    /// Returns the error that names the file.
    pub(super) fn at(self, path: &std::path::Path) -> TokenizerError {
        let path = path.to_path_buf();
        match self {
            Self::Damaged { expected, got } => TokenizerError::Damaged { path, expected, got },
            Self::Unsupported { expected, got } => TokenizerError::Unsupported { path, expected, got },
        }
    }
}
