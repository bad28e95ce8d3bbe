//! Cuts documents into pieces at places where no tokenizer joins what is on both sides.

use super::{Event, InvalidUtf8, event::Out, utf8::Utf8Check, utf8::WrongByte};

/// Longest piece in bytes.
pub(super) const MAX_PIECE_BYTES: usize = 1 << 20;

/// Longest character in bytes.
const MAX_CHAR_BYTES: usize = 4;

/// The text of one document that is not yet cut.
///
/// A piece ends before a character that is no white space: behind the last end of a line if there is one, else behind
/// other white space, else between any two characters.
#[derive(Debug)]
pub(super) struct Pieces {
    max_len: usize,
    buffer: Vec<u8>,
    check: Utf8Check,
    mode: InvalidUtf8,
    ends_in_word: bool, // the piece before ended with a character that is no white space
}

impl Pieces {
    /// Returns an empty document.
    pub(super) fn new(mode: InvalidUtf8) -> Self {
        Self::with_max_len(mode, MAX_PIECE_BYTES)
    }

    /// Returns an empty document that is cut into pieces of this length, at least 4.
    pub(super) fn with_max_len(mode: InvalidUtf8, max_len: usize) -> Self {
        Self { max_len, buffer: Vec::new(), check: Utf8Check::new(mode), mode, ends_in_word: false }
    }

    /// Adds text that may end inside a character.
    pub(super) fn push(&mut self, text: &[u8]) -> Result<(), WrongByte> {
        self.check.push(text, &mut self.buffer)
    }

    /// Ends a text that was pushed; another one may follow.
    pub(super) fn finish_text(&mut self) -> Result<(), WrongByte> {
        let result = self.check.finish(&mut self.buffer);
        self.check = Utf8Check::new(self.mode);
        result
    }

    /// Adds text that was checked; it may end inside a character.
    pub(super) fn push_checked(&mut self, text: &[u8]) {
        self.buffer.extend_from_slice(text);
    }

    /// Returns the next piece if there is enough text for one and for the character behind it.
    pub(super) fn next_piece(&mut self) -> Option<Event> {
        (self.buffer.len() >= self.max_len + MAX_CHAR_BYTES).then(|| self.cut_piece())
    }

    /// Returns the next piece of a document to which no text is added, until it has no more.
    pub(super) fn last_piece(&mut self) -> Option<Event> {
        if self.buffer.len() > self.max_len {
            return Some(self.cut_piece());
        }
        let piece = std::mem::take(&mut self.buffer);
        (!piece.is_empty()).then(|| self.event(piece))
    }

    /// Ends the document with its last pieces; another one may follow.
    pub(super) fn end(&mut self, out: &mut Out) {
        while let Some(piece) = self.last_piece() {
            out.push(piece);
        }
        out.push(Event::End);
        self.ends_in_word = false;
    }

    /// Returns the text up to the next cut.
    fn cut_piece(&mut self) -> Event {
        let rest = self.buffer.split_off(cut(&self.buffer, self.max_len));
        let piece = std::mem::replace(&mut self.buffer, rest);
        self.event(piece)
    }

    /// Returns the last byte of the text that waits to be cut. There is one unless the document is empty.
    pub(super) fn last_byte(&self) -> Option<u8> {
        self.buffer.last().copied()
    }

    /// Returns the event of a piece.
    fn event(&mut self, piece: Vec<u8>) -> Event {
        let in_word = self.ends_in_word && !is_space_at(&piece, 0);
        self.ends_in_word = !is_space_at(&piece, last_char_start(&piece, piece.len()));
        Event::Text { text: piece, in_word }
    }
}

/// Returns where a text that is longer than `max_len` is cut: at most `max_len`, at least 1.
fn cut(text: &[u8], max_len: usize) -> usize {
    let is_cut = |&at: &usize| !is_space_at(text, at);
    // The cut is behind the end of line, so that is searched one byte before the limit.
    let mut ends = memchr::memrchr_iter(b'\n', &text[..max_len]).map(|at| at + 1);
    ends.find(is_cut).or_else(|| cut_at_space(text, max_len)).unwrap_or_else(|| char_start(text, max_len))
}

/// Returns the last place that is behind white space and before other text.
fn cut_at_space(text: &[u8], max_len: usize) -> Option<usize> {
    let mut at = char_start(text, max_len);
    let mut is_space_after = is_space_at(text, at);
    while at > 0 {
        let before = last_char_start(text, at);
        let is_space_before = is_space_at(text, before);
        if is_space_before && !is_space_after {
            return Some(at);
        }
        (at, is_space_after) = (before, is_space_before);
    }
    None
}

/// Returns the last start of a character at or before `at`; `at` itself where the bytes around it are no character.
fn char_start(text: &[u8], at: usize) -> usize {
    let candidates = (at.saturating_sub(3).max(1)..=at).rev();
    candidates.into_iter().find(|&start| start < at && char_len(text, start) > at - start).unwrap_or(at)
}

/// Returns the start of the character that ends at `end`; a byte that is no character stands alone.
fn last_char_start(text: &[u8], end: usize) -> usize {
    let candidates = end.saturating_sub(4)..end;
    candidates
        .into_iter()
        .find(|&start| char_len(text, start) == end - start)
        .unwrap_or(end.saturating_sub(1))
}

/// Returns the length of the character at `at`, 1 where there is none.
fn char_len(text: &[u8], at: usize) -> usize {
    char_at(text, at).map_or(1, char::len_utf8)
}

/// Returns whether there is a white-space character at `at`.
fn is_space_at(text: &[u8], at: usize) -> bool {
    char_at(text, at).is_some_and(char::is_whitespace)
}

/// Returns the character at `at`, if the bytes there are one.
fn char_at(text: &[u8], at: usize) -> Option<char> {
    let &first = text.get(at)?;
    if first.is_ascii() {
        return Some(char::from(first));
    }
    let len = match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    std::str::from_utf8(text.get(at..at + len)?).ok()?.chars().next()
}
