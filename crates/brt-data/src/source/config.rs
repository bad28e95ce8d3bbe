//! What to read, and how.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use super::SourceError;

/// Largest line, value or group in bytes if nothing else is asked for.
const MAX_RECORD_BYTES: u64 = 256 << 20;

/// Where and how documents are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The file or folder. It is not written: it differs by machine.
    #[serde(skip)]
    pub path: PathBuf,
    /// Its layout.
    pub format: SourceFormat,
    /// Column of the text; without one `text`, else `content`. As every column it may be nested: `meta.text`.
    pub text_column: Option<String>,
    /// Column whose equal values join rows into one document.
    pub group_by: Option<String>,
    /// Column that orders the rows of a group and is named in the header line of each; without one `path`,
    /// `meta.path` or `max_stars_repo_path`, whichever a row has.
    pub path_column: Option<String>,
    /// Column of a document's name; without one it is the file and the line or row.
    pub name_column: Option<String>,
    /// What happens to text that is not UTF-8.
    pub invalid_utf8: InvalidUtf8,
    /// What happens to input that cannot be read.
    pub on_error: OnError,
    /// Longest JSON line, parquet value or group in bytes; longer ones are errors.
    pub max_record_bytes: u64,
}

/// Layout of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceFormat {
    /// The one that the names of the files tell.
    Auto,
    /// A folder; each file is a document.
    Files,
    /// A folder; each sub-folder is a document, its files joined.
    Tree,
    /// A file, cut into 90 % for training and 5 % each for validation and test, to the byte where characters allow it.
    Raw,
    /// Files with a JSON object on each line; each is a document.
    Jsonl,
    /// Parquet files; each row is a document.
    Parquet,
}

/// What happens to text that is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvalidUtf8 {
    /// It is an error.
    Strict,
    /// Each wrong sequence becomes U+FFFD.
    Replace,
    /// It is kept; only tokenizers of bytes can read it.
    Bytes,
}

/// What happens to input that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Reading ends with the error.
    Stop,
    /// It is left out, counted and reported.
    Skip,
}

impl SourceConfig {
    /// Returns the configuration with every option at its default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: SourceFormat::Auto,
            text_column: None,
            group_by: None,
            path_column: None,
            name_column: None,
            invalid_utf8: InvalidUtf8::Strict,
            on_error: OnError::Stop,
            max_record_bytes: MAX_RECORD_BYTES,
        }
    }
}

/// Returns the value with this name.
fn from_name<T: Copy + fmt::Display>(
    option: &'static str,
    values: &[T],
    name: &str,
) -> Result<T, SourceError> {
    let found = values.iter().find(|value| value.to_string() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        SourceError::Option { option, expected: names.join(", "), got: name.to_owned() }
    })
}

/// Reads and writes the values of an option by their names.
macro_rules! named {
    ($type:ident, $option:literal, $($value:ident $name:literal),+) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$value => $name),+ })
            }
        }

        impl FromStr for $type {
            type Err = SourceError;

            /// Reads the name that `Display` writes.
            fn from_str(name: &str) -> Result<Self, SourceError> {
                from_name($option, &[$(Self::$value),+], name)
            }
        }
    };
}

named!(SourceFormat, "format", Auto "auto", Files "files", Tree "tree", Raw "raw", Jsonl "jsonl", Parquet "parquet");
named!(InvalidUtf8, "invalid-utf8", Strict "strict", Replace "replace", Bytes "bytes");
named!(OnError, "on-error", Stop "stop", Skip "skip");
