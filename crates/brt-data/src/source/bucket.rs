//! A bucket of rows that were brought together: every row of a group is in the same one.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    ops::Range,
};

use super::{
    BytesRead, Event, Place, SourceConfig, SourceError,
    columns::Row,
    event::{Next, Out, Steps},
    pieces::Pieces,
    rows::RowText,
    tree::{push_header, push_line_end},
    walk::FileEntry,
};
use crate::Split;

/// Number of bytes of a record before its strings: the lengths of group, path and text, and the split.
const HEAD_BYTES: usize = 4 + 4 + 8 + 1;

/// Length that says that there is no path.
const NO_PATH: u32 = u32::MAX;

/// Adds the record of a row to a bucket. Its text is the last field, so that the others can be read without it.
pub(super) fn write(row: &Row, split: Option<Split>, bucket: &mut Vec<u8>) {
    let group = row.group.as_deref().unwrap_or_default();
    let path = row.path.as_deref();
    // A string of 4 GiB is above every limit that a row has passed; if not, the record is refused when it is read.
    let len = |text: &str| u32::try_from(text.len()).unwrap_or(NO_PATH - 1);
    let split = split.and_then(|split| Split::ALL.iter().position(|other| *other == split));
    bucket.extend(len(group).to_le_bytes());
    bucket.extend(path.map_or(NO_PATH, len).to_le_bytes());
    bucket.extend((row.text.len() as u64).to_le_bytes());
    bucket.push(split.map_or(0, |idx| idx as u8 + 1));
    bucket.extend(group.as_bytes());
    bucket.extend(path.unwrap_or_default().as_bytes());
    bucket.extend(&row.text);
}

/// Where a row is in its bucket. The order is that of the rows of a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    group: String,
    path: Option<String>,
    start: u64,
    len: u64,
    split: Option<Split>,
}

/// Reads the documents of a bucket.
pub(super) struct BucketSteps {
    file: FileEntry,
    config: SourceConfig,
    num_skipped: u64, // groups that are left out before the first
    bytes_read: BytesRead,
    opened: Option<(File, Vec<Entry>)>,
    in_document: bool,
    group: Range<usize>, // entries of the document that are not read
    current: Option<RowText>,
    next: usize, // entry of the next document
    pieces: Pieces,
    is_over: bool,
}

impl BucketSteps {
    /// Returns the reader of a bucket from behind its first `num_skipped` groups.
    pub(super) fn new(
        file: FileEntry,
        config: &SourceConfig,
        num_skipped: u64,
        bytes_read: BytesRead,
    ) -> Self {
        Self {
            file,
            config: config.clone(),
            num_skipped,
            bytes_read,
            opened: None,
            in_document: false,
            group: 0..0,
            current: None,
            next: 0,
            pieces: Pieces::new(config.invalid_utf8),
            is_over: false,
        }
    }

    /// Returns the error of a bucket that is not as it was written.
    fn damaged(&self, error: io::Error) -> SourceError {
        SourceError::Damaged { place: self.file.place(), format: "bucket", detail: error.to_string() }
    }

    /// Reads where the rows are, and sorts them.
    fn open(&self) -> Result<(File, Vec<Entry>), SourceError> {
        let file = File::open(&self.file.path).map_err(SourceError::io(&self.file.place(), "open"))?;
        let mut entries = read_entries(&file).map_err(|error| self.damaged(error))?;
        entries.sort();
        Ok((file, entries))
    }

    /// Reads on in the document that has begun.
    fn read_group(&mut self, file: &File, entries: &[Entry], out: &mut Out) -> Result<(), SourceError> {
        if let Some(text) = &mut self.current {
            if !text.step(&mut self.pieces, out) {
                self.current = None;
                push_line_end(&mut self.pieces);
            }
            return Ok(());
        }
        let Some(entry) = self.group.next().map(|idx| &entries[idx]) else {
            self.pieces.end(out);
            self.in_document = false;
            return Ok(());
        };
        let text = read_text(file, entry).map_err(|error| self.damaged(error))?;
        self.bytes_read.add(entry.len);
        if let Some(path) = &entry.path {
            push_header(&mut self.pieces, path);
        }
        self.current = Some(RowText::new(text));
        Ok(())
    }

