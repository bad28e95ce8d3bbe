//! Which bytes and words each token stands for, so that bits per byte and word perplexity are exact.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use brt_data::{
    CorpusSource, PrepareConfig, SourceFormat, Span, Split, TokenSet, Tokenizer, prepare, train_tokenizer,
};
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

/// Returns a corpus of one document and its text.
fn corpus(text: &str, tokenizer: Tokenizer) -> (TempDir, TokenSet) {
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    common::write(folder.path(), "a.txt", text);
    let source = CorpusSource::files(folder.path(), SourceFormat::Files);
    let config = PrepareConfig { tokenizer, validation: 0., test: 0., ..PrepareConfig::new(source) };
    prepare(&config, out.path()).unwrap();
    let set = TokenSet::open(out.path(), Split::Train).unwrap();
    (out, set)
}

fn bpe() -> Tokenizer {
    train_tokenizer(&PrepareConfig::new(CorpusSource::Books), 1000, 300_000, &mut |_, _| ()).unwrap()
}

/// Checks the spans of all parts of a document against its text.
fn check(text: &str, tokenizer: &Tokenizer) {
    let (_folder, set) = corpus(text, tokenizer.clone());
    let document = set.document(0).unwrap();
    let num_words = text.split_whitespace().count() as u64;
    assert_eq!(document.span, Span { num_bytes: text.len() as u64, num_words });
    let all = set.spans(0, 0..document.tokens.len()).unwrap();
    assert_eq!(all.iter().copied().sum::<Span>(), document.span);
    // Each token stands for the bytes that it decodes to, and for the words that begin in them.
    let mut start = 0;
    let starts_word = |at: usize| {
        let is_space = |at: usize| text[at..].chars().next().is_some_and(char::is_whitespace);
        let before = text[..at].chars().next_back();
        text.is_char_boundary(at) && !is_space(at) && before.is_none_or(char::is_whitespace)
    };
    for (i, span) in all.iter().enumerate() {
        let bytes = tokenizer.decode(&[document.tokens.get(i)]);
        assert_eq!(bytes, &text.as_bytes()[start..start + bytes.len()]);
        let end = start + bytes.len();
        let num_words =
            (start..end).filter(|&at| text.is_char_boundary(at) && starts_word(at)).count() as u64;
        assert_eq!(*span, Span { num_bytes: bytes.len() as u64, num_words }, "token {i}");
        start = end;
    }
    // A part has the spans that the whole has there.
    for (first, end) in [(0, all.len() / 2), (all.len() / 3, all.len()), (all.len() / 2, all.len() / 2)] {
        assert_eq!(set.spans(0, first..end).unwrap(), all[first..end]);
    }
}

#[test]
fn spans_are_exact() {
    let long = "a".repeat(5000);
    let texts = [
        "To be, or not to be: that is the question.\n\nWhether 'tis nobler …",
        "  \u{a0}é\u{2003}€uro 𝄞𝄞 x\u{3000}",
        &format!("{long} {} end", " ".repeat(4200)),
    ];
    for tokenizer in [Tokenizer::t5_bytes(), Tokenizer::bytes(), bpe()] {
        for text in texts {
            check(text, &tokenizer);
        }
    }
}

/// Returns all works of the training documents of the corpus `books` as one text of some megabytes.
fn long_text() -> String {
    let out = tempdir().unwrap();
    prepare(&PrepareConfig::new(CorpusSource::Books), out.path()).unwrap();
    let (_, books) = common::contents(out.path()).swap_remove(0);
    books.into_iter().map(|(.., text, _)| text).collect()
}

/// Documents are read in pieces of a megabyte; their tokens are those of the whole text, blank lines and all.
#[test]
fn tokens_of_a_long_document_are_those_of_the_whole_text() {
    let text = long_text();
    assert!(text.len() > 5 << 20 && text.contains("\n\n\n"));
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizers/bpe.model");
    for tokenizer in [Tokenizer::bytes(), bpe(), Tokenizer::open(model).unwrap()] {
        let (_folder, set) = corpus(&text, tokenizer.clone());
        let document = set.document(0).unwrap();
        let whole = tokenizer.encode(text.as_bytes(), brt_data::TextPlace::Start).unwrap();
        assert!(document.tokens.to_vec() == whole.tokens, "{:?}", tokenizer.kind());
        let num_words = text.split_whitespace().count() as u64;
        assert_eq!(document.span, Span { num_bytes: text.len() as u64, num_words });
        let spans: Span = set.spans(0, 0..document.tokens.len()).unwrap().into_iter().sum();
        assert_eq!(spans, document.span);
    }
}

#[test]
fn tokens_to_text_to_tokens() {
    let bpe = bpe();
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/batch.rs")).unwrap();
    let (_folder, set) = corpus(&text, bpe.clone());
    let tokens = set.document(0).unwrap().tokens.to_vec();
    assert!(tokens.len() < text.len(), "{} tokens", tokens.len());
    assert_eq!(bpe.decode(&tokens), text.as_bytes());
    let again = bpe.encode(&bpe.decode(&tokens), brt_data::TextPlace::Start).unwrap();
    assert_eq!(again.tokens, tokens);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn spans_of_any_text(text in r"(\PC|[a ]|\s|𝄞){1,80}") {
        check(&text, &Tokenizer::t5_bytes());
    }
}
