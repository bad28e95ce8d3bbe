//! From a piece of text to what a shard holds of it.

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Span, Tokenizer, TokenizerError, TokenizerKind,
    shard::{SpanCode, TokenizedPiece, Width},
    tokenizer::TextPlace,
    words::{count_words, word_starts},
};

/// Number of lines of a run that is compared with those of other documents.
const RUN_LEN: usize = 8;

/// A piece of a document.
#[derive(Debug)]
pub(super) struct TextPiece {
    pub(super) text: Vec<u8>,
    pub(super) place: TextPlace,
    /// Whether a word of the piece before goes on in this one.
    pub(super) in_word: bool,
}

/// How pieces become tokens.
#[derive(Debug, Clone)]
pub(super) struct TokenizeConfig {
    pub(super) tokenizer: Tokenizer,
    /// Of the runs of lines one in so many is kept, chosen by its hash.
    pub(super) run_sampling: u64,
}

impl TokenizeConfig {
    /// Returns the tokens of a piece, the text that each stands for, and the runs of lines that were chosen.
    pub(super) fn tokenize(&self, piece: &TextPiece) -> Result<TokenizedPiece, TokenizerError> {
        let tokens = match self.tokenizer.kind() {
            TokenizerKind::T5Bytes => byte_tokens(piece, 3),
            TokenizerKind::Bytes => byte_tokens(piece, 0),
            _ => self.encoded_tokens(piece)?,
        };
        Ok(TokenizedPiece { runs: runs(&piece.text, self.run_sampling), ..tokens })
    }

    fn encoded_tokens(&self, piece: &TextPiece) -> Result<TokenizedPiece, TokenizerError> {
        let encoding = self.tokenizer.encode(&piece.text, piece.place)?;
        let width = Width::of(self.tokenizer.vocab_size());
        let mut words = vec![0u64; encoding.tokens.len()];
        let (mut num_words, mut token_idx) = (0, 0);
        word_starts(&piece.text, piece.in_word, |offset| {
            num_words += 1;
            while encoding.ends.get(token_idx).is_some_and(|&end| end as usize <= offset) {
                token_idx += 1;
            }
            if let Some(words) = words.get_mut(token_idx) {
                *words += 1;
            }
        });
        let mut out = TokenizedPiece {
            num_tokens: encoding.tokens.len() as u64,
            span: Span { num_bytes: piece.text.len() as u64, num_words },
            ..TokenizedPiece::default()
        };
        let mut start = 0;
        for (i, (&token, &end)) in encoding.tokens.iter().zip(&encoding.ends).enumerate() {
            out.tokens.extend_from_slice(&token.to_le_bytes()[..width as usize]);
            let span = Span { num_bytes: u64::from(end - start), num_words: words[i] };
            let code = SpanCode::new(span);
            out.spans.extend_from_slice(&code.0.to_le_bytes());
            if code == SpanCode::LONG {
                out.long_spans.push((i as u64, span));
            }
            start = end;
        }
        Ok(out)
    }
}

/// Returns a token for each byte.
fn byte_tokens(piece: &TextPiece, first_byte: u16) -> TokenizedPiece {
    let num_words = count_words(&piece.text, piece.in_word);
    let num_tokens = piece.text.len() as u64;
    let mut tokens = vec![0; 2 * piece.text.len()];
    for (token, &byte) in tokens.as_chunks_mut().0.iter_mut().zip(&piece.text) {
        *token = (u16::from(byte) + first_byte).to_le_bytes();
    }
    TokenizedPiece {
        num_tokens,
        tokens,
        span: Span { num_bytes: num_tokens, num_words },
        ..TokenizedPiece::default()
    }
}

/// Returns the hashes of the chosen ones of all runs of eight lines that are not empty, sorted; the whole text is one
/// run where it is shorter.
fn runs(text: &[u8], sampling: u64) -> Vec<u64> {
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', text).chain([text.len()]);
    let lines = ends.map(|end| text[std::mem::replace(&mut start, end + 1)..end].trim_ascii());
    let lines = lines.filter(|line| !line.is_empty());
    let lines: Vec<u64> = lines.map(|line| xxh3_64(line).to_le()).collect();
    let run_len = RUN_LEN.min(lines.len().max(1));
    let runs = lines.windows(run_len).map(|run| xxh3_64(bytemuck::cast_slice(run)));
    let mut runs: Vec<u64> = runs.filter(|hash| hash % sampling == 0).collect();
    runs.sort_unstable();
    runs.dedup();
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_of_eight_lines() {
        let text =
            |lines: std::ops::Range<usize>| -> String { lines.map(|i| format!("  line {i}\n\n")).collect() };
        assert_eq!(runs(text(0..100).as_bytes(), 1).len(), 93);
        assert_eq!(
            runs(text(0..3).as_bytes(), 1),
            [xxh3_64(&[0, 1, 2].map(|i| xxh3_64(format!("line {i}").as_bytes()).to_le_bytes()).concat())]
        );
        assert!(runs(b" \n\n", 1).is_empty());
        let (all, some) = (runs(text(0..1000).as_bytes(), 1), runs(text(0..1000).as_bytes(), 16));
        assert!(
            (30..100).contains(&some.len()) && some.iter().all(|run| all.contains(run)),
            "{}",
            some.len()
        );
    }

    #[test]
    fn bytes_are_tokens_and_words_are_counted_where_they_begin() {
        let config = TokenizeConfig { tokenizer: Tokenizer::t5_bytes(), run_sampling: 1 };
        let piece = TextPiece { text: b"ab c".to_vec(), place: TextPlace::Continuation, in_word: true };
        let got = config.tokenize(&piece).unwrap();
        assert_eq!(got.tokens, [100, 0, 101, 0, 35, 0, 102, 0]);
        assert_eq!((got.num_tokens, got.span), (4, Span { num_bytes: 4, num_words: 1 }));
        assert!(got.spans.is_empty());
    }
}
