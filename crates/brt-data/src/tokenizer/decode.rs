//! Tokens to bytes: all at once, or one after the other.

use super::{Codec, Tokenizer, sentence_piece, spelling};

/// Number of tokens after which the text of the next one does not depend on those before.
const CONTEXT_LEN: usize = 8;

/// What stands before a token, as far as the token's text depends on it.
#[derive(Debug, Clone)]
pub(super) enum Before {
    Bytes,
    HuggingFace(spelling::Before),
    SentencePiece(sentence_piece::Before),
}

impl Tokenizer {
    /// Returns the text of the tokens as that of a document's start; special tokens and tokens beyond the vocabulary
    /// stand for nothing.
    pub fn decode(&self, tokens: &[u32]) -> Vec<u8> {
        match &self.inner.codec {
            Codec::Bytes { num_special } => {
                tokens.iter().filter_map(|&token| byte_of(token, *num_special)).collect()
            }
            Codec::HuggingFace(codec) => codec.decode(tokens),
            Codec::SentencePiece(codec) => codec.decode(tokens),
        }
    }

    /// Returns the text that `tokens` add to what the tokens `before` them stand for: a space at the start of a text is
    /// not one within it. Of `before` the last 8 are enough, or all there are.
    pub fn decode_after(&self, before: &[u32], tokens: &[u32]) -> Vec<u8> {
        let (mut before, mut text) = (self.after(before), Vec::new());
        tokens.iter().for_each(|&token| self.push(&mut before, token, &mut text));
        text
    }

    /// Returns the text of one token within a text: part of a character, where a character has several tokens; nothing
    /// of a special token.
    ///
    /// ```
    /// use brt_data::Tokenizer;
    /// assert_eq!(Tokenizer::bytes().token_text(0xE2), [0xE2]);
    /// ```
    pub fn token_text(&self, token: u32) -> Vec<u8> {
        let mut before = match &self.inner.codec {
            Codec::Bytes { .. } => Before::Bytes,
            Codec::HuggingFace(_) => Before::HuggingFace(spelling::Before::within()),
            Codec::SentencePiece(_) => Before::SentencePiece(sentence_piece::Before::within()),
        };
        let mut text = Vec::new();
        self.push(&mut before, token, &mut text);
        text
    }

    /// Returns what stands before the token that comes after these.
    pub(super) fn after(&self, tokens: &[u32]) -> Before {
        let mut before = match &self.inner.codec {
            Codec::Bytes { .. } => Before::Bytes,
            Codec::HuggingFace(_) => Before::HuggingFace(spelling::Before::start()),
            Codec::SentencePiece(codec) => Before::SentencePiece(codec.start()),
        };
        let mut text = Vec::new();
        let mut rest = tokens;
        // Where a text begins is seen at its start, and all else at its end.
        while let Some((&token, others)) = rest.split_first().filter(|_| text.is_empty()) {
            self.push(&mut before, token, &mut text);
            rest = others;
        }
        for &token in &rest[rest.len().saturating_sub(CONTEXT_LEN)..] {
            self.push(&mut before, token, &mut text);
        }
        before
    }

    /// Appends the text of a token to `text`.
    pub(super) fn push(&self, before: &mut Before, token: u32, text: &mut Vec<u8>) {
        match (&self.inner.codec, before) {
            (Codec::Bytes { num_special }, _) => text.extend(byte_of(token, *num_special)),
            (Codec::HuggingFace(codec), Before::HuggingFace(before)) => codec.push(before, token, text),
            (Codec::SentencePiece(codec), Before::SentencePiece(before)) => codec.push(before, token, text),
            _ => unreachable!("before: expected that of this tokenizer"),
        }
    }
}

/// Returns the byte of a token after `num_special` special ones.
fn byte_of(token: u32, num_special: u32) -> Option<u8> {
    u8::try_from(token.checked_sub(num_special)?).ok()
}
