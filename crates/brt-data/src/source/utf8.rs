//! Checks UTF-8 in text that comes in chunks: a character that a border cuts is no error.

use super::InvalidUtf8;

/// U+FFFD.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The check of one text.
#[derive(Debug)]
pub(super) struct Utf8Check {
    mode: InvalidUtf8,
    begun: Vec<u8>, // of a character whose end the next chunk has
    num_done: u64,  // bytes that are characters, before `begun`
}

/// The first byte that is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrongByte {
    pub(super) offset: u64,
    /// `None` where the text ends inside a character.
    pub(super) byte: Option<u8>,
}

impl std::fmt::Display for WrongByte {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.byte {
            Some(byte) => write!(f, "the byte 0x{byte:02X} at offset {}", self.offset),
            None => write!(f, "an end inside the character at offset {}", self.offset),
        }
    }
}

impl Utf8Check {
    /// Returns the check of a text from its beginning.
    pub(super) fn new(mode: InvalidUtf8) -> Self {
        Self { mode, begun: Vec::new(), num_done: 0 }
    }

    /// Adds the text of the next chunk to `out`, whole characters only.
    pub(super) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), WrongByte> {
        if self.mode == InvalidUtf8::Bytes {
            out.extend_from_slice(chunk);
            return Ok(());
        }
        let mut chunk = chunk;
        // The character at the border is finished byte by byte: it has four at most.
        while !self.begun.is_empty() {
            let Some((&byte, rest)) = chunk.split_first() else { return Ok(()) };
            self.begun.push(byte);
            chunk = rest;
            let begun = std::mem::take(&mut self.begun);
            self.check(&begun, out)?;
        }
        self.check(chunk, out)
    }

    /// Ends the text.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), WrongByte> {
        let begun = std::mem::take(&mut self.begun);
        if begun.is_empty() {
            return Ok(());
        }
        self.wrong(None, out)
    }

    /// Adds the characters of a text that begins at a character.
    fn check(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), WrongByte> {
        let mut text = text;
        while let Err(error) = std::str::from_utf8(text) {
            let (valid, rest) = text.split_at(error.valid_up_to());
            out.extend_from_slice(valid);
            self.num_done += valid.len() as u64;
            let Some(wrong_len) = error.error_len() else {
                self.begun = rest.to_vec();
                return Ok(());
            };
            let (wrong, rest) = rest.split_at(wrong_len);
            self.wrong(wrong.first().copied(), out)?;
            text = rest;
        }
        out.extend_from_slice(text);
        self.num_done += text.len() as u64;
        Ok(())
    }

    /// Replaces bytes that are no character, or refuses them. Offsets are of interest up to the first refusal only.
    fn wrong(&mut self, byte: Option<u8>, out: &mut Vec<u8>) -> Result<(), WrongByte> {
        if self.mode != InvalidUtf8::Replace {
            return Err(WrongByte { offset: self.num_done, byte });
        }
        out.extend_from_slice(REPLACEMENT);
        Ok(())
    }
}
