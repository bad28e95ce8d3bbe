//! Tokenizers of Hugging Face, by their own crate.

use serde_json::Value;
use tokenizers::Tokenizer;

use super::{
    Encoding, TextPlace, TokenizerError,
    byte_level::ByteLevel,
    error::Fault,
    spelling::{Before, Spelling},
};

/// Tokens from here on are an error: a table with that many rows is a damaged file.
const MAX_VOCAB_SIZE: usize = 1 << 24;

/// A tokenizer from a `tokenizer.json`.
pub(super) struct HuggingFace {
    start: Tokenizer,
    /// The same without what it puts before a text.
    continuation: Tokenizer,
    vocab_size: usize,
    byte_level: Option<ByteLevel>,
    spelling: Spelling,
    cuts: &'static [u8],
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
        let spelling = Spelling::new(&value)?;
        let cuts = cuts(&value);
        let mut edited = value;
        remove_prepended(&mut edited["normalizer"]);
        remove_first_prefix(&mut edited["pre_tokenizer"]);
        let continuation = build(&edited)?;
        Ok(Self { start, continuation, vocab_size, byte_level, spelling, cuts })
    }

    /// Returns before which white space a text may be cut between letters or digits.
    pub(super) fn cuts(&self) -> &'static [u8] {
        self.cuts
    }

    /// Returns the number of rows that an embedding table needs.
    pub(super) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Returns the tokens of a text.
    pub(super) fn encode(&self, text: &str, place: TextPlace) -> Result<Encoding, TokenizerError> {
        let tokenizer = match place {
            TextPlace::Start => &self.start,
            TextPlace::Continuation => &self.continuation,
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
            None => self.spelling.decode(&self.start, tokens),
        }
    }

    /// Appends the text of a token to `text`.
    pub(super) fn push(&self, before: &mut Before, token: u32, text: &mut Vec<u8>) {
        match &self.byte_level {
            Some(byte_level) => text.extend(byte_level.decode(&[token])),
            None => self.spelling.push(&self.start, before, token, text),
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

/// Returns the normalisers of one, which may be a list of them.
fn normalizers(normalizer: &Value) -> Vec<&Value> {
    match normalizer["normalizers"].as_array() {
        Some(list) => list.iter().flat_map(normalizers).collect(),
        None => vec![normalizer],
    }
}

/// Returns whether a normaliser drops white space at the start of a text.
fn strips_left(normalizer: &Value) -> bool {
    normalizers(normalizer)
        .iter()
        .any(|one| one["type"] == "Strip" && one["strip_left"] != Value::Bool(false))
}

/// Returns before which white space the tokens of a text are those of its parts.
fn cuts(file: &Value) -> &'static [u8] {
    let later = file["pre_tokenizer"]["pretokenizers"].as_array().into_iter().flatten().skip(1);
    let puts_before_words = |one: &Value| one["type"] == "Metaspace" || one["add_prefix_space"] == true;
    if strips_left(&file["normalizer"]) {
        b"" // What a part begins with would be dropped.
    } else if later.into_iter().any(puts_before_words) {
        b" " // Before anything but a space something is put that the whole does not have there.
    } else {
        b" \n"
    }
}

/// Takes out of a normaliser what it puts before a text.
fn remove_prepended(normalizer: &mut Value) {
    if normalizer["type"] == "Prepend" {
        *normalizer = Value::Null;
    } else if let Some(list) = normalizer.get_mut("normalizers").and_then(Value::as_array_mut) {
        list.iter_mut().for_each(remove_prepended);
        list.retain(|normalizer| !normalizer.is_null());
    }
}

/// Takes out of a pre-tokenizer what it puts before a text. Of several only the first sees where the text begins; the
/// others put theirs before each word, in a continuation as well.
fn remove_first_prefix(pre_tokenizer: &mut Value) {
    if let Some(list) = pre_tokenizer.get_mut("pretokenizers").and_then(Value::as_array_mut) {
        list.iter_mut().take(1).for_each(remove_first_prefix);
    } else if pre_tokenizer["type"] == "Metaspace" {
        pre_tokenizer["prepend_scheme"] = "never".into();
        // The older name of the same setting; the crate refuses files where they disagree.
        pre_tokenizer.as_object_mut().map(|settings| settings.remove("add_prefix_space"));
    } else if let Some(setting) = pre_tokenizer.get_mut("add_prefix_space") {
        *setting = false.into();
    }
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
