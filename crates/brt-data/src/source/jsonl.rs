//! JSON lines, plain or packed: one object on each line.

use super::{
    BytesRead, SourceConfig, SourceError,
    columns::{Columns, Row},
    json_row,
    lines::{Line, Lines},
    rows::Rows,
    walk::FileEntry,
};

/// What some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The rows of a file of JSON lines.
pub(super) struct JsonlRows {
    file: FileEntry,
    columns: Columns,
    max_len: u64,
    bytes_read: BytesRead,
    num_skipped: u64, // rows that are left out before the first
    line_number: u64,
    state: State,
}

/// How far a file was read.
enum State {
    Closed,
    Open(Box<Lines>),
    Over,
}

impl JsonlRows {
    /// Returns the rows of a file from behind its first `num_skipped`.
    pub(super) fn new(
        file: FileEntry,
        config: &SourceConfig,
        num_skipped: u64,
        bytes_read: BytesRead,
    ) -> Self {
        Self {
            file,
            columns: Columns::new(config),
            max_len: config.max_record_bytes,
            bytes_read,
            num_skipped,
            line_number: 0,
            state: State::Closed,
        }
    }

    /// Returns the row on the next line that is not blank.
    fn read(&mut self, lines: &mut Lines) -> Result<Option<Row>, SourceError> {
        let place = self.file.place();
        loop {
            self.line_number += 1;
            let line = lines.next_line().map_err(|error| self.at_line(error))?;
            let Some(line) = line else { return Ok(None) };
            let text = match line {
                Line::Text(text) if self.line_number == 1 => {
                    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
                }
                Line::Text(text) => text,
                Line::TooLong(_) => b"{", // not blank
            };
            if text.trim_ascii().is_empty() {
                continue;
            }
            if self.num_skipped > 0 {
                self.num_skipped -= 1;
                continue;
            }
            let place = place.at("line", self.line_number);
            if let Line::TooLong(len) = line {
                let got = len.to_string();
                return Err(SourceError::TooLong { place, what: "line", limit: self.max_len, got });
            }
            let values = json_row::values(text, &self.columns);
            let values = values
                .map_err(|error| SourceError::Json { place: place.clone(), detail: error.to_string() })?;
            return self.columns.row(values, &place, || json_row::keys(text)).map(Some);
        }
    }

    /// Returns an error of reading with the line at which it occurred.
    fn at_line(&self, error: SourceError) -> SourceError {
        match error {
            SourceError::Damaged { place, format, detail } => {
                let place = place.at("line", self.line_number);
                SourceError::Damaged { place, format, detail }
            }
            error => error,
        }
    }
}

impl Rows for JsonlRows {
    fn next_row(&mut self) -> Result<Option<Row>, SourceError> {
        let lines = match std::mem::replace(&mut self.state, State::Over) {
            State::Closed => Lines::open(&self.file, self.max_len, &self.bytes_read).map(Box::new),
            State::Open(lines) => Ok(lines),
            State::Over => return Ok(None),
        };
        let mut lines = lines?;
        let row = self.read(&mut lines);
        if !matches!(row, Ok(None) | Err(SourceError::Damaged { .. } | SourceError::Io { .. })) {
            self.state = State::Open(lines);
        }
        row
    }
}
