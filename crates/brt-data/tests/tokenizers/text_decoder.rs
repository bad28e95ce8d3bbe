//! Text as its tokens come: for any tokens what the whole says, as soon as it is certain.

use brt_data::{TextDecoder, TextPlace, Tokenizer};
use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::{all, from_bytes, small_bpe};

/// Returns the small byte-level tokenizer with other parts, which the fast way does not know.
fn edited_bpe(key: &str, part: Value) -> Tokenizer {
    let mut file: Value = serde_json::from_slice(small_bpe().file_contents()).unwrap();
    file[key] = part;
    from_bytes(file.to_string().as_bytes()).unwrap()
}

/// Returns a tokenizer whose unknown characters are bytes, as Llama's.
fn byte_fallback() -> Tokenizer {
    let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    with_bytes(&json!([{"type": "ByteFallback"}, {"type": "Fuse"}, strip]))
}

/// Returns a tokenizer whose unknown characters are bytes, with these decoders.
fn with_bytes(decoders: &Value) -> Tokenizer {
    let pieces = ["<unk>", "▁", "t", "he", "▁the", "<end>", "é", "\u{10FEFF}", "t</w>", "he</w>"];
    let bytes = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"));
    let vocab: serde_json::Map<String, Value> = pieces
        .map(str::to_owned)
        .into_iter()
        .chain(bytes)
        .zip(0..)
        .map(|(piece, token): (String, u32)| (piece, token.into()))
        .collect();
    let replace =
        |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "pre_tokenizer": null, "post_processor": null,
        "added_tokens": [{"id": 5, "content": "<end>", "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false}],
        "normalizer": {"type": "Sequence", "normalizers": [prepend, replace(" ", "▁")]},
        "decoder": {"type": "Sequence", "decoders": [replace("▁", " "), {"type": "Sequence", "decoders": decoders}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": []},
    });
    from_bytes(file.to_string().as_bytes()).unwrap()
}

/// Returns tokenizers of every kind, and with every decoder.
fn kinds() -> Vec<Tokenizer> {
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let sequence = json!({"type": "Sequence", "decoders": [bytes.clone()]});
    let decoders = [Value::Null, sequence, json!({"type": "WordPiece", "prefix": "h", "cleanup": true})];
    let edited = decoders.map(|decoder| edited_bpe("decoder", decoder));
    let suffix = with_bytes(&json!([{"type": "BPEDecoder", "suffix": "</w>"}]));
    let others = [edited_bpe("pre_tokenizer", bytes), byte_fallback(), suffix];
    all().into_iter().take(7).chain(edited).chain(others).collect()
}

/// Returns the text of bytes that is certain, and whether a stop string is in it.
fn certain(bytes: &[u8], stops: &[&str]) -> (String, bool) {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    // An end that a later byte changes is the beginning of a character.
    let grown = [0x80, 0xBF].map(|byte| String::from_utf8_lossy(&[bytes, &[byte]].concat()).into_owned());
    if text.ends_with('\u{FFFD}') && !grown.iter().all(|grown| *grown == format!("{text}\u{FFFD}")) {
        text.pop();
    }
    for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
        let found = stops.iter().filter(|stop| text[..end].ends_with(**stop)).map(|stop| stop.len()).max();
        if let Some(len) = found {
            text.truncate(end - len);
            return (text, true);
        }
    }
    let is_beginning = |start: &usize| {
        text.is_char_boundary(*start) && stops.iter().any(|stop| stop.starts_with(&text[*start..]))
    };
    text.truncate((0..text.len()).find(is_beginning).unwrap_or(text.len()));
    (text, false)
}

/// Checks every piece of the text of `tokens` after `before`.
fn check(tokenizer: &Tokenizer, before: &[u32], tokens: &[u32], stops: &[&str]) {
    let known = tokenizer.decode(before).len();
    let bytes_to = |end: usize| tokenizer.decode(&[before, &tokens[..end]].concat())[known..].to_vec();
    let stop_strings = || stops.iter().map(|stop| (*stop).to_owned()).collect();
    let mut decoder = TextDecoder::new(tokenizer, before, stop_strings());
    let mut text = String::new();
    for (i, token) in tokens.iter().enumerate() {
        text += &decoder.push(*token);
        let bytes = bytes_to(i + 1);
        assert_eq!((text.clone(), decoder.is_stopped()), certain(&bytes, stops), "{tokenizer:?} {bytes:X?}");
    }
    let bytes = bytes_to(tokens.len());
    assert_eq!(tokenizer.decode_after(before, tokens), bytes, "{tokenizer:?}");
    // A character that cannot be a stop string's ends all that is held back.
    let closed = [String::from_utf8_lossy(&bytes).as_bytes(), b"\0"].concat();
    let (expected, is_stopped) = certain(&closed, stops);
    let expected = if is_stopped { expected } else { expected[..expected.len() - 1].to_owned() };
    assert_eq!(text + &decoder.finish(), expected, "{tokenizer:?} {bytes:X?}");
}

#[test]
fn characters_of_several_tokens_come_whole() {
    for tokenizer in kinds() {
        let text = "the 🙂é 日本 e\u{301}👩‍👩‍👧\u{10FEFF} the cat";
        let tokens = tokenizer.encode(text.as_bytes(), TextPlace::Start).unwrap().tokens;
        for start in 0..tokens.len() {
            check(&tokenizer, &tokens[..start], &tokens[start..], &[]);
            check(&tokenizer, &tokens[..start], &tokens[start..], &["\u{301}", "e c", "日本"]);
        }
    }
    let tokenizer = byte_fallback();
    let tokens = tokenizer.encode("é🙂\u{10FEFF} the".as_bytes(), TextPlace::Start).unwrap().tokens;
    assert_eq!(tokenizer.decode(&tokens), "é🙂\u{10FEFF} the".as_bytes());
    let mut decoder = TextDecoder::new(&tokenizer, &[], Vec::new());
    let pieces: Vec<String> = tokens.iter().map(|&token| decoder.push(token)).collect();
    assert_eq!(pieces, ["", "é", "", "", "", "🙂", "\u{10FEFF}", " ", "t", "h", "e"]);
}

#[test]
fn a_token_on_its_own_has_its_bytes() {
    let tokenizer = byte_fallback();
    let texts = [1, 4, 5, 6, 10 + 0xE2, 9999].map(|token| tokenizer.token_text(token));
    assert_eq!(texts, [b" ".as_slice(), b" the", b"", "é".as_bytes(), b"\xE2", b""]);
    let tokenizer = small_bpe();
    let tokens = tokenizer.encode("the 日".as_bytes(), TextPlace::Start).unwrap().tokens;
    let texts: Vec<u8> = tokens.iter().flat_map(|&token| tokenizer.token_text(token)).collect();
    assert_eq!((texts, tokenizer.token_text(tokens[1])), ("the 日".into(), b" ".to_vec()));
}

#[test]
fn bytes_that_are_no_character_come_at_once() {
    let mut decoder = TextDecoder::new(&Tokenizer::bytes(), &[], vec!["\u{FFFD}\u{FFFD}".to_owned()]);
    let pieces: Vec<String> = b"a\xFFb\xE2\x82c\xE2".iter().map(|&byte| decoder.push(byte.into())).collect();
    assert_eq!(pieces, ["a", "", "\u{FFFD}b", "", "", "\u{FFFD}c", ""]);
    assert_eq!(decoder.clone().finish(), "\u{FFFD}");
    assert_eq!(decoder.push(0xE2), "");
    assert!(!decoder.is_stopped());
    assert_eq!(decoder.push(0xFF), "");
    assert!(decoder.is_stopped());
    assert_eq!((decoder.push(65), decoder.finish()), (String::new(), String::new()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn pieces_are_the_whole_up_to_the_stop_string(
        before in proptest::collection::vec(any::<Index>(), 0..12),
        tokens in proptest::collection::vec(any::<Index>(), 0..30),
        stops in proptest::collection::vec(prop_oneof![
            Just(" t"), Just("the"), Just("aa"), Just("tt h"), Just("🙂"), Just("\u{FFFD}"), Just("\u{FFFD}a"),
        ], 0..3),
    ) {
        for tokenizer in kinds() {
            // A few beyond the vocabulary.
            let to_tokens = |ids: &[Index]| -> Vec<u32> {
                ids.iter().map(|id| id.index(tokenizer.vocab_size() + 2) as u32).collect()
            };
            check(&tokenizer, &to_tokens(&before), &to_tokens(&tokens), &stops);
        }
    }

    #[test]
    fn texts_come_back_through_their_tokens(
        parts in proptest::collection::vec("the|cat| |\n|é|🙂|日本|क्षि|e\u{301}|\u{FFFD}|\\PC|.", 0..30),
        at in any::<Index>(),
        stops in proptest::collection::vec(prop_oneof![
            Just("cat"), Just("日"), Just("\u{301}"), Just("e "), Just("\nthe")
        ], 0..3),
    ) {
        for tokenizer in kinds() {
            let tokens = tokenizer.encode(parts.concat().as_bytes(), TextPlace::Start).unwrap().tokens;
            let (before, tokens) = tokens.split_at(at.index(tokens.len() + 1));
            check(&tokenizer, before, tokens, &stops);
        }
    }

    #[test]
    fn any_bytes_are_what_the_standard_library_makes_of_them(
        bytes in proptest::collection::vec(prop_oneof![
            Just(0xE2), Just(0x82), Just(0xF0), Just(0x9F), Just(0xED), Just(0xA0), Just(0xF4), Just(b'a'), any::<u8>()
        ], 0..40),
    ) {
        let tokens: Vec<u32> = bytes.iter().map(|&byte| byte.into()).collect();
        check(&Tokenizer::bytes(), &[], &tokens, &["a\u{FFFD}", "aaa"]);
    }
}
