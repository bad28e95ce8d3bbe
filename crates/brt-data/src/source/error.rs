//! What can be wrong with a source, where, and what to do about it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Where an input is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Box<FilePart>); // small, as every result of this module may hold one

/// A file, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FilePart {
    path: PathBuf,
    name: String,
    part: Part,
}

/// Which part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Whole,
    Numbered(&'static str, u64),
    Group(String),
}

impl Place {
    /// Returns the place of a file, with its name in the source.
    pub(crate) fn file(path: &Path, name: &str) -> Self {
        Self(Box::new(FilePart { path: path.to_path_buf(), name: name.to_owned(), part: Part::Whole }))
    }

    /// Returns the place of a line or row of the file; both count from 1.
    pub(crate) fn at(&self, kind: &'static str, number: u64) -> Self {
        let FilePart { path, name, .. } = self.0.as_ref().clone();
        Self(Box::new(FilePart { path, name, part: Part::Numbered(kind, number) }))
    }

    /// Returns the place of a group of rows.
    pub(crate) fn group(path: &Path, key: &str) -> Self {
        let (path, name) = (path.to_path_buf(), String::new());
        Self(Box::new(FilePart { path, name, part: Part::Group(key.to_owned()) }))
    }

    /// Returns the place as a document's name: the same on every machine.
    pub(crate) fn name(&self) -> String {
        match &self.0.part {
            Part::Whole => self.0.name.clone(),
            Part::Numbered(_, number) => format!("{}:{number}", self.0.name),
            Part::Group(key) => key.clone(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.path.display())?;
        match &self.0.part {
            Part::Whole => Ok(()),
            Part::Numbered(kind, number) => write!(f, ": {kind} {number}"),
            Part::Group(key) => write!(f, ": group `{key}`"),
        }
    }
}

/// An error of reading documents; every text says where, what was expected, what is there and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// An option has a value that does not exist.
    #[error("{option}: expected one of {expected}, got `{got}`")]
    Option {
        /// The option.
        option: &'static str,
        /// Its values.
        expected: String,
        /// What was asked for.
        got: String,
    },
    /// An option does not go with another.
    #[error(
        "{option}: expected {expected}, got the format `{got}`; choose one with `files:`, `tree:`, `raw:`, `jsonl:` or `parquet:` before the path"
    )]
    Format {
        /// The option or path.
        option: String,
        /// What goes with it.
        expected: &'static str,
        /// The format.
        got: super::SourceFormat,
    },
    /// A path with nothing behind it.
    #[error("{path}: expected {expected}, got nothing at this path; check its spelling")]
    Missing {
        /// The path.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
    },
    /// A folder with no file of the format.
    #[error("{path}: expected at least one {expected}, got none{hint}")]
    NoDocuments {
        /// The folder.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What was there instead, if anything.
        hint: String,
    },
    /// A folder with files of several formats.
    #[error(
        "{path}: expected files of one format, got {got}; choose one with `files:`, `tree:`, `raw:`, `jsonl:` or `parquet:` before the path"
    )]
    MixedFormats {
        /// The folder.
        path: PathBuf,
        /// One file of each format.
        got: String,
    },
    /// A file that belongs to no split, among files that do.
    #[error(
        "{place}: expected a split in the path (train, validation or test) as in {example}, got none; rename or move it"
    )]
    NoSplit {
        /// The file.
        place: Place,
        /// A file that has one.
        example: String,
    },
    /// The operating system refused.
    #[error("{place}: cannot {action}")]
    Io {
        /// The file or folder.
        place: Place,
        /// What was tried, for example `read`.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file that was cut short or changed.
    #[error(
        "{place}: expected whole {format} data, got damaged or cut-off data ({detail}); fetch the file again, or \
         leave the rest of it out with --on-error skip"
    )]
    Damaged {
        /// The file, and the line or row that could not be read.
        place: Place,
        /// Its format.
        format: &'static str,
        /// What the reader found.
        detail: String,
    },
    /// A parquet file that is packed in an unusual way.
    #[error(
        "{place}: expected columns packed with snappy, gzip, zstd, lz4 or not at all, got {got}; write it anew"
    )]
    Codec {
        /// The file.
        place: Place,
        /// How its columns are packed.
        got: String,
    },
    /// Text that is not UTF-8.
    #[error("{place}: expected UTF-8, got {got}; convert it, or choose --invalid-utf8 replace or bytes")]
    Utf8 {
        /// The file, and the line or row if it has any.
        place: Place,
        /// The wrong bytes and their offset.
        got: String,
    },
    /// A line that is not JSON.
    #[error("{place}: expected a JSON object, got {detail}; each line must be one whole object")]
    Json {
        /// The line.
        place: Place,
        /// What the parser found.
        detail: String,
    },
    /// A row or file without a column.
    #[error("{place}: expected {role} column {expected}, got {got}; name it with --{option}")]
    NoColumn {
        /// The line, or the file of a parquet table.
        place: Place,
        /// What the column is for, with its article.
        role: &'static str,
        /// Names of the column.
        expected: String,
        /// The columns that there are.
        got: String,
        /// The option that names the column.
        option: &'static str,
    },
    /// A column of another type.
    #[error("{place}: expected text in column `{column}`, got {got}; name another one with --{option}")]
    ColumnType {
        /// The line, or the file of a parquet table.
        place: Place,
        /// The column.
        column: String,
        /// Its type.
        got: String,
        /// The option that names the column.
        option: &'static str,
    },
    /// A column without a value.
    #[error(
        "{place}: expected text in column `{column}`, got null; leave such rows out with --on-error skip"
    )]
    Null {
        /// The line or row.
        place: Place,
        /// The column.
        column: String,
    },
    /// A group whose rows lie in files of different splits.
    #[error(
        "{place}: expected rows of one split, got rows of {got}; it would be read in training and scored: move its \
         rows, or leave it out with --on-error skip"
    )]
    MixedSplits {
        /// The group.
        place: Place,
        /// The splits.
        got: String,
    },
    /// A record that would need too much memory.
    #[error("{place}: expected a {what} of at most {limit} bytes, got {got}; raise --max-record-bytes")]
    TooLong {
        /// The line, row or group.
        place: Place,
        /// What is too long.
        what: &'static str,
        /// Longest that is allowed.
        limit: u64,
        /// How long it is, as far as it was read.
        got: String,
    },
}

