//! Parquet files: one row after another, of the needed columns only. Memory holds one page of each of them.

use std::{
    fs::File,
    io::BufReader,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use parquet::{
    basic::{Compression, Type},
    errors::{ParquetError, Result as ParquetResult},
    file::reader::{ChunkReader, FileReader, Length, SerializedFileReader},
};

use super::{
    BytesRead, Place, SourceConfig, SourceError,
    columns::{Columns, Row, Value, list_columns},
    parquet_column::Column,
    rows::Rows,
    walk::FileEntry,
};

/// The rows of a parquet file.
pub(super) struct ParquetRows {
    file: FileEntry,
    columns: Columns,
    max_len: u64,
    bytes_read: BytesRead,
    num_skipped: u64, // rows that are left out before the first
    state: State,
}

/// How far a file was read.
enum State {
    Closed,
    Open(Box<Table>),
    Over,
}

/// An open file.
struct Table {
    reader: SerializedFileReader<Bounded>,
    leaves: Vec<Option<usize>>, // of the columns; `None` where the file has none
    next_group_idx: usize,
    num_left: u64, // rows of the group that are not read
    values: Vec<Option<Column>>,
    row_number: u64,
    num_rows: u64,
}

/// A file that refuses to read behind its end, before memory is taken for what is not there.
struct Bounded {
    file: File,
    len: u64,
}

impl Length for Bounded {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Bounded {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(ParquetError::EOF("a part lies behind the end of the file".to_owned()));
        }
        self.file.get_bytes(start, length)
    }
}

/// Calls the parquet crate, which panics on some damaged files.
fn guarded<T>(call: impl FnOnce() -> ParquetResult<T>) -> ParquetResult<T> {
    let result = catch_unwind(AssertUnwindSafe(call));
    result.unwrap_or_else(|_| Err(ParquetError::General("the reader gave up".to_owned())))
}

/// Returns the error of a damaged file.
fn damaged(place: Place) -> impl FnOnce(ParquetError) -> SourceError {
    move |error| SourceError::Damaged { place, format: "parquet", detail: error.to_string() }
}

impl ParquetRows {
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
            state: State::Closed,
        }
    }

    /// Opens the file and checks that it has the columns.
    fn open(&self) -> Result<Table, SourceError> {
        let place = self.file.place();
        let file = File::open(&self.file.path).map_err(SourceError::io(&place, "open"))?;
        let len = file.metadata().map_err(SourceError::io(&place, "read"))?.len();
        let reader = guarded(|| SerializedFileReader::new(Bounded { file, len }));
        let reader = reader.map_err(damaged(place.clone()))?;
        let leaves: Vec<_> = self.columns.names.iter().map(|name| leaf_idx(&reader, name)).collect();
        self.check_types(&reader, &leaves)?;
        check_codecs(&reader, &leaves, &place)?;
        let num_rows = u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
        let mut table =
            Table { reader, leaves, next_group_idx: 0, num_left: 0, values: vec![], row_number: 0, num_rows };
        guarded(|| table.skip(self.num_skipped)).map_err(damaged(place))?;
        Ok(table)
    }

    /// Refuses a file without the columns, or with columns of other types, before its first row is read.
    fn check_types(
        &self,
        reader: &SerializedFileReader<Bounded>,
        leaves: &[Option<usize>],
    ) -> Result<(), SourceError> {
        let schema = reader.metadata().file_metadata().schema_descr();
        let names: Vec<_> = schema.columns().iter().map(|column| column.path().string()).collect();
        let example = |(idx, leaf): (usize, &Option<usize>)| {
            let Some(column) = leaf.map(|leaf| schema.column(leaf)) else {
                let is_parent = names.iter().any(|name| is_below(name, &self.columns.names[idx]));
                let is_nested = is_parent && self.columns.is_text(idx);
                return if is_nested { Value::Other("nested columns") } else { Value::Missing };
            };
            match column.physical_type() {
                _ if column.max_rep_level() > 0 => Value::Other("a list"),
                Type::BYTE_ARRAY => Value::Text(vec![]),
                Type::FIXED_LEN_BYTE_ARRAY | Type::INT96 => Value::Other("bytes of a fixed length"),
                _ if self.columns.is_text(idx) => Value::Other("numbers"),
                _ => Value::Scalar(String::new()),
            }
        };
        let examples = leaves.iter().enumerate().map(example).collect();
        let all_columns = || list_columns(names.iter().map(String::as_str));
        self.columns.row(examples, &self.file.place(), all_columns).map(drop)
    }

    /// Returns the next row of an open file.
    fn read(&self, table: &mut Table) -> Result<Option<Row>, SourceError> {
        let place = self.file.place().at("row", table.row_number + 1);
        let values = guarded(|| table.next_row()).map_err(damaged(place.clone()))?;
        let Some(values) = values else { return Ok(None) };
        self.count(table);
        let lens =
            values.iter().map(|value| if let Value::Text(text) = value { text.len() as u64 } else { 0 });
        if let Some(len) = lens.max().filter(|&len| len > self.max_len) {
            let (what, limit, got) = ("value", self.max_len, len.to_string());
            return Err(SourceError::TooLong { place, what, limit, got });
        }
        self.columns.row(values, &place, String::new).map(Some)
    }

    /// Counts a row's part of the file as read.
    fn count(&self, table: &Table) {
        let share = |row: u64| {
            let part = u128::from(self.file.num_bytes) * u128::from(row) / u128::from(table.num_rows.max(1));
            u64::try_from(part).unwrap_or(self.file.num_bytes)
        };
        self.bytes_read.add(share(table.row_number).saturating_sub(share(table.row_number - 1)));
    }
}

