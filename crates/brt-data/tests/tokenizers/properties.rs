//! Any text, and any file.

use brt_data::{TextPlace, TokenizerKind};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{all, check_ends, from_bytes};

/// Number of damaged files that are opened.
const NUM_DAMAGED: usize = 3000;

/// Changes a few bytes of a file, or cuts it, or repeats a part.
fn damage(contents: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..contents.len());
        let end = (at + rng.random_range(1..20)).min(contents.len());
        let part = contents[at..end].to_vec();
        match rng.random_range(0..12) {
            0 => contents.truncate(at + 1),
            1 => _ = contents.drain(at..end.min(contents.len() - 1)),
            2 => contents.splice(at..at, part).for_each(drop),
            3 | 4 => contents[at] = *b"0\"{}[],-\xFF\0".get(rng.random_range(0..20)).unwrap_or(&b'9'),
            5..8 => contents[at] = rng.random(),
            _ => contents[at] ^= 1 << rng.random_range(0..8),
        }
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let files: Vec<Vec<u8>> =
        all()[2..7].iter().map(|tokenizer| tokenizer.file_contents().to_vec()).collect();
    let mut num_opened = 0;
    for i in 0..NUM_DAMAGED {
        let mut contents = files[i % files.len()].clone();
        damage(&mut contents, &mut rng);
        let Ok(tokenizer) = from_bytes(&contents) else { continue };
        num_opened += 1;
        for text in ["", "the cat's hat\n  ½ \u{2581}ﬁ 🙂", "Mr. ing <s><sep>_t  e\u{301}\0\u{FFFD}"] {
            let Ok(encoding) = tokenizer.encode(text.as_bytes(), TextPlace::Start) else { continue };
            check_ends(&encoding, text.len());
            let _text = tokenizer.decode(&encoding.tokens);
            let _text = tokenizer.decode(&[0, 1, 255, 256, 700, u32::MAX]);
        }
    }
    assert!(num_opened * 20 > NUM_DAMAGED, "{num_opened}"); // else nothing is tested beyond opening
}

/// Returns texts of words, white space and rare characters.
fn texts() -> impl Strategy<Value = String> {
    let part = "[a-c]{1,4}|the|cat's|[ \n]|\n\n|  |[\t\r\u{A0}]|[.,-]{1,3}|[0-9]{1,4}|дом|日本|क्षि|🙂|\u{2581}|ﬁ|\u{301}|é|\\PC|.";
    proptest::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn ends_divide_the_text_and_byte_tokenizers_give_it_back(text in texts()) {
        for (i, tokenizer) in all().into_iter().enumerate() {
            for place in [TextPlace::Start, TextPlace::Continuation] {
                let encoding = tokenizer.encode(text.as_bytes(), place).unwrap();
                check_ends(&encoding, text.len());
                if i < 3 {
                    prop_assert_eq!(tokenizer.decode(&encoding.tokens), text.as_bytes());
                }
            }
        }
    }

    #[test]
    fn a_text_may_be_cut_where_the_tokenizer_says(text in texts()) {
        for tokenizer in all() {
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            while let Some(cut) = tokenizer.last_cut(rest).filter(|&cut| cut < rest.len()) {
                pieces.push(&rest[cut..]);
                rest = &rest[..cut];
            }
            let mut tokens = tokenizer.encode(rest, TextPlace::Start).unwrap().tokens;
            for piece in pieces.into_iter().rev() {
                tokens.extend(tokenizer.encode(piece, TextPlace::Continuation).unwrap().tokens);
            }
            let mut whole = tokenizer.encode(text.as_bytes(), TextPlace::Start).unwrap().tokens;
            if tokenizer.kind() == TokenizerKind::SentencePiece {
                // Of two equally probable ways to divide a word the Unigram model may choose the other: `the theth e`,
                // `theth e the`.
                tokens.sort_unstable();
                whole.sort_unstable();
            }
            prop_assert_eq!(tokens, whole);
        }
    }
}