    /// Begins the next document.
    fn next_group(&mut self, entries: &[Entry], out: &mut Out) -> Result<(), SourceError> {
        let Some(first) = entries.get(self.next) else {
            self.is_over = true;
            return Ok(());
        };
        let group = &entries[self.next..];
        let group = &group[..group.iter().take_while(|entry| entry.group == first.group).count()];
        let start = self.next;
        self.next += group.len();
        if self.num_skipped > 0 {
            self.num_skipped -= 1;
            return Ok(());
        }
        let (limit, len) = (self.config.max_record_bytes, group.iter().map(|entry| entry.len).sum::<u64>());
        if len > limit {
            let place = Place::group(&self.config.path, &first.group);
            return Err(SourceError::TooLong { place, what: "group", limit, got: len.to_string() });
        }
        let splits: BTreeSet<&str> = group.iter().map(|row| row.split.map_or("none", Split::name)).collect();
        if splits.len() > 1 {
            let place = Place::group(&self.config.path, &first.group);
            let got = splits.into_iter().collect::<Vec<_>>().join(" and ");
            return Err(SourceError::MixedSplits { place, got });
        }
        let split = first.split;
        self.group = start..self.next;
        self.in_document = true;
        self.pieces = Pieces::new(self.config.invalid_utf8);
        out.push(Event::Begin { name: first.group.clone(), group: first.group.clone(), split });
        Ok(())
    }
}

impl Steps for BucketSteps {
    fn step(&mut self, out: &mut Out) -> Result<Next, SourceError> {
        if self.is_over {
            return Ok(Next::Done);
        }
        self.is_over = true; // stays so if the bucket cannot be read
        let (file, entries) = match self.opened.take() {
            Some(opened) => opened,
            None => self.open()?,
        };
        self.is_over = false;
        let result = if self.in_document {
            self.read_group(&file, &entries, out)
        } else {
            self.next_group(&entries, out)
        };
        self.is_over |= matches!(result, Err(SourceError::Damaged { .. }));
        self.opened = Some((file, entries));
        result.map(|()| Next::More)
    }
}

/// Reads where each row is; the texts are passed over.
fn read_entries(file: &File) -> io::Result<Vec<Entry>> {
    let len = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let (mut at, mut entries) = (0, Vec::new());
    while at < len {
        let entry = read_entry(&mut reader, at, len)?;
        at = entry.start + entry.len;
        let text_len = i64::try_from(entry.len).map_err(|_| wrong("a text is too long"))?;
        reader.seek_relative(text_len)?;
        entries.push(entry);
    }
    Ok(entries)
}

/// Reads the record at `at` up to its text, in a file of `len` bytes.
fn read_entry(reader: &mut impl Read, at: u64, len: u64) -> io::Result<Entry> {
    let mut head = [0; HEAD_BYTES];
    reader.read_exact(&mut head)?;
    let number =
        |range: Range<usize>| head[range].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
    let (group_len, path_len, text_len) = (number(0..4), number(4..8), number(8..16));
    let (has_path, split) = (path_len != u64::from(NO_PATH), usize::from(head[16]));
    let path_len = if has_path { path_len } else { 0 };
    let start = at + HEAD_BYTES as u64 + group_len + path_len;
    if start.checked_add(text_len).is_none_or(|end| end > len) {
        return Err(wrong("a record is longer than the file"));
    }
    let mut string = |len: u64| {
        let mut text = vec![0; len as usize]; // at most the file's length
        reader.read_exact(&mut text)?;
        String::from_utf8(text).map_err(|_| wrong("a name is not UTF-8"))
    };
    let (group, path) = (string(group_len)?, string(path_len)?);
    let split = match split.checked_sub(1) {
        None => None,
        Some(idx) => Some(*Split::ALL.get(idx).ok_or_else(|| wrong("a split does not exist"))?),
    };
    Ok(Entry { group, path: has_path.then_some(path), start, len: text_len, split })
}

/// Reads the text of a row.
fn read_text(mut file: &File, entry: &Entry) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(entry.start))?;
    let mut text = vec![0; entry.len as usize]; // at most the file's length
    file.read_exact(&mut text)?;
    Ok(text)
}

/// Returns the error of a record that was not written like this.
fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
