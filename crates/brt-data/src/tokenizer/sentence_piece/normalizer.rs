//! What SentencePiece does to a text before it looks for pieces: replaces characters, trims and marks white space.

use super::{Trie, char_len, proto::NormalizerSpec};
use crate::tokenizer::{TextPlace, TokenizerError, check_len, error::Fault};

/// What marks a space.
const MARK: &[u8] = "\u{2581}".as_bytes();

/// Longest replacement of a character; the longest one of NFKC has 33 bytes.
const MAX_REPLACEMENT_LEN: usize = 1024;

/// Changes texts as the model's training texts were changed.
#[derive(Debug)]
pub(super) struct Normalizer {
    charsmap: Option<Charsmap>,
    /// Strings that are never changed.
    user_defined: Option<Trie>,
    /// What stands for a space in a normalised text.
    space: &'static [u8],
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    treat_whitespace_as_suffix: bool,
}

/// A text after its normalisation.
#[derive(Debug, Default)]
pub(super) struct Normalized {
    /// The text.
    pub(super) bytes: Vec<u8>,
    /// For each byte, where the character that it comes from starts in the source; and where the source ends.
    pub(super) sources: Vec<u32>,
}

impl Normalized {
    /// Appends a replacement of the character at `source`.
    fn push(&mut self, bytes: &[u8], source: usize) {
        self.bytes.extend_from_slice(bytes);
        self.sources.resize(self.bytes.len(), source as u32);
    }
}

impl Normalizer {
    /// Returns the normaliser of a model.
    pub(super) fn new(
        spec: NormalizerSpec,
        treat_whitespace_as_suffix: bool,
        user_defined: Option<Trie>,
    ) -> Result<Self, Fault> {
        let charsmap = spec.precompiled_charsmap.filter(|charsmap| !charsmap.is_empty());
        Ok(Self {
            charsmap: charsmap.map(|charsmap| Charsmap::new(&charsmap)).transpose()?,
            user_defined,
            space: if spec.escape_whitespaces.unwrap_or(true) { MARK } else { b" " },
            add_dummy_prefix: spec.add_dummy_prefix.unwrap_or(true),
            remove_extra_whitespaces: spec.remove_extra_whitespaces.unwrap_or(true),
            treat_whitespace_as_suffix,
        })
    }

    /// Returns whether a decoded text loses the space at its start.
    pub(super) fn adds_space_at_start(&self) -> bool {
        self.add_dummy_prefix || self.remove_extra_whitespaces
    }

    /// Returns whether a decoded text loses all spaces at its start, not only the first one.
    pub(super) fn remove_extra_whitespaces(&self) -> bool {
        self.remove_extra_whitespaces
    }

    /// Returns the normalised text.
    pub(super) fn normalize(&self, text: &[u8], place: TextPlace) -> Result<Normalized, TokenizerError> {
        let mut normalized = Normalized::default();
        let mut at = if self.remove_extra_whitespaces { self.len_of_spaces(text) } else { 0 };
        if at == text.len() {
            return Ok(normalized);
        }
        normalized.bytes.reserve(text.len() + text.len() / 2);
        normalized.sources.reserve(text.len() + text.len() / 2);
        // Where a text was cut before a space, that space comes from the text itself.
        let is_after_space = place == TextPlace::Continuation && at > 0;
        let adds_prefix = place == TextPlace::Start && self.add_dummy_prefix;
        if !self.treat_whitespace_as_suffix && (adds_prefix || is_after_space) {
            normalized.push(self.space, at);
        }
        let mut after_space = self.remove_extra_whitespaces;
        while at < text.len() {
            let (mut replacement, len) = self.replace(&text[at..]);
            while after_space && replacement.first() == Some(&b' ') {
                replacement = &replacement[1..];
            }
            if let Some(last) = replacement.last() {
                after_space = self.remove_extra_whitespaces && *last == b' ';
                self.push(&mut normalized, replacement, at);
            }
            at += len;
            check_len(normalized.bytes.len())?;
        }
        self.finish(&mut normalized, text.len());
        Ok(normalized)
    }

