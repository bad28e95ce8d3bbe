//! Texts to be scored: from files, or from a prepared corpus.

use std::path::Path;

use anyhow::Result;
use brt_data::{Encoding, Span, TokenSet, Tokenizer};
use brt_lm::TextState;

use super::text;

/// A text as the model reads it.
pub(super) struct Text {
    pub(super) name: String,
    /// Author, family of crates, …, of a document of a corpus.
    pub(super) group: Option<String>,
    pub(super) tokens: Vec<u32>,
    /// The text of each token; a character of several tokens belongs to the last of them.
    pub(super) texts: Vec<String>,
    /// Returns how much text all tokens from one on stand for.
    pub(super) span_from: Box<dyn Fn(usize) -> Span>,
}

impl Text {
    pub(super) fn of_file(path: &Path, tokenizer: &Tokenizer, start: &TextState) -> Result<Self> {
        let bytes = text::bytes(path)?;
        let name = path.display().to_string();
        let encoding = text::encode(tokenizer, &bytes, start, &name)?;
        let Encoding { tokens, ends } = encoding;
        let texts = texts(&bytes, &ends);
        let span_from = move |first: usize| {
            let bytes = &bytes[first.checked_sub(1).map_or(0, |last| ends[last] as usize)..];
            let num_words = String::from_utf8_lossy(bytes).split_whitespace().count() as u64;
            Span { num_bytes: bytes.len() as u64, num_words }
        };
        Ok(Self { name, group: None, tokens, texts, span_from: Box::new(span_from) })
    }

    pub(super) fn of_document(
        set: &TokenSet,
        idx: usize,
        tokenizer: &Tokenizer,
        max_len: Option<usize>,
    ) -> Result<Self> {
        let document = set.document(idx)?;
        let len = document.tokens.len().min(max_len.unwrap_or(usize::MAX));
        let tokens = document.tokens.slice(0..len).to_vec();
        let spans = set.spans(idx, 0..len)?;
        let bytes = tokenizer.decode(&tokens);
        let mut end = 0;
        let mut end_of = |span: &Span| {
            end += span.num_bytes as u32;
            end
        };
        let ends: Vec<u32> = spans.iter().map(&mut end_of).collect();
        // A tokenizer that normalises gives no text of so many bytes back: then each token has its own.
        let texts = if end as usize == bytes.len() {
            texts(&bytes, &ends)
        } else {
            let text = |token: &u32| String::from_utf8_lossy(&tokenizer.token_text(*token)).into_owned();
            tokens.iter().map(text).collect()
        };
        let span_from = Box::new(move |first: usize| spans[first..].iter().copied().sum());
        let [name, group] = [document.name, document.group].map(str::to_owned);
        Ok(Self { name, group: Some(group), tokens, texts, span_from })
    }
}

/// Returns the text of each token; a character of several tokens belongs to the last of them.
fn texts(bytes: &[u8], ends: &[u32]) -> Vec<String> {
    let (mut start, mut texts) = (0, vec![]);
    for &end in ends {
        let end = end as usize;
        let mut text = String::new();
        for chunk in bytes[start..end].utf8_chunks() {
            text += chunk.valid();
            let rest = chunk.invalid();
            start = end;
            let is_beginning = std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
            match rest {
                [] => (),
                // Only what stands at the end can become a character.
                _ if is_beginning && end < bytes.len() => start = end - rest.len(),
                _ => text.push(char::REPLACEMENT_CHARACTER),
            }
        }
        texts.push(text);
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters whose bytes are several tokens, also behind other text in one token; what is no character; an end in
    /// the middle of one.
    #[test]
    fn characters_belong_to_their_last_token() {
        let check = |bytes: &[u8], ends: &[u32], expected: &[&str]| {
            assert_eq!(texts(bytes, ends), expected);
        };
        check("café!".as_bytes(), &[4, 5, 6], &["caf", "é", "!"]);
        check("日".as_bytes(), &[1, 2, 3], &["", "", "日"]);
        check(b"a\xff\xe6b", &[2, 3, 4], &["a\u{fffd}", "", "\u{fffd}b"]);
        check(b"a\xe6", &[1, 2], &["a", "\u{fffd}"]);
    }
}
