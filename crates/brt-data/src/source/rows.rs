//! Files of rows: each row is a document.

use super::{
    Event, Place, SourceConfig, SourceError, Unit,
    columns::Row,
    event::{Next, Out, Steps},
    pieces::Pieces,
};
use crate::Split;

/// Number of bytes that are moved at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The rows of a file.
pub(super) trait Rows: Send {
    /// Returns the next row, `None` at the end of the file. After an error the next call goes on behind the row, or
    /// ends if the rest of the file cannot be read.
    fn next_row(&mut self) -> Result<Option<Row>, SourceError>;
}

/// The text of a row, of which pieces are cut one after another: all at once they would double the memory.
#[derive(Debug)]
pub(super) struct RowText {
    text: Vec<u8>,
    num_done: usize,
}

impl RowText {
    /// Returns the text before its first piece.
    pub(super) fn new(text: Vec<u8>) -> Self {
        Self { text, num_done: 0 }
    }

    /// Moves a chunk of the text to the pieces; `false` if there was none left.
    pub(super) fn step(&mut self, pieces: &mut Pieces, out: &mut Out) -> bool {
        let rest = &self.text[self.num_done..];
        let chunk = &rest[..rest.len().min(CHUNK_BYTES)];
        self.num_done += chunk.len();
        pieces.push_checked(chunk);
        out.push_piece(pieces.next_piece());
        !chunk.is_empty()
    }
}

/// Reads documents that are rows.
pub(super) struct RowSteps {
    rows: Box<dyn Rows>,
    name: String,
    split: Option<Split>,
    is_first: bool,
    current: Option<RowText>,
    pieces: Pieces,
}

impl RowSteps {
    /// Returns the reader of a unit's rows, `num_done` of which `rows` leaves out.
    pub(super) fn new(rows: Box<dyn Rows>, unit: &Unit, config: &SourceConfig, num_done: u64) -> Self {
        let (name, split) = (unit.name.clone(), unit.split);
        let pieces = Pieces::new(config.invalid_utf8);
        Self { rows, name, split, is_first: num_done == 0, current: None, pieces }
    }
}

impl Steps for RowSteps {
    fn step(&mut self, out: &mut Out) -> Result<Next, SourceError> {
        if let Some(text) = &mut self.current {
            if !text.step(&mut self.pieces, out) {
                self.current = None;
                self.pieces.end(out);
            }
            return Ok(Next::More);
        }
        let is_first = std::mem::take(&mut self.is_first);
        let Some(row) = self.rows.next_row()? else {
            if is_first {
                out.push(Event::Skip { reason: "empty".to_owned(), place: self.name.clone() });
            }
            return Ok(Next::Done);
        };
        let place = Place::name(&row.place);
        if row.text.is_empty() {
            out.push(Event::Skip { reason: "empty".to_owned(), place });
            return Ok(Next::More);
        }
        let name = row.name.unwrap_or(place);
        out.push(Event::Begin { group: name.clone(), name, split: self.split });
        self.current = Some(RowText::new(row.text));
        Ok(Next::More)
    }
}
