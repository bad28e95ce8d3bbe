//! Which columns of a row are read, and what they are for; the same for JSON lines and parquet.

use super::{InvalidUtf8, Place, SourceConfig, SourceError};

/// Columns of the text, if none is named.
const TEXT: [&str; 2] = ["text", "content"];

/// Columns of a path, if none is named.
const PATH: [&str; 3] = ["path", "meta.path", "max_stars_repo_path"];

/// What a row has in a column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Value {
    #[default]
    Missing,
    Null,
    Text(Vec<u8>),
    /// A number or a truth value, as it is written.
    Scalar(String),
    /// The type of a value that is none of these, with its article.
    Other(&'static str),
}

/// A row with the columns that are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) text: Vec<u8>,
    pub(super) name: Option<String>,
    pub(super) group: Option<String>,
    pub(super) path: Option<String>,
    pub(super) place: Place,
}

/// The columns that are read.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    /// Their names, each once.
    pub(super) names: Vec<String>,
    text: Vec<usize>, // the first that a row has
    name: Option<usize>,
    group: Option<usize>,
    path: Vec<usize>,
    must_have_path: bool,
    invalid_utf8: InvalidUtf8,
}

impl Columns {
    /// Returns the columns that a configuration needs.
    pub(super) fn new(config: &SourceConfig) -> Self {
        let mut names: Vec<String> = Vec::new();
        let mut idx = |name: &str| {
            names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            })
        };
        let mut idxs = |named: &Option<String>, defaults: &[&str]| match named {
            Some(name) => vec![idx(name)],
            None => defaults.iter().map(|name| idx(name)).collect::<Vec<_>>(),
        };
        let text = idxs(&config.text_column, &TEXT);
        let group = idxs(&config.group_by, &[]).first().copied();
        // Only the rows of a group have an order, and only without groups does a row need a name.
        let path = if group.is_some() { idxs(&config.path_column, &PATH) } else { vec![] };
        let name = if group.is_some() { None } else { idxs(&config.name_column, &[]).first().copied() };
        let must_have_path = config.path_column.is_some();
        Self { names, text, name, group, path, must_have_path, invalid_utf8: config.invalid_utf8 }
    }

    /// Returns whether a column may hold the text.
    pub(super) fn is_text(&self, column_idx: usize) -> bool {
        self.text.contains(&column_idx)
    }

    /// Returns the row of these values. `all_columns` names what the row has instead of a column that is missing.
    pub(super) fn row(
        &self,
        mut values: Vec<Value>,
        place: &Place,
        all_columns: impl Fn() -> String,
    ) -> Result<Row, SourceError> {
        let scalar = |column_idx: usize, role, option| match &values[column_idx] {
            Value::Text(text) => Ok(String::from_utf8_lossy(text).into_owned()),
            Value::Scalar(text) => Ok(text.clone()),
            Value::Missing => Err(self.no_column(&[column_idx], (role, option), place, all_columns())),
            Value::Null => Err(self.no_column(&[column_idx], (role, option), place, "null".to_owned())),
            Value::Other(got) => Err(self.wrong_type(column_idx, got, option, place)),
        };
        let name = self.name.map(|idx| scalar(idx, "a name", "name-column")).transpose()?;
        let group = self.group.map(|idx| scalar(idx, "a group", "group-by")).transpose()?;
        let has_value = |idx: &&usize| !matches!(values[**idx], Value::Missing | Value::Null);
        let path_idx = self.path.iter().find(has_value).or(self.path.first().filter(|_| self.must_have_path));
        let path = path_idx.map(|&idx| scalar(idx, "a path", "path-column")).transpose()?;
        let text = self.text(&mut values, place, all_columns)?;
        Ok(Row { text, name, group, path, place: place.clone() })
    }

    /// Takes the text out of the values.
    fn text(
        &self,
        values: &mut [Value],
        place: &Place,
        all_columns: impl Fn() -> String,
    ) -> Result<Vec<u8>, SourceError> {
        let has_it = |idx: &&usize| values[**idx] != Value::Missing;
        let (role, option) = ("a text", "text-column");
        let Some(&column_idx) = self.text.iter().find(has_it) else {
            return Err(self.no_column(&self.text, (role, option), place, all_columns()));
        };
        match std::mem::take(&mut values[column_idx]) {
            Value::Text(text) => self.valid(text, place),
            Value::Scalar(got) => Err(self.wrong_type(column_idx, &format!("`{got}`"), option, place)),
            Value::Other(got) => Err(self.wrong_type(column_idx, got, option, place)),
            Value::Null | Value::Missing => {
                Err(SourceError::Null { place: place.clone(), column: self.names[column_idx].clone() })
            }
        }
    }

    /// Returns the text as UTF-8, as the configuration wants it.
    fn valid(&self, text: Vec<u8>, place: &Place) -> Result<Vec<u8>, SourceError> {
        if self.invalid_utf8 == InvalidUtf8::Bytes {
            return Ok(text);
        }
        let text = match String::from_utf8(text) {
            Ok(text) => return Ok(text.into_bytes()),
            Err(error) => error,
        };
        let offset = text.utf8_error().valid_up_to();
        let text = text.into_bytes();
        if self.invalid_utf8 == InvalidUtf8::Replace {
            return Ok(String::from_utf8_lossy(&without_surrogates(text)).into_owned().into_bytes());
        }
        let got = match text[offset..] {
            [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, ..] => {
                let surrogate = 0xd000 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f);
                format!("the unpaired surrogate \\u{surrogate:04x} at offset {offset} of the text")
            }
            _ => format!("the byte 0x{:02X} at offset {offset} of the text", text[offset]),
        };
        Err(SourceError::Utf8 { place: place.clone(), got })
    }

    /// Returns the error of a column that a row does not have.
    fn no_column(
        &self,
        columns: &[usize],
        (role, option): (&'static str, &'static str),
        place: &Place,
        got: String,
    ) -> SourceError {
        let names: Vec<_> = columns.iter().map(|&idx| format!("`{}`", self.names[idx])).collect();
        SourceError::NoColumn { place: place.clone(), role, expected: names.join(" or "), got, option }
    }

    /// Returns the error of a column of another type.
    fn wrong_type(&self, idx: usize, got: &str, option: &'static str, place: &Place) -> SourceError {
        let (place, column, got) = (place.clone(), self.names[idx].clone(), got.to_owned());
        SourceError::ColumnType { place, column, got, option }
    }
}

/// Returns a list of columns for an error.
pub(super) fn list_columns<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "no columns".to_owned(),
        1..=20 => format!("the columns {}", names.join(", ")),
        len => format!("the columns {} and {} more", names[..20].join(", "), len - 20),
    }
}

/// Replaces each surrogate, which JSON can escape but UTF-8 does not have, by one U+FFFD.
fn without_surrogates(mut text: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(next) = memchr::memchr(0xed, &text[at..]) {
        at += next;
        if matches!(text[at..], [_, 0xa0..=0xbf, 0x80..=0xbf, ..]) {
            text[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
        }
        at += 1;
    }
    text
}
