//! A folder that is a document: its files, joined in the order of their paths.

use super::{
    BytesRead, Event, InvalidUtf8, OnError, SourceConfig, SourceError, Unit,
    decompress::Unpacked,
    event::{Next, Out, Steps},
    pieces::Pieces,
    utf8::{Utf8Check, WrongByte},
    walk::FileEntry,
};
use crate::Split;

/// Number of bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Adds the line above the text of a file in a document of several.
pub(super) fn push_header(pieces: &mut Pieces, path: &str) {
    pieces.push_checked(format!("// {}\n", path.trim_start_matches('/')).as_bytes());
}

/// Ends the text of a file in a document of several, so that the next header has its own line.
pub(super) fn push_line_end(pieces: &mut Pieces) {
    if pieces.last_byte() != Some(b'\n') {
        pieces.push_checked(b"\n");
    }
}

/// Reads a folder that is a document.
pub(super) struct TreeSteps {
    name: String,
    split: Option<Split>,
    files: std::vec::IntoIter<FileEntry>,
    config: SourceConfig,
    bytes_read: BytesRead,
    current: Option<(FileEntry, Unpacked)>,
    pieces: Pieces,
    chunk: Vec<u8>,
    state: State,
}

/// How far a folder was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Empty,
    HasText,
    Over,
}

impl TreeSteps {
    /// Returns the reader of a folder.
    pub(super) fn new(
        unit: &Unit,
        files: Vec<FileEntry>,
        config: &SourceConfig,
        bytes_read: BytesRead,
    ) -> Self {
        Self {
            name: unit.name.clone(),
            split: unit.split,
            files: files.into_iter(),
            config: config.clone(),
            bytes_read,
            current: None,
            pieces: Pieces::new(config.invalid_utf8),
            chunk: vec![0; CHUNK_BYTES],
            state: State::New,
        }
    }

    /// Reads on from `state`, and returns the next one.
    fn read_on(&mut self, state: State, out: &mut Out) -> Result<State, SourceError> {
        if state == State::New {
            out.push(Event::Begin { name: self.name.clone(), group: self.name.clone(), split: self.split });
            return Ok(State::Empty);
        }
        if self.read_current()? {
            out.push_piece(self.pieces.next_piece());
            return Ok(State::HasText);
        }
        let Some(file) = self.files.next() else {
            self.end(state, out);
            return Ok(State::Over);
        };
        match (self.open(&file), self.config.on_error) {
            (Ok(Ok(reader)), _) => {
                let path = file.name.strip_prefix(&self.name).unwrap_or(&file.name);
                push_header(&mut self.pieces, path);
                self.current = Some((file, reader));
            }
            (Ok(Err(reason)), _) => {
                out.push(Event::Skip { reason: reason.to_owned(), place: file.name });
            }
            (Err(error), OnError::Skip) => {
                out.push(Event::Skip { reason: error.reason(), place: error.place() });
            }
            (Err(error), OnError::Stop) => return Err(error),
        }
        Ok(state)
    }

    /// Reads a chunk of the current file; `false` if there is none.
    fn read_current(&mut self) -> Result<bool, SourceError> {
        let Some((file, mut reader)) = self.current.take() else { return Ok(false) };
        let len = reader.read(&mut self.chunk)?;
        let wrong = |wrong| not_utf8(&file, wrong);
        if len > 0 {
            self.pieces.push(&self.chunk[..len]).map_err(wrong)?;
            self.current = Some((file, reader));
            return Ok(true);
        }
        self.pieces.finish_text().map_err(wrong)?;
        push_line_end(&mut self.pieces);
        Ok(true)
    }

    /// Opens a file, or returns why it is no part of the document.
    fn open(&mut self, file: &FileEntry) -> Result<Result<Unpacked, &'static str>, SourceError> {
        if file.num_bytes == 0 {
            return Ok(Err("empty"));
        }
        // The header must not be written before the whole file is known to be text.
        if self.config.invalid_utf8 == InvalidUtf8::Strict && !self.is_utf8(file)? {
            return Ok(Err("not UTF-8"));
        }
        // A file of a tree is not unpacked: it stands there as its authors wanted it.
        Unpacked::open_plain_at(&file.path, 0, &file.place(), &self.bytes_read).map(Ok)
    }

    /// Returns whether a file is UTF-8.
    fn is_utf8(&mut self, file: &FileEntry) -> Result<bool, SourceError> {
        let uncounted = BytesRead::default();
        let mut reader = Unpacked::open_plain_at(&file.path, 0, &file.place(), &uncounted)?;
        let (mut check, mut text) = (Utf8Check::new(InvalidUtf8::Strict), Vec::new());
        loop {
            let len = reader.read(&mut self.chunk)?;
            if len == 0 {
                return Ok(check.finish(&mut text).is_ok());
            }
            text.clear();
            if check.push(&self.chunk[..len], &mut text).is_err() {
                return Ok(false);
            }
        }
    }

    /// Ends the document, or leaves it out if none of its files has text.
    fn end(&mut self, state: State, out: &mut Out) {
        if state == State::Empty {
            out.push(Event::Abandon { reason: "empty".to_owned(), place: self.name.clone() });
            return;
        }
        self.pieces.end(out);
    }
}

impl Steps for TreeSteps {
    fn step(&mut self, out: &mut Out) -> Result<Next, SourceError> {
        // Stays so if reading fails: a document in which something is missing is none.
        let state = std::mem::replace(&mut self.state, State::Over);
        if state == State::Over {
            return Ok(Next::Done);
        }
        self.state = self.read_on(state, out)?;
        Ok(Next::More)
    }
}

/// Returns the error of a file that is not UTF-8.
fn not_utf8(file: &FileEntry, wrong: WrongByte) -> SourceError {
    SourceError::Utf8 { place: file.place(), got: wrong.to_string() }
}