impl Rows for ParquetRows {
    fn next_row(&mut self) -> Result<Option<Row>, SourceError> {
        let mut table = match std::mem::replace(&mut self.state, State::Over) {
            State::Closed => Box::new(self.open()?),
            State::Open(table) => table,
            State::Over => return Ok(None),
        };
        let row = self.read(&mut table);
        let is_over = matches!(row, Ok(None) | Err(SourceError::Damaged { .. }));
        if !is_over {
            self.state = State::Open(table);
        }
        row
    }
}

impl Table {
    /// Returns the values of the next row.
    fn next_row(&mut self) -> ParquetResult<Option<Vec<Value>>> {
        while self.num_left == 0 {
            if !self.open_group()? {
                return Ok(None);
            }
        }
        let value =
            |column: &mut Option<Column>| column.as_mut().map_or(Ok(Value::Missing), Column::next_value);
        let values = self.values.iter_mut().map(value).collect::<ParquetResult<_>>()?;
        self.num_left -= 1;
        self.row_number += 1;
        Ok(Some(values))
    }

    /// Leaves out rows: whole groups without reading them, and the rows of the last group by reading them.
    fn skip(&mut self, num_rows: u64) -> ParquetResult<()> {
        let mut num_rows = num_rows;
        while num_rows > 0 {
            if self.num_left == 0 && !self.open_group()? {
                return Ok(());
            }
            let num_skipped = num_rows.min(self.num_left);
            if num_skipped < self.num_left {
                for _ in 0..num_skipped {
                    self.next_row()?;
                }
            } else {
                self.row_number += num_skipped;
                self.num_left = 0;
            }
            num_rows -= num_skipped;
        }
        Ok(())
    }

    /// Opens the next group of rows; `false` if there is none.
    fn open_group(&mut self) -> ParquetResult<bool> {
        if self.next_group_idx == self.reader.num_row_groups() {
            return Ok(false);
        }
        let group = self.reader.get_row_group(self.next_group_idx)?;
        let schema = group.metadata().schema_descr();
        let column = |leaf: usize| Ok(Column::new(group.get_column_reader(leaf)?, &schema.column(leaf)));
        let columns = self.leaves.iter().map(|leaf| leaf.map(column).transpose());
        self.values = columns.collect::<ParquetResult<_>>()?;
        self.num_left = u64::try_from(group.metadata().num_rows())?;
        self.next_group_idx += 1;
        Ok(true)
    }
}

/// Returns the index of the column of this name, with dots between the names of nested ones.
fn leaf_idx(reader: &SerializedFileReader<Bounded>, name: &str) -> Option<usize> {
    let schema = reader.metadata().file_metadata().schema_descr();
    schema.columns().iter().position(|column| column.path().string() == name)
}

/// Returns whether a column is nested in another one.
fn is_below(name: &str, parent: &str) -> bool {
    name.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'))
}

/// Refuses a file whose columns are packed in a way that this crate was built without.
fn check_codecs(
    reader: &SerializedFileReader<Bounded>,
    leaves: &[Option<usize>],
    place: &Place,
) -> Result<(), SourceError> {
    for group in reader.metadata().row_groups() {
        for column in leaves.iter().flatten().filter_map(|&leaf| group.columns().get(leaf)) {
            if let got @ (Compression::LZO | Compression::BROTLI(_)) = column.compression() {
                return Err(SourceError::Codec { place: place.clone(), got: got.to_string() });
            }
        }
    }
    Ok(())
}
