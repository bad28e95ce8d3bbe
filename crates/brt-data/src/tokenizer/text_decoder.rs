//! Text from tokens as they come.

use std::{mem, str};

use super::{Tokenizer, decode::Before, stop::StopString};

/// Turns tokens into text as they come: whole characters only, cut before the first stop string.
///
/// All pieces together are the text of all tokens, with U+FFFD for bytes that are no character, as
/// [`String::from_utf8_lossy`] has them. A piece costs the same wherever it stands in the text.
///
/// ```
/// use brt_data::{TextDecoder, Tokenizer};
/// let mut decoder = TextDecoder::new(&Tokenizer::bytes(), &[], vec!["END".to_owned()]);
/// let pieces: Vec<String> = "é E, END.".bytes().map(|byte| decoder.push(byte.into())).collect();
/// assert_eq!(pieces, ["", "é", " ", "", "E,", " ", "", "", "", ""]);
/// assert!(decoder.is_stopped());
/// ```
#[derive(Debug, Clone)]
pub struct TextDecoder {
    tokenizer: Tokenizer,
    before: Before,
    stops: Vec<StopString>,
    /// Bytes that may be the beginning of a character.
    bytes: Vec<u8>,
    /// Text that may be the beginning of a stop string.
    held: String,
    is_stopped: bool,
}

impl TextDecoder {
    /// Returns the decoder of the tokens that come after those `before`: at least the last 8, or all there are.
    ///
    /// The text ends before the stop string that is whole first; of several that end at the same place, before the
    /// longest. Empty stop strings are ignored. None is looked for in the text of `before`.
    pub fn new(tokenizer: &Tokenizer, before: &[u32], stop: Vec<String>) -> Self {
        Self {
            before: tokenizer.after(before),
            tokenizer: tokenizer.clone(),
            stops: stop.into_iter().filter(|text| !text.is_empty()).map(StopString::new).collect(),
            bytes: Vec::new(),
            held: String::new(),
            is_stopped: false,
        }
    }

    /// Takes a token; returns the text that is certain now. What may be the beginning of a character or of a stop
    /// string is held back.
    pub fn push(&mut self, token: u32) -> String {
        if self.is_stopped {
            return String::new();
        }
        self.tokenizer.push(&mut self.before, token, &mut self.bytes);
        let bytes = mem::take(&mut self.bytes);
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.push_text(chunk.valid());
            match chunk.invalid() {
                [] => {}
                rest if chunks.peek().is_none() && may_become_character(rest) => self.bytes = rest.to_vec(),
                _ => self.push_text("\u{FFFD}"),
            }
        }
        let max_matched = self.stops.iter().map(StopString::matched).max().unwrap_or(0);
        let held = if self.is_stopped { 0 } else { max_matched };
        let rest = self.held.split_off(self.held.len() - held);
        mem::replace(&mut self.held, rest)
    }

    /// Returns whether a stop string has come: nothing comes after it.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Returns what was held back. Bytes that are no character become U+FFFD.
    pub fn finish(mut self) -> String {
        if !self.bytes.is_empty() {
            self.push_text("\u{FFFD}");
        }
        self.held
    }

    /// Appends text up to a stop string.
    fn push_text(&mut self, text: &str) {
        if self.is_stopped {
            return;
        }
        for (i, byte) in text.bytes().enumerate() {
            self.stops.iter_mut().for_each(|stop| stop.push(byte));
            let found = self.stops.iter().filter(|stop| stop.is_found()).map(StopString::matched).max();
            if let Some(len) = found {
                self.held.push_str(&text[..=i]);
                self.held.truncate(self.held.len() - len);
                self.is_stopped = true;
                return;
            }
        }
        self.held.push_str(text);
    }
}

/// Returns whether further bytes can make a character of bytes that are none.
fn may_become_character(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
