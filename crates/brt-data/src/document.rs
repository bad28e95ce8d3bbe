//! A document and the split that it belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::DataError;

/// A long text that a model reads from its first token to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Name, unique in its corpus.
    pub name: String,
    /// Family or author; the documents of one group are never spread over two splits.
    pub group: String,
    /// The text, UTF-8.
    pub text: Vec<u8>,
}

/// What the documents of a part of a corpus are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Documents that a model is trained on.
    Train,
    /// Documents that choose between models and settings.
    Validation,
    /// Documents that are scored once, at the end.
    Test,
}

impl Split {
    /// All splits, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Returns the split's name: `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Split {
    type Err = DataError;

    /// Reads the name that `Display` writes.
    fn from_str(name: &str) -> Result<Self, DataError> {
        let found = Self::ALL.into_iter().find(|split| split.name() == name);
        let expected = "train, validation or test";
        found.ok_or_else(|| DataError::Option { name: "split", expected, got: name.into() })
    }
}
