//! Bytes as tokens, in the T5 byte layout: 0 padding, 1 end, 2 unknown, byte `b` is `b + 3`.

/// Token that fills the end of a document's last segment; never predicted.
pub const PAD_TOKEN: u16 = 0;

/// Number of special tokens before the first byte.
const NUM_SPECIAL: u16 = 3;

/// The byte tokenizer of the paper: one token per byte.
///
/// # Source
/// Block-Recurrent Transformers, byte vocabulary: 259 ids in an embedding table of 260 rows.
///
/// ```
/// use brt_data::ByteTokenizer;
/// assert_eq!(ByteTokenizer.encode(b"AB\n"), [68, 69, 13]);
/// assert_eq!(ByteTokenizer.decode(&[1, 68, 69, 0]), b"AB");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByteTokenizer;

impl ByteTokenizer {
    /// Number of rows of the embedding table: 259 ids and one unused row.
    pub const VOCAB_SIZE: usize = 260;

    /// Returns the tokenizer's name in a manifest.
    pub fn name(&self) -> &'static str {
        "bytes"
    }

    /// Returns one token per byte; adds neither a start nor an end token.
    pub fn encode(&self, text: &[u8]) -> Vec<u16> {
        text.iter().map(|&byte| u16::from(byte) + NUM_SPECIAL).collect()
    }

    /// Returns the bytes of the tokens; special tokens and ids that stand for no byte are skipped.
    pub fn decode(&self, tokens: &[u16]) -> Vec<u8> {
        tokens.iter().filter_map(|&token| u8::try_from(token.checked_sub(NUM_SPECIAL)?).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_and_special_tokens_do_not() {
        let bytes: Vec<u8> = (0..=255).collect();
        let tokens = ByteTokenizer.encode(&bytes);
        assert_eq!((tokens[0], tokens[255]), (3, 258));
        assert_eq!(ByteTokenizer.decode(&tokens), bytes);
        assert_eq!(ByteTokenizer.decode(&[0, 1, 2, 3, 259, 1000, u16::MAX]), [0]);
    }
}
