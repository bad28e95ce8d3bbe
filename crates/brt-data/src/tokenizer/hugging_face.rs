//! Tokenizers of Hugging Face, by their own crate.

use serde_json::Value;
use tokenizers::Tokenizer;

use super::{Encoding, TextPlace, TokenizerError, byte_level::ByteLevel, error::Fault};

/// Tokens from here on are an error: a table with that many rows is a damaged file.
const MAX_VOCAB_SIZE: usize = 1 << 24;

/// A tokenizer from a `tokenizer.json`.
pub(super) struct HuggingFace {
    start: Tokenizer,
    /// The same without what it puts before a text; `None` where it puts nothing there.
    continuation: Option<Tokenizer>,
    vocab_size: usize,
    byte_level: Option<ByteLevel>,
}

impl HuggingFace {
    /// Reads a `tokenizer.json`.
    pub(super) fn new(json: &[u8]) -> Result<Self, Fault> {
        let mut value: Value =
            serde_json::from_slice(json).map_err(|e| Fault::damaged("a tokenizer.json", e))?;
        // They are about batches, and some values of `truncation` make the crate panic.
        for setting in ["truncation", "padding"] {
            value[setting] = Value::Null;
        }
        // With it a text would have other tokens each time.
        if let Some(dropout) = value["model"].get_mut("dropout") {
            *dropout = Value::Null;
        }
        let start = build(&value)?;
        let vocab_size = start.get_vocab(true).into_values().max().map_or(0, |token| token as usize + 1);
        if vocab_size == 0 || vocab_size > MAX_VOCAB_SIZE {
            let expected = "a vocabulary of 1 to 16777216 tokens";
            return Err(Fault::damaged(expected, format!("{vocab_size} tokens")));
        }
        let byte_level = ByteLevel::new(&value, &start, vocab_size);
        let mut edited = value;
        let changed =
            ["normalizer", "pre_tokenizer"].map(|part| remove_prefix(&mut edited[part])).contains(&true);
        let continuation = if changed { Some(build(&edited)?) } else { None };
        Ok(Self { start, continuation, vocab_size, byte_level })
    }

    /// Returns the number of rows that an embedding table needs.
    pub(super) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Returns the tokens of a text.
    pub(super) fn encode(&self, text: &str, place: TextPlace) -> Result<Encoding, TokenizerError> {
        let tokenizer = match place {
            TextPlace::Start => &self.start,
            TextPlace::Continuation => self.continuation.as_ref().unwrap_or(&self.start),
        };
        if let Some(encoding) =
            self.byte_level.as_ref().and_then(|byte_level| byte_level.encode(text, tokenizer))
        {
            return Ok(encoding);
        }
        let error = |source| TokenizerError::Encode { source };
        let encoding = tokenizer.encode(text, false).map_err(error)?;
        Ok(Encoding { tokens: encoding.get_ids().to_vec(), ends: ends(encoding.get_offsets(), text.len()) })
    }

    /// Returns the text of the tokens.
    pub(super) fn decode(&self, tokens: &[u32]) -> Vec<u8> {
        match &self.byte_level {
            Some(byte_level) => byte_level.decode(tokens),
            None => self.start.decode(tokens, true).unwrap_or_default().into_bytes(),
        }
    }
}

/// Returns the tokenizer that a `tokenizer.json` describes.
fn build(value: &Value) -> Result<Tokenizer, Fault> {
    let json = value.to_string();
    let mut tokenizer =
        Tokenizer::from_bytes(json).map_err(|e| Fault::damaged("a tokenizer.json of Hugging Face", e))?;
    tokenizer.set_encode_special_tokens(true);
    Ok(tokenizer)
}

/// Takes out of a normaliser or pre-tokenizer what it puts before a text; returns whether there was anything.
fn remove_prefix(part: &mut Value) -> bool {
    if part["type"] == "Prepend" {
        *part = Value::Null;
        return true;
    }
    let mut changed = false;
    for (setting, without) in [("add_prefix_space", Value::from(false)), ("prepend_scheme", "never".into())] {
        if let Some(value) = part.get_mut(setting).filter(|value| **value != without) {
            *value = without;
            changed = true;
        }
    }
    for list in ["normalizers", "pretokenizers"] {
        if let Some(parts) = part.get_mut(list).and_then(Value::as_array_mut) {
            for part in parts.iter_mut() {
                changed |= remove_prefix(part);
            }
            parts.retain(|part| !part.is_null());
        }
    }
    changed
}

/// Returns the ends of tokens from the crate's spans: each token reaches to the start of the next one.
fn ends(spans: &[(usize, usize)], text_len: usize) -> Vec<u32> {
    let starts = spans.iter().skip(1).map(|span| span.0);
    let mut last = 0;
    let rising = starts.map(|start| {
        last = start.clamp(last, text_len);
        last as u32
    });
    rising.chain((!spans.is_empty()).then_some(text_len as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reaches_to_the_next_and_the_last_to_the_end() {
        assert_eq!(ends(&[(1, 2), (4, 5), (4, 6), (3, 4)], 9), [4, 4, 4, 9]);
        assert!(ends(&[], 9).is_empty());
    }
}
