//! Texts of Hugging Face's tokens by the decoder of the file, but with exact bytes: the crate's own decoders of bytes
//! replace what is no character, so that a character of several tokens would be lost wherever it is cut.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokenizers::{Decoder, DecoderWrapper, Tokenizer};

use super::{byte_level::char_of, error::Fault};

/// Stands before a token that is not at the start of a text.
const ANCHOR: &str = "x";

/// Number of tokens that stand for nothing after which a text counts as begun.
const MAX_START_LEN: usize = 8;

/// The characters that stand for the bytes from 0x80 on while a text is decoded, less that number.
const FIRST_PRIVATE: u32 = 0x10_FE00;

/// Decodes tokens with a decoder that knows nothing of bytes, from strings where characters stand for them.
pub(super) struct Spelling {
    decoder: Option<DecoderWrapper>,
    /// The bytes of a byte-level vocabulary's characters, if the file's decoder has them.
    alphabet: Option<HashMap<char, u8>>,
    /// Whether tokens such as `<0xE2>` are bytes.
    has_byte_tokens: bool,
}

/// What stands before a token, as far as the token's text depends on it.
#[derive(Debug, Clone)]
pub(super) struct Before {
    tokens: Vec<String>,
}

impl Before {
    /// Returns what stands before the first token of a text.
    pub(super) fn start() -> Self {
        Self { tokens: Vec::new() }
    }

    /// Returns what stands before a token within a text.
    pub(super) fn within() -> Self {
        Self { tokens: vec![ANCHOR.to_owned()] }
    }
}

impl Spelling {
    /// Reads the decoder of a `tokenizer.json`.
    pub(super) fn new(file: &Value) -> Result<Self, Fault> {
        let mut decoder = file["decoder"].clone();
        let alphabet = replace(&mut decoder, "ByteLevel", &json!({"type": "Fuse"}));
        let alphabet = alphabet.then(|| (0..=u8::MAX).map(|byte| (char_of(byte), byte)).collect());
        let nothing = json!({"type": "Sequence", "decoders": []});
        let has_byte_tokens = replace(&mut decoder, "ByteFallback", &nothing);
        let decoder = serde_json::from_value(decoder).map_err(|e| Fault::damaged("a decoder", e))?;
        Ok(Self { decoder, alphabet, has_byte_tokens })
    }

    /// Returns the text of the tokens at the start of a text.
    pub(super) fn decode(&self, tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<u8> {
        self.join(tokens.iter().filter_map(|&token| self.spell(tokenizer, token)).collect())
    }

    /// Appends the text of a token to `text`.
    pub(super) fn push(&self, tokenizer: &Tokenizer, before: &mut Before, token: u32, text: &mut Vec<u8>) {
        let Some(token) = self.spell(tokenizer, token) else { return };
        let known = self.join(before.tokens.clone()).len();
        before.tokens.push(token);
        let whole = self.join(before.tokens.clone());
        text.extend_from_slice(whole.get(known..).unwrap_or_default());
        // From now on only the last token counts.
        if !whole.is_empty() || before.tokens.len() >= MAX_START_LEN {
            before.tokens.drain(..before.tokens.len() - 1);
            before.tokens.insert(0, ANCHOR.to_owned());
        }
    }

    /// Returns a token with characters for its bytes, or `None` if it stands for nothing.
    fn spell(&self, tokenizer: &Tokenizer, token: u32) -> Option<String> {
        let token = tokenizer.id_to_token(token)?;
        if tokenizer.get_added_vocabulary().is_special_token(&token) {
            return None;
        }
        if let Some(byte) = byte_of(&token).filter(|_| self.has_byte_tokens) {
            return Some(private(byte).to_string());
        }
        let byte_of = |c: char| Some(private(*self.alphabet.as_ref()?.get(&c)?));
        // An added token need not be spelled in the alphabet; it is then its own text.
        token.chars().map(byte_of).collect::<Option<String>>().or_else(|| Some(escaped(&token)))
    }

    /// Returns the bytes of spelled tokens.
    fn join(&self, tokens: Vec<String>) -> Vec<u8> {
        if tokens.is_empty() {
            return Vec::new(); // Some decoders panic.
        }
        let text = match &self.decoder {
            Some(decoder) => decoder.decode(tokens).unwrap_or_default(),
            None => tokens.join(" "),
        };
        let mut bytes = Vec::with_capacity(text.len());
        for c in text.chars() {
            match u32::from(c).checked_sub(FIRST_PRIVATE) {
                Some(byte @ 0x80..=0xFF) => bytes.push(byte as u8),
                _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes
    }
}

/// Replaces each decoder of a type; returns whether there was one.
fn replace(decoder: &mut Value, name: &str, by: &Value) -> bool {
    if decoder["type"] == name {
        *decoder = by.clone();
        return true;
    }
    let list = decoder.get_mut("decoders").and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(|one| replace(one, name, by).then_some(())).count() > 0
}

/// Returns the byte of a token such as `<0xE2>`.
fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}

/// Returns the character that stands for a byte: ASCII for itself.
fn private(byte: u8) -> char {
    match byte {
        0..0x80 => char::from(byte),
        _ => char::from_u32(FIRST_PRIVATE + u32::from(byte)).unwrap_or_default(),
    }
}

/// Returns a text in which no character stands for a byte that it is not.
fn escaped(text: &str) -> String {
    let is_private = |c: char| (FIRST_PRIVATE + 0x80..=FIRST_PRIVATE + 0xFF).contains(&u32::from(c));
    if !text.contains(is_private) {
        return text.to_owned();
    }
    text.bytes().map(private).collect()
}
