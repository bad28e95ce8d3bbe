//! Byte-level BPE tokenizers of Hugging Face, whose tokens are bytes of the text itself: exact ends of tokens, exact
//! bytes of text, and a faster way to the same tokens.

use std::collections::HashMap;

use regex_automata::{Anchored, Input, meta::Regex};
use serde_json::Value;
use tokenizers::{Model, Tokenizer};

use super::Encoding;

/// How GPT-2 divides a text into words.
const GPT2_WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// How the patterns of all these tokenizers end: white space before a word leaves its last character to the word.
const WHITE_SPACE: &str = r"|\s+(?!\S)|\s+";

/// Longest word that is remembered, and number of those that are: more would hardly be met again.
const MAX_CACHED_LEN: usize = 64;
const MAX_CACHED_WORDS: usize = 1 << 17;

/// The bytes of each token, and how a text is divided into words.
pub(super) struct ByteLevel {
    bytes: Vec<Vec<u8>>,
    is_special: Vec<bool>,
    words: Option<Words>,
    /// The character that stands for each byte in the vocabulary.
    chars: Vec<char>,
}

impl ByteLevel {
    /// Returns what is known of a tokenizer, or `None` if its tokens are not bytes of the text itself.
    pub(super) fn new(value: &Value, tokenizer: &Tokenizer, vocab_size: usize) -> Option<Self> {
        let pre_tokenizer = &value["pre_tokenizer"];
        let last = pre_tokenizer["pretokenizers"].as_array().and_then(|parts| parts.last());
        let last = last.unwrap_or(pre_tokenizer);
        let is_byte_level = value["model"]["type"] == "BPE"
            && value["normalizer"].is_null()
            && last["type"] == "ByteLevel"
            && last["add_prefix_space"] == false
            && value["decoder"]["type"] == "ByteLevel";
        if !is_byte_level {
            return None;
        }
        let chars = (0..=u8::MAX).map(char_of).collect::<Vec<char>>();
        let byte_of: HashMap<char, u8> = chars.iter().copied().zip(0..=u8::MAX).collect();
        let (mut bytes, mut is_special) = (vec![Vec::new(); vocab_size], vec![false; vocab_size]);
        for (token, id) in tokenizer.get_vocab(false) {
            *bytes.get_mut(id as usize)? =
                token.chars().map(|c| byte_of.get(&c).copied()).collect::<Option<_>>()?;
        }
        let added = tokenizer.get_added_tokens_decoder();
        // Other added tokens are taken out of a text before it is divided into words.
        let are_special = added.values().all(|token| token.special);
        for (id, token) in added {
            *is_special.get_mut(id as usize)? = token.special;
            *bytes.get_mut(id as usize)? = token.content.into_bytes();
        }
        let words = word_pattern(pre_tokenizer).and_then(Words::new).filter(|_| are_special);
        Some(Self { bytes, is_special, words, chars })
    }

    /// Returns the tokens of a text, or `None` if their bytes are not those of the text.
    pub(super) fn encode(&self, text: &str, tokenizer: &Tokenizer) -> Option<Encoding> {
        let tokens = match &self.words {
            Some(words) => self.encode_words(words, text, tokenizer)?,
            None => tokenizer.encode_fast(text, false).ok()?.get_ids().to_vec(),
        };
        let mut end = 0;
        let ends = tokens.iter().map(|&token| {
            end += self.bytes.get(token as usize)?.len();
            u32::try_from(end).ok()
        });
        let ends = ends.collect::<Option<Vec<u32>>>()?;
        (end == text.len()).then_some(Encoding { tokens, ends })
    }

    /// Returns the tokens of a text's words; each word is encoded once.
    fn encode_words(&self, words: &Words, text: &str, tokenizer: &Tokenizer) -> Option<Vec<u32>> {
        let mut tokens = Vec::with_capacity(text.len() / 3);
        // Where the tokens of a word are that has occurred.
        let mut cache: HashMap<&str, (usize, usize)> = HashMap::new();
        for word in words.split(text) {
            if let Some(&(start, end)) = cache.get(word) {
                tokens.extend_from_within(start..end);
                continue;
            }
            let start = tokens.len();
            let chars: String = word.bytes().map(|byte| self.chars[usize::from(byte)]).collect();
            tokens.extend(tokenizer.get_model().tokenize(&chars).ok()?.iter().map(|token| token.id));
            if word.len() <= MAX_CACHED_LEN && cache.len() < MAX_CACHED_WORDS {
                cache.insert(word, (start, tokens.len()));
            }
        }
        Some(tokens)
    }

    /// Returns the bytes of the tokens that are not special.
    pub(super) fn decode(&self, tokens: &[u32]) -> Vec<u8> {
        let tokens = tokens.iter().map(|&token| token as usize);
        let tokens = tokens.filter(|&token| self.is_special.get(token) == Some(&false));
        tokens.flat_map(|token| &self.bytes[token]).copied().collect()
    }
}

