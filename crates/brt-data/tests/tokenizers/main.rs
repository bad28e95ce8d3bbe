//! Tokenizers: what the references make of a text, what comes back, and what damaged files say.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod properties;
mod text_decoder;

use std::{collections::BTreeMap, fs, path::PathBuf};

use brt_data::{Encoding, TextPlace, Tokenizer, TokenizerKind, train_bpe};
use serde::Deserialize;
use tempfile::tempdir;

/// What the reference makes of a text.
#[derive(Deserialize)]
struct Case {
    text: String,
    tokens: Vec<u32>,
    ends: Vec<u32>,
    decoded: String,
}

/// Returns a file of `tests/data/tokenizers`.
fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers").join(name)
}

/// Returns a tokenizer with these contents.
fn from_bytes(contents: &[u8]) -> Result<Tokenizer, String> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("tokenizer");
    fs::write(&path, contents).unwrap();
    Tokenizer::from_file(&path)
        .map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
}

/// Returns a byte-level BPE tokenizer trained on a few texts.
fn small_bpe() -> Tokenizer {
    let texts =
        ["the cat sat on the mat", "the hat, the hat's band\n\n  and the cat's hat", "naïve 🙂🙂 café"];
    train_bpe(texts.into_iter().chain(texts).map(str::to_owned), 280).unwrap()
}

/// Returns tokenizers of every kind; the first three give back any text.
fn all() -> Vec<Tokenizer> {
    let files = ["unigram.model", "bpe.model", "unigram.json", "word_piece.json"];
    let files = files.map(|name| Tokenizer::from_file(&data(name)).unwrap());
    let tokenizers = [Tokenizer::t5_bytes(), Tokenizer::bytes(), small_bpe()].into_iter().chain(files);
    tokenizers.chain(prefixing()).collect()
}