    /// Appends a replacement with its spaces marked.
    fn push(&self, normalized: &mut Normalized, replacement: &[u8], source: usize) {
        for part in replacement.split_inclusive(|&byte| byte == b' ') {
            let word = part.strip_suffix(b" ");
            normalized.push(word.unwrap_or(part), source);
            if word.is_some() {
                normalized.push(self.space, source);
            }
        }
    }

    /// Trims the end of a normalised text and closes it.
    fn finish(&self, normalized: &mut Normalized, text_len: usize) {
        let mut end = text_len as u32;
        while self.remove_extra_whitespaces && normalized.bytes.ends_with(self.space) {
            let len = normalized.bytes.len() - self.space.len();
            end = normalized.sources[len];
            normalized.bytes.truncate(len);
            normalized.sources.truncate(len);
        }
        if self.treat_whitespace_as_suffix && self.add_dummy_prefix {
            normalized.push(self.space, end as usize);
        }
        normalized.sources.push(end);
    }

    /// Returns the length of the spaces that a text begins with.
    fn len_of_spaces(&self, text: &[u8]) -> usize {
        let mut at = 0;
        while at < text.len() {
            match self.replace(&text[at..]) {
                (b" ", len) => at += len,
                _ => break,
            }
        }
        at
    }

    /// Returns what replaces the first characters of a text, and how many bytes it replaces.
    fn replace<'a>(&'a self, text: &'a [u8]) -> (&'a [u8], usize) {
        let user_defined = self.user_defined.as_ref().and_then(|trie| trie.prefixes(text).last());
        if let Some((len, _)) = user_defined {
            return (&text[..len], len);
        }
        let rule = self.charsmap.as_ref().and_then(|charsmap| charsmap.longest_rule(text));
        rule.unwrap_or_else(|| {
            let len = char_len(text);
            (&text[..len], len)
        })
    }
}

/// Replacements of characters, compiled by SentencePiece: a double-array trie of the strings to replace, and their
/// replacements, each closed by a zero byte.
///
/// # Source
/// The units of the trie are those of darts-clone: bit 31 a value, else bits 0 to 7 the byte that leads here, bit 8
/// whether a value follows, bit 9 whether the offset in bits 10 to 30 counts in 256s.
#[derive(Debug)]
struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    /// Reads the bytes of a model file.
    fn new(bytes: &[u8]) -> Result<Self, Fault> {
        let damaged = || Fault::damaged("a SentencePiece model", "damaged replacements of characters");
        let (len, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let (units, replacements) =
            rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(damaged)?;
        let (units, []) = units.as_chunks() else { return Err(damaged()) };
        if replacements.split(|&byte| byte == 0).any(|r| r.len() > MAX_REPLACEMENT_LEN) {
            return Err(damaged());
        }
        let units = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Self { units, replacements: replacements.to_vec() })
    }

    /// Returns the replacement of the longest rule that a text begins with, and the rule's length.
    fn longest_rule(&self, text: &[u8]) -> Option<(&[u8], usize)> {
        let mut longest = None;
        let mut node = follow(0, *self.units.first()?);
        for (byte, len) in text.iter().zip(1..=MAX_REPLACEMENT_LEN) {
            let place = node ^ u32::from(*byte);
            let unit = *self.units.get(place as usize)?;
            if unit & 0x8000_00FF != u32::from(*byte) {
                break;
            }
            node = follow(place, unit);
            if unit & 0x100 != 0 {
                longest = Some((self.units.get(node as usize)? & 0x7FFF_FFFF, len));
            }
        }
        let (start, len) = longest?;
        let replacement = self.replacements.get(start as usize..)?;
        let end = replacement.iter().position(|&byte| byte == 0).unwrap_or(replacement.len());
        Some((&replacement[..end], len))
    }
}

/// Returns where the children of a node begin.
fn follow(place: u32, unit: u32) -> u32 {
    place ^ ((unit >> 10) << ((unit & 0x200) >> 6))
}