/// Returns the pattern of a pre-tokenizer that only divides a text into words.
fn word_pattern(pre_tokenizer: &Value) -> Option<&str> {
    let parts = pre_tokenizer["pretokenizers"].as_array();
    match parts.map_or(std::slice::from_ref(pre_tokenizer), Vec::as_slice) {
        [byte_level] if byte_level["use_regex"] != false => Some(GPT2_WORDS),
        [split, byte_level] => {
            let divides = split["type"] == "Split"
                && split["behavior"] == "Isolated"
                && split["invert"] == false
                && byte_level["use_regex"] == false;
            split["pattern"]["Regex"].as_str().filter(|_| divides)
        }
        _ => None,
    }
}

/// Divides a text into words as a pattern of the GPT family does, without its look-ahead, which is slow.
struct Words {
    /// The words, and white space.
    regex: Regex,
}

impl Words {
    /// Returns the words of a pattern, or `None` if it is not of this family.
    fn new(pattern: &str) -> Option<Self> {
        let words = pattern.strip_suffix(WHITE_SPACE)?;
        // A `+` after a quantifier means another thing to this engine.
        let is_possessive =
            |w: &[u8]| matches!(w, [_, b'?' | b'*' | b'+', b'+'] | [b'0'..=b'9' | b',', b'}', b'+']);
        if words.as_bytes().windows(3).any(is_possessive) {
            return None;
        }
        let regex = Regex::new_many(&[words, r"\s+"]).ok()?;
        (!regex.is_match("")).then_some(Self { regex })
    }

    /// Returns the words of a text.
    fn split<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let rest = Input::new(text).range(start..);
            // Nearly always a word begins here, which is found faster.
            let found = self.regex.find(rest.clone().anchored(Anchored::Yes));
            let found = found.or_else(|| self.regex.find(rest));
            let end = match found {
                None => text.len(),
                Some(found) if found.start() > start => found.start(),
                Some(found) if found.pattern().as_usize() == 1 && found.end() < text.len() => {
                    let last_len = text[..found.end()].chars().next_back().map_or(0, char::len_utf8);
                    if found.len() > last_len { found.end() - last_len } else { found.end() }
                }
                Some(found) => found.end(),
            };
            let word = &text[start..end];
            start = end;
            (!word.is_empty()).then_some(word)
        })
    }
}

/// Returns the character that stands for a byte in a byte-level vocabulary: visible ones stand for themselves, the
/// others are numbered from U+0100 on.
pub(super) fn char_of(byte: u8) -> char {
    let is_visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match is_visible(byte) {
        true => char::from(byte),
        false => {
            let idx = (0..byte).filter(|&byte| !is_visible(byte)).count() as u32;
            char::from_u32(0x100 + idx).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper};

    use super::*;
    use crate::{TextPlace, train_bpe};

    /// How Llama 3 divides a text into words.
    const LLAMA3_WORDS: &str = concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    );

    #[test]
    fn characters_of_a_byte_level_vocabulary_are_those_of_the_crate() {
        let mut alphabet: Vec<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        let mut chars: Vec<char> = (0..=255).map(char_of).collect();
        assert_eq!([b' ', b'\n', b'A', 0xE9].map(char_of), ['Ġ', 'Ċ', 'A', 'é']);
        alphabet.sort_unstable();
        chars.sort_unstable();
        assert_eq!(chars, alphabet);
    }

    #[test]
    fn patterns_of_other_families_are_left_to_the_crate() {
        for pattern in [
            r"\S+|\s+",
            r"\p{L}++|\s+(?!\S)|\s+",
            r"\p{N}{1,3}+|\s+(?!\S)|\s+",
            r"a*|\s+(?!\S)|\s+",
            r"(?=a)b|\s+(?!\S)|\s+",
        ] {
            assert!(Words::new(pattern).is_none(), "{pattern}");
        }
    }

    /// Returns what the crate makes of a text.
    fn words_of_the_crate(pattern: &str, text: &str) -> Vec<String> {
        let split =
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let split: PreTokenizerWrapper = serde_json::from_value(split).unwrap();
        let mut words = PreTokenizedString::from(text);
        split.pre_tokenize(&mut words).unwrap();
        let words = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
        words.into_iter().map(|(word, ..)| word.to_owned()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn words_and_tokens_are_those_of_the_crate(parts in proptest::collection::vec(
            "[a-c]{1,3}|'(s|LL|re|x)|[ \n]|\n\n|\r\n|  |[\t\u{A0}\u{2003}]|[.,-]{1,3}|[0-9]{1,5}|🙂|é|\u{301}|.",
            0..40,
        )) {
            let text = parts.concat();
            for pattern in [GPT2_WORDS, LLAMA3_WORDS] {
                let words = Words::new(pattern).unwrap();
                prop_assert_eq!(words.split(&text).collect::<Vec<_>>(), words_of_the_crate(pattern, &text));
            }
            let trained = train_bpe([text.repeat(2)].into_iter(), 300).unwrap();
            let tokenizer = Tokenizer::from_bytes(trained.file_contents()).unwrap();
            let expected = tokenizer.encode_fast(text.as_str(), false).unwrap();
            let encoding = trained.encode(text.as_bytes(), TextPlace::Start).unwrap();
            prop_assert_eq!(encoding.tokens, expected.get_ids());
        }
    }
}