/// Returns tokenizers that put something before a text, or before each word, in all the ways that files do it.
fn prefixing() -> Vec<Tokenizer> {
    let metaspace = |settings: &str| format!(r#"{{"type": "Metaspace", "replacement": "_", {settings}}}"#);
    let always = metaspace(r#""prepend_scheme": "always""#);
    let list = |first: &str, second: &str| {
        format!(r#"{{"type": "Sequence", "pretokenizers": [{first}, {second}]}}"#)
    };
    let split = r#"{"type": "WhitespaceSplit"}"#;
    let byte_level =
        r#"{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}"#;
    let cases = [
        ("null", metaspace(r#""add_prefix_space": true"#)), // T5, XLM-R
        ("null", metaspace(r#""prepend_scheme": "first", "split": false"#)),
        ("null", list(split, &always)),
        ("null", list(&always, r#"{"type": "Digits", "individual_digits": true}"#)),
        ("null", byte_level.to_owned()),
        ("null", list(r#"{"type": "Digits", "individual_digits": true}"#, byte_level)),
        (r#"{"type": "Strip", "strip_left": true, "strip_right": false}"#, always.clone()),
        (r#"{"type": "Strip", "strip_left": false, "strip_right": true}"#, always.clone()),
    ];
    let file: serde_json::Value = serde_json::from_slice(&fs::read(data("unigram.json")).unwrap()).unwrap();
    let tokenizer = |(normalizer, pre_tokenizer): (&str, String)| {
        let mut file = file.clone();
        file["normalizer"] = serde_json::from_str(normalizer).unwrap();
        file["pre_tokenizer"] = serde_json::from_str(&pre_tokenizer).unwrap();
        from_bytes(file.to_string().as_bytes()).unwrap_or_else(|error| panic!("{pre_tokenizer}: {error}"))
    };
    cases.into_iter().map(tokenizer).collect()
}

/// A piece that goes on with a space has the tokens that it has in the whole: nothing is put before it, and what is put
/// before each word still is.
#[test]
fn a_continuation_has_what_the_whole_has() {
    for tokenizer in prefixing() {
        let encode = |text: &str, place| tokenizer.encode(text.as_bytes(), place).unwrap().tokens;
        let (whole, cut) = ("the ab the cat", tokenizer.last_cut(b"the ab the cat"));
        let Some(cut) = cut else { continue }; // White space at the start is dropped: it is not cut.
        let parts = [encode(&whole[..cut], TextPlace::Start), encode(&whole[cut..], TextPlace::Continuation)];
        assert_eq!(parts.concat(), encode(whole, TextPlace::Start), "{tokenizer:?}");
    }
    assert_eq!(prefixing().iter().filter(|t| t.last_cut(b"the ab the cat").is_none()).count(), 1);
}

/// Checks that the ends divide a text of this length.
fn check_ends(encoding: &Encoding, text_len: usize) {
    assert_eq!(encoding.tokens.len(), encoding.ends.len());
    assert!(encoding.ends.is_sorted(), "{:?}", encoding.ends);
    assert!(encoding.ends.last().is_none_or(|&end| end as usize == text_len), "{:?}", encoding.ends);
}

#[test]
fn sentence_piece_models_make_the_tokens_of_the_reference() {
    let cases = fs::read_to_string(data("sentence_piece.json")).unwrap();
    let cases: BTreeMap<String, Vec<Case>> = serde_json::from_str(&cases).unwrap();
    assert_eq!(cases.len(), 2);
    for (name, cases) in cases {
        let tokenizer = Tokenizer::from_file(&data(&format!("{name}.model"))).unwrap();
        for case in cases {
            let encoding = tokenizer.encode(case.text.as_bytes(), TextPlace::Start).unwrap();
            assert_eq!(encoding.tokens, case.tokens, "{name} {:?}", case.text);
            check_ends(&encoding, case.text.len());
            // In the reference the last token ends before the bytes that are dropped after it.
            let num_inner = case.ends.len().saturating_sub(1);
            assert_eq!(encoding.ends[..num_inner], case.ends[..num_inner], "{name} {:?}", case.text);
            // It replaces what is not UTF-8, such as bytes of U+FFFE.
            let decoded = tokenizer.decode(&encoding.tokens);
            assert_eq!(String::from_utf8_lossy(&decoded), case.decoded, "{name} {:?}", case.text);
        }
    }
}

#[test]
fn scores_keep_their_precision_in_long_lines() {
    let tokenizer = Tokenizer::from_file(&data("unigram.model")).unwrap();
    let encode = |text: &str| tokenizer.encode(text.as_bytes(), TextPlace::Start).unwrap().tokens;
    let sentence = " We hold these truths to be self-evident, that all men are created equal, that they are endowed \
                    by their Creator with certain unalienable Rights; the House of Representatives shall chuse their \
                    Speaker and other Officers, comparative analysis, modification of existing treaties.";
    // 14 MB: sums in single precision that never start again are wrong by then.
    assert!(encode(&sentence.repeat(50_000)) == encode(sentence).repeat(50_000));
}

#[test]
fn every_kind_is_opened_and_saved() {
    let folder = tempdir().unwrap();
    let kinds = [
        (TokenizerKind::T5Bytes, 260, "tokenizer.bytes", "t5_bytes"),
        (TokenizerKind::Bytes, 256, "tokenizer.bytes", "bytes"),
        (TokenizerKind::HuggingFace, 280, "tokenizer.json", "hugging_face"),
        (TokenizerKind::SentencePiece, 800, "tokenizer.model", "sentence_piece"),
        (TokenizerKind::SentencePiece, 700, "tokenizer.model", "sentence_piece"),
        (TokenizerKind::HuggingFace, 9, "tokenizer.json", "hugging_face"),
        (TokenizerKind::HuggingFace, 4, "tokenizer.json", "hugging_face"),
    ];
    for (tokenizer, (kind, vocab_size, file_name, name)) in all().into_iter().zip(kinds) {
        assert_eq!(
            (tokenizer.kind(), tokenizer.vocab_size(), tokenizer.file_name()),
            (kind, vocab_size, file_name)
        );
        assert_eq!(serde_json::to_value(kind).unwrap(), name);
        let path = folder.path().join(file_name);
        fs::write(&path, tokenizer.file_contents()).unwrap();
        let opened = Tokenizer::open(path.to_str().unwrap()).unwrap();
        assert_eq!((opened.kind(), opened.sha256()), (kind, tokenizer.sha256()));
        let text = b"The cat's hat,\n\n  caf\xC3\xA9.";
        let encoding = tokenizer.encode(text, TextPlace::Start).unwrap();
        assert_eq!(opened.encode(text, TextPlace::Start).unwrap(), encoding);
        assert_eq!(opened.clone().decode(&encoding.tokens), tokenizer.decode(&encoding.tokens));
    }
    assert_eq!(Tokenizer::open("t5-bytes").unwrap().file_contents(), b"t5-bytes\n");
    let sha256 = "95cc8e8ec552664096b998c62dfd5dfd0a41c96154de6814d918d1ca34bfc225";
    assert_eq!(Tokenizer::open("bytes").unwrap().sha256(), sha256);
}

#[test]
fn special_tokens_are_not_made_from_text_nor_decoded() {
    let t5 = Tokenizer::t5_bytes();
    assert_eq!(t5.encode(b"\x00\xFF", TextPlace::Start).unwrap().tokens, [3, 258]);
    assert_eq!(t5.decode(&[0, 1, 2, 68, 259, 1000, u32::MAX]), b"A");
    assert_eq!(Tokenizer::bytes().decode(&[65, 255, 256, u32::MAX]), b"A\xFF");

    let mut json: serde_json::Value = serde_json::from_slice(small_bpe().file_contents()).unwrap();
    let token = |id: u32, content: &str, special: bool| {
        serde_json::json!({"id": id, "content": content, "special": special, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false})
    };
    json["added_tokens"] = serde_json::json!([token(280, "<|end|>", true), token(281, "the  cat", false)]);
    json["truncation"] =
        serde_json::json!({"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 99}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
    let tokenizer = from_bytes(json.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 282);
    let text = "a<|end|>the  cat";
    let Encoding { tokens, ends } = tokenizer.encode(text.as_bytes(), TextPlace::Start).unwrap();
    assert!(!tokens.contains(&280) && tokens.len() > 4);
    assert_eq!((tokens.last(), ends[ends.len() - 2..].to_vec()), (Some(&281), vec![8, 16]));
    assert_eq!(tokenizer.decode(&[280, 281, 280, 999]), b"the  cat");
}

#[test]
fn text_that_is_not_utf8_is_an_error_except_for_bytes() {
    for tokenizer in all() {
        let encoded = tokenizer.encode(b"caf\xC3", TextPlace::Start);
        match tokenizer.kind() {
            TokenizerKind::T5Bytes | TokenizerKind::Bytes => assert_eq!(encoded.unwrap().tokens.len(), 4),
            _ => assert_eq!(
                encoded.unwrap_err().to_string(),
                "text: expected UTF-8, got an invalid byte at position 3; use the tokenizer `t5-bytes`"
            ),
        }
    }
}

#[test]
fn files_that_are_no_tokenizer_say_so() {
    let source = "copy the file from its source again";
    let expected = [
        (b"".as_slice(), format!("FILE: expected a tokenizer, got an empty file; {source}")),
        (
            b"{\"a\"",
            format!(
                "FILE: expected a tokenizer.json, got EOF while parsing an object at line 1 column 4; {source}"
            ),
        ),
        (
            b"\x0A\x03\x0A\x01a",
            format!("FILE: expected a SentencePiece model, got 0 pieces for what is unknown; {source}"),
        ),
        (
            b"\x0A\x05\x0A\x01a\x18\x02\x12\x02\x18\x03",
            "FILE: expected a BPE or Unigram model, got Word; choose another tokenizer".to_owned(),
        ),
    ];
    for (contents, error) in expected {
        assert_eq!(from_bytes(contents).unwrap_err(), error);
    }
    for contents in [b"{}".as_slice(), b"hello", b"\x0A\x05"] {
        let error = from_bytes(contents).unwrap_err();
        assert!(error.starts_with("FILE: expected a tokenizer.json"), "{error}");
    }
    assert_eq!(
        Tokenizer::open("no-such-file").unwrap_err().to_string(),
        "tokenizer: expected `t5-bytes`, `bytes` or the path of a tokenizer.json or a SentencePiece .model, \
         got `no-such-file`, and there is no such file"
    );
}

#[test]
fn training_does_not_depend_on_threads_or_order() {
    let texts: Vec<String> =
        (0..400).map(|i| format!("document {i} of {}: {}\n\tand so on", i * 37 % 91, i % 7)).collect();
    let train = |num_threads: usize, reverse: bool| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
        let mut texts = texts.clone();
        if reverse {
            texts.reverse();
        }
        pool.install(|| train_bpe(texts.into_iter(), 400)).unwrap().file_contents().to_vec()
    };
    let expected = train(1, false);
    for (num_threads, reverse) in [(1, true), (2, false), (2, true), (7, false)] {
        assert_eq!(train(num_threads, reverse), expected);
    }
    let error = train_bpe(texts.clone().into_iter(), 256).unwrap_err().to_string();
    assert_eq!(error, "vocab_size: expected at least 257 (256 bytes and a merge), got 256");
    assert_eq!(train_bpe(std::iter::empty(), 257).unwrap().vocab_size(), 256);
}
