//! Reads lines of any length in bounded memory.

use super::{BytesRead, SourceError, decompress::Unpacked, walk::FileEntry};

/// Number of bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// The lines of a file.
pub(super) struct Lines {
    reader: Unpacked,
    chunk: Vec<u8>,
    start: usize, // of the next line in the chunk
    end: usize,   // of what the chunk holds
    line: Vec<u8>,
    max_len: usize,
}

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Text(&'a [u8]),
    /// The line is longer than is allowed; its length in bytes.
    TooLong(u64),
}

impl Lines {
    /// Opens a file.
    pub(super) fn open(file: &FileEntry, max_len: u64, bytes_read: &BytesRead) -> Result<Self, SourceError> {
        let reader = Unpacked::open(&file.path, &file.place(), bytes_read)?;
        let max_len = usize::try_from(max_len).unwrap_or(usize::MAX);
        Ok(Self { reader, chunk: vec![0; CHUNK_BYTES], start: 0, end: 0, line: Vec::new(), max_len })
    }

    /// Returns the next line, `None` at the end of the file.
    pub(super) fn next_line(&mut self) -> Result<Option<Line<'_>>, SourceError> {
        let Some((len, is_in_chunk)) = self.find_line()? else { return Ok(None) };
        if len > self.max_len as u64 {
            return Ok(Some(Line::TooLong(len)));
        }
        let end = self.start.saturating_sub(1); // the end of line, if the line is in the chunk
        let text = if is_in_chunk { &self.chunk[end - len as usize..end] } else { &self.line };
        Ok(Some(Line::Text(text)))
    }

    /// Reads the next line; returns its length, and whether it is whole in the chunk, which saves a copy.
    fn find_line(&mut self) -> Result<Option<(u64, bool)>, SourceError> {
        self.line.clear();
        let mut len = 0; // of the line so far
        loop {
            if self.start == self.end {
                (self.start, self.end) = (0, self.reader.read(&mut self.chunk)?);
                if self.end == 0 {
                    return Ok((len > 0).then_some((len, false)));
                }
            }
            let rest = &self.chunk[self.start..self.end];
            let end = memchr::memchr(b'\n', rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            let is_first = len == 0;
            len += part.len() as u64;
            self.start += part.len() + usize::from(end.is_some());
            if is_first && end.is_some() {
                return Ok(Some((len, true)));
            }
            if len <= self.max_len as u64 {
                self.line.extend_from_slice(part);
            } else {
                self.line = Vec::new(); // only the length is still of interest
            }
            if end.is_some() {
                return Ok(Some((len, false)));
            }
        }
    }
}
