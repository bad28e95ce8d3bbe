//! A file that is a document, read in pieces.

use super::{
    BytesRead, Event, Place, SourceConfig, SourceError,
    decompress::Unpacked,
    event::{Next, Out, Steps},
    pieces::Pieces,
    utf8::WrongByte,
    walk::FileEntry,
};
use crate::Split;

/// Number of bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// The text of a document that is a file or a part of one.
pub(super) struct DocumentText {
    reader: Unpacked,
    place: Place,
    start: u64, // in the file
    num_left: u64,
    begin: Option<Event>, // until there is text
    pieces: Pieces,
    chunk: Vec<u8>,
}

impl DocumentText {
    /// Returns the text of at most `max_len` bytes that `reader` gives next, from the offset `start` of the file.
    pub(super) fn new(reader: Unpacked, place: Place, begin: Event, config: &SourceConfig) -> Self {
        Self {
            reader,
            place,
            start: 0,
            num_left: u64::MAX,
            begin: Some(begin),
            pieces: Pieces::new(config.invalid_utf8),
            chunk: vec![0; CHUNK_BYTES],
        }
    }

    /// Restricts the text to a part of the file, at whose start the reader is.
    pub(super) fn part(self, start: u64, len: u64) -> Self {
        Self { start, num_left: len, ..self }
    }

    /// Reads the next chunk.
    pub(super) fn step(&mut self, out: &mut Out) -> Result<Next, SourceError> {
        let max_len = usize::try_from(self.num_left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        // A reader may refuse to read nothing.
        let len = if max_len == 0 { 0 } else { self.reader.read(&mut self.chunk[..max_len])? };
        self.num_left -= len as u64;
        if len == 0 {
            self.pieces.finish_text().map_err(|wrong| self.wrong(wrong))?;
            return Ok(self.end(out));
        }
        if let Some(begin) = self.begin.take() {
            out.push(begin);
        }
        let result = self.pieces.push(&self.chunk[..len]);
        result.map_err(|wrong| self.wrong(wrong))?;
        out.push_piece(self.pieces.next_piece());
        Ok(Next::More)
    }

    /// Ends the document, or leaves it out if it has no text.
    fn end(&mut self, out: &mut Out) -> Next {
        if self.begin.is_some() {
            out.push(Event::Skip { reason: "empty".to_owned(), place: self.place.name() });
            return Next::Done;
        }
        self.pieces.end(out);
        Next::Done
    }

    /// Returns the error of bytes that are not UTF-8.
    fn wrong(&self, wrong: WrongByte) -> SourceError {
        let wrong = WrongByte { offset: self.start + wrong.offset, ..wrong };
        SourceError::Utf8 { place: self.place.clone(), got: wrong.to_string() }
    }
}

/// Reads a file that is a document.
pub(super) struct FileSteps {
    file: FileEntry,
    group: String,
    split: Option<Split>,
    config: SourceConfig,
    bytes_read: BytesRead,
    state: State,
}

/// How far a file was read.
enum State {
    Closed,
    Open(Box<DocumentText>),
    Over,
}

impl FileSteps {
    /// Returns the reader of a file.
    pub(super) fn new(
        file: FileEntry,
        group: String,
        split: Option<Split>,
        config: &SourceConfig,
        bytes_read: BytesRead,
    ) -> Self {
        Self { file, group, split, config: config.clone(), bytes_read, state: State::Closed }
    }

    /// Opens the file.
    fn open(&self) -> Result<DocumentText, SourceError> {
        let place = self.file.place();
        let reader = Unpacked::open(&self.file.path, &place, &self.bytes_read)?;
        let (name, group) = (self.file.name.clone(), self.group.clone());
        let begin = Event::Begin { name, group, split: self.split };
        Ok(DocumentText::new(reader, place, begin, &self.config))
    }
}

impl Steps for FileSteps {
    fn step(&mut self, out: &mut Out) -> Result<Next, SourceError> {
        let mut text = match std::mem::replace(&mut self.state, State::Over) {
            State::Closed => Box::new(self.open()?),
            State::Open(text) => text,
            State::Over => return Ok(Next::Done),
        };
        let next = text.step(out)?;
        if next == Next::More {
            self.state = State::Open(text);
        }
        Ok(next)
    }
}
