//! What a word is: a run of characters that are not white space, as `str::split_whitespace` finds them.

/// Number of bytes that are looked at at once.
const BLOCK_LEN: usize = 64;

/// Returns the number of words that begin in `text`; see [`word_starts`].
pub(crate) fn count_words(text: &[u8], mut in_word: bool) -> u64 {
    let (mut count, mut start) = (0, 0);
    while start < text.len() {
        let block = &text[start..text.len().min(start + BLOCK_LEN)];
        if block.is_ascii() {
            // Without branches, so that it becomes vector instructions.
            let mut is_word = [0u8; BLOCK_LEN + 1];
            is_word[0] = u8::from(in_word);
            for (is_word, byte) in is_word[1..].iter_mut().zip(block) {
                *is_word = u8::from(!is_ascii_space(*byte));
            }
            let pairs = is_word[..block.len()].iter().zip(&is_word[1..=block.len()]);
            count += pairs.map(|(before, is_word)| (1 - before) & is_word).sum::<u8>() as u64;
            in_word = is_word[block.len()] == 1;
            start += block.len();
        } else {
            // Up to an ASCII byte, which never lies inside a character.
            let end =
                (start + block.len()..text.len()).find(|&end| text[end].is_ascii()).unwrap_or(text.len());
            in_word = word_starts(&text[start..end], in_word, |_| count += 1);
            start = end;
        }
    }
    count
}

/// Returns whether a byte below 128 is white space.
fn is_ascii_space(byte: u8) -> bool {
    byte == b' ' || byte.wrapping_sub(b'\t') <= b'\r' - b'\t'
}

/// Calls `at` with the offset of the first byte of every word that begins in `text`, and returns whether the text ends
/// inside a word. `in_word` says whether the text before did. Bytes that are no UTF-8 count as parts of words.
pub(crate) fn word_starts(text: &[u8], mut in_word: bool, mut at: impl FnMut(usize)) -> bool {
    let mut offset = 0;
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid();
        let mut i = 0;
        while let Some(&byte) = valid.as_bytes().get(i) {
            // Nearly all characters are one byte, which need not be decoded.
            let (is_space, len) = match byte {
                0..0x80 => (is_ascii_space(byte), 1),
                _ => valid[i..].chars().next().map_or((false, 1), |c| (c.is_whitespace(), c.len_utf8())),
            };
            if !is_space && !in_word {
                at(offset + i);
            }
            in_word = !is_space;
            i += len;
        }
        offset += valid.len();
        if !chunk.invalid().is_empty() {
            if !in_word {
                at(offset);
            }
            in_word = true;
            offset += chunk.invalid().len();
        }
    }
    in_word
}

/// Calls `at` with the offset from `start` of the first byte of every word that begins in `text[start..end]`; what
/// lies before `start` decides whether a word goes on there.
pub(crate) fn word_starts_within(text: &[u8], start: usize, end: usize, mut at: impl FnMut(usize)) {
    // A character has at most four bytes: of eight, at most three end one and the next are a whole one.
    let mut before = start.saturating_sub(8);
    while before > 0 && before < start && (text[before] & 0xC0) == 0x80 {
        before += 1;
    }
    // The last character may reach over the end.
    let after = (end + 3).min(text.len());
    word_starts(&text[before..after], before > 0, |offset| {
        if (start..end).contains(&(before + offset)) {
            at(before + offset - start);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn starts(text: &[u8], in_word: bool) -> Vec<usize> {
        let mut starts = vec![];
        word_starts(text, in_word, |offset| starts.push(offset));
        starts
    }

    #[test]
    fn words_are_runs_without_white_space() {
        assert_eq!(starts("  an é\u{a0}\u{2003}x\n".as_bytes(), false), [2, 5, 12]);
        assert_eq!(starts(b"an x", true), [3]);
        assert_eq!(starts(b"\xff \xfe\xfea b", false), [0, 2, 6]);
    }

    proptest! {
        #[test]
        fn as_many_words_as_the_standard_library_finds(text in r"(\PC|\s|[a-c ]){0,60}") {
            prop_assert_eq!(starts(text.as_bytes(), false).len(), text.split_whitespace().count());
            prop_assert_eq!(count_words(text.as_bytes(), false), text.split_whitespace().count() as u64);
        }

        #[test]
        fn counting_by_blocks_is_counting(
            parts in prop::collection::vec((r"[a ]{0,90}", any::<[u8; 2]>()), 0..8), in_word: bool,
        ) {
            let text: Vec<u8> = parts.iter().flat_map(|(ascii, any)| [ascii.as_bytes(), any].concat()).collect();
            prop_assert_eq!(count_words(&text, in_word), starts(&text, in_word).len() as u64);
        }

        #[test]
        fn a_part_has_the_words_that_begin_in_it(
            text in r"([ab\u{a0}\u{2003}€𝄞 ]){0,40}", cuts: (prop::sample::Index, prop::sample::Index),
        ) {
            let text = text.as_bytes();
            let (a, b) = (cuts.0.index(text.len() + 1), cuts.1.index(text.len() + 1));
            let (start, end) = (a.min(b), a.max(b));
            let mut got = vec![];
            word_starts_within(text, start, end, |offset| got.push(start + offset));
            let all = starts(text, false);
            prop_assert_eq!(got, all.into_iter().filter(|at| (start..end).contains(at)).collect::<Vec<_>>());
        }
    }
}
