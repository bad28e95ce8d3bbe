//! Where documents are cut, and what happens to text that is not UTF-8: compared with the standard library.

use proptest::prelude::*;

use super::super::{
    Event, InvalidUtf8,
    pieces::Pieces,
    utf8::{Utf8Check, WrongByte},
};

/// Cuts a text that comes in chunks of these lengths.
fn pieces(
    text: &[u8],
    mode: InvalidUtf8,
    max_len: usize,
    chunk_lens: &[usize],
) -> Result<Vec<(Vec<u8>, bool)>, WrongByte> {
    let mut pieces = Pieces::with_max_len(mode, max_len);
    let mut found = Vec::new();
    let mut take = |event: Option<Event>| match event {
        Some(Event::Text { text, in_word }) => {
            found.push((text, in_word));
            true
        }
        _ => false,
    };
    let mut rest = text;
    let mut lens = chunk_lens.iter().cycle();
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(lens.next().map_or(rest.len(), |&len| len.min(rest.len())));
        pieces.push(chunk)?;
        while take(pieces.next_piece()) {}
        rest = behind;
    }
    pieces.finish_text()?;
    while take(pieces.last_piece()) {}
    Ok(found)
}

/// Texts with characters of every length, and white space of every kind.
fn texts() -> impl Strategy<Value = String> {
    let chars = prop::sample::select(vec![
        'a', 'b', 'é', '€', '😀', ' ', ' ', '\n', '\n', '\t', '\u{a0}', '\u{3000}',
    ]);
    prop::collection::vec(chars, 0..200).prop_map(|chars| chars.into_iter().collect())
}

fn chunk_lens() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..20usize, 1..5)
}

/// Bytes that are nearly UTF-8.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => prop::sample::select(vec![b'a', b' ', b'\n', 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80, 0xed, 0xa0]),
        1 => any::<u8>()
    ];
    prop::collection::vec(byte, 0..100)
}

/// Returns the best cut of a text: the slow way, by the rule.
fn best_cut(text: &str, max_len: usize) -> usize {
    let cuts: Vec<usize> =
        text.char_indices().map(|(at, _)| at).filter(|&at| at > 0 && at <= max_len).collect();
    let is_before_text = |&&at: &&usize| !text[at..].starts_with(char::is_whitespace);
    let behind_line = |&&at: &&usize| text[..at].ends_with('\n');
    let behind_space = |&&at: &&usize| text[..at].ends_with(char::is_whitespace);
    let last =
        |rule: &dyn Fn(&&usize) -> bool| cuts.iter().filter(is_before_text).filter(|at| rule(at)).max();
    *last(&behind_line).or_else(|| last(&behind_space)).or(cuts.iter().max()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn pieces_follow_the_rule_however_the_text_comes(text in texts(), max_len in 4..40usize, lens in chunk_lens()) {
        let found = pieces(text.as_bytes(), InvalidUtf8::Strict, max_len, &lens).unwrap();
        let mut rest = text.as_str();
        let mut num_words = 0;
        let mut ends_in_word = false;
        for (piece, in_word) in &found {
            let piece = std::str::from_utf8(piece).unwrap();
            let expected_len = if rest.len() > max_len { best_cut(rest, max_len) } else { rest.len() };
            prop_assert_eq!(piece.len(), expected_len);
            prop_assert_eq!(*in_word, ends_in_word && !piece.starts_with(char::is_whitespace));
            ends_in_word = !piece.ends_with(char::is_whitespace);
            num_words += piece.split_whitespace().count() - usize::from(*in_word);
            prop_assert_eq!(piece, &rest[..piece.len()]);
            rest = &rest[piece.len()..];
        }
        prop_assert_eq!(rest, "");
        prop_assert_eq!(num_words, text.split_whitespace().count());
    }

    #[test]
    fn bytes_are_kept(text in bytes(), max_len in 4..40usize, lens in chunk_lens()) {
        let found = pieces(&text, InvalidUtf8::Bytes, max_len, &lens).unwrap();
        prop_assert!(found.iter().all(|(piece, _)| (1..=max_len).contains(&piece.len())));
        let joined: Vec<u8> = found.into_iter().flat_map(|(piece, _)| piece).collect();
        prop_assert_eq!(joined, text);
    }

    #[test]
    fn wrong_bytes_are_found_or_replaced_as_in_the_whole_text(text in bytes(), lens in chunk_lens()) {
        let replaced = pieces(&text, InvalidUtf8::Replace, 1000, &lens).unwrap();
        let joined: Vec<u8> = replaced.into_iter().flat_map(|(piece, _)| piece).collect();
        prop_assert_eq!(joined, String::from_utf8_lossy(&text).into_owned().into_bytes());

        let strict = pieces(&text, InvalidUtf8::Strict, 1000, &lens).map(|_| ());
        let expected = std::str::from_utf8(&text).map(|_| ()).map_err(|error| WrongByte {
            offset: error.valid_up_to() as u64,
            byte: error.error_len().map(|_| text[error.valid_up_to()]),
        });
        prop_assert_eq!(strict, expected);
    }
}

#[test]
fn a_character_that_a_chunk_cuts_is_no_error() {
    let mut check = Utf8Check::new(InvalidUtf8::Strict);
    let mut out = Vec::new();
    for byte in "a€😀".as_bytes() {
        check.push(&[*byte], &mut out).unwrap();
        assert!(std::str::from_utf8(&out).is_ok());
    }
    check.finish(&mut out).unwrap();
    assert_eq!(out, "a€😀".as_bytes());
    check.push(&[0xe2, 0x82], &mut out).unwrap();
    let wrong = check.finish(&mut out).unwrap_err();
    assert_eq!(wrong.to_string(), "an end inside the character at offset 8");
}