impl SourceError {
    /// Returns a function that turns the system's error into [`SourceError::Io`].
    pub(crate) fn io(place: &Place, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let place = place.clone();
        move |source| Self::Io { place, action, source }
    }

    /// Returns a function that turns the system's error at a path into [`SourceError::Io`].
    pub(crate) fn io_at(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let place = Place::file(path, &name);
        move |source| Self::Io { place, action, source }
    }

    /// Returns why the input is left out if errors are skipped: short, and the same for all inputs like it.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Io { action, .. } => format!("cannot {action}"),
            Self::Damaged { format, .. } => format!("damaged {format}"),
            Self::Codec { .. } => "unknown packing".to_owned(),
            Self::Utf8 { .. } => "not UTF-8".to_owned(),
            Self::Json { .. } => "not a JSON object".to_owned(),
            Self::NoColumn { role, .. } => format!("no {} column", role.trim_start_matches("a ")),
            Self::ColumnType { option, .. } => format!("{} is no string", option.trim_end_matches("-column")),
            Self::Null { .. } => "null text".to_owned(),
            Self::MixedSplits { .. } => "in more than one split".to_owned(),
            Self::TooLong { .. } => "too long".to_owned(),
            _ => "unusable".to_owned(),
        }
    }

    /// Returns the place of the input as a name: file, and line or row.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::NoSplit { place, .. }
            | Self::Io { place, .. }
            | Self::Damaged { place, .. }
            | Self::Codec { place, .. }
            | Self::Utf8 { place, .. }
            | Self::Json { place, .. }
            | Self::NoColumn { place, .. }
            | Self::ColumnType { place, .. }
            | Self::Null { place, .. }
            | Self::MixedSplits { place, .. }
            | Self::TooLong { place, .. } => place.name(),
            _ => String::new(),
        }
    }
}
