//! Words of a normalised text: parts that can be encoded each by itself, because no piece joins them.

use std::collections::HashSet;

use super::{Vocabulary, char_len};

/// Number of the most frequent characters: ASCII and the mark of a space.
const NUM_FREQUENT: usize = 129;

/// The mark of a space as [`code`] returns it.
const MARK: u32 = 0xE2_96_81;

/// Knows which characters are neighbours in a piece: words end between those that are not.
#[derive(Debug)]
pub(super) struct Words {
    /// For each two frequent characters, whether a piece has them as neighbours.
    frequent: Vec<bool>,
    /// All other neighbours.
    others: HashSet<(u32, u32)>,
}

impl Words {
    /// Returns the words that the pieces of a vocabulary allow.
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        let mut words = Self { frequent: vec![false; NUM_FREQUENT * NUM_FREQUENT], others: HashSet::new() };
        for (piece, _) in vocabulary.of_texts() {
            for (left, right, _) in neighbours(piece) {
                match frequent_idx(left, right) {
                    Some(idx) => words.frequent[idx] = true,
                    None => _ = words.others.insert((left, right)),
                }
            }
        }
        words
    }

    /// Returns the words of a text.
    pub(super) fn split<'a>(&self, text: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.split_at(text, |_| true)
    }

    /// Returns the parts of a text between the words that satisfy a condition on their starts.
    pub(super) fn split_at<'a>(
        &self,
        text: &'a [u8],
        is_start: impl Fn(usize) -> bool,
    ) -> impl Iterator<Item = &'a [u8]> {
        let starts = neighbours(text)
            .filter(move |&(left, right, start)| !self.are_neighbours(left, right) && is_start(start));
        let mut last = 0;
        starts.map(|(_, _, start)| start).chain([text.len()]).map(move |start| {
            let word = &text[last..start];
            last = start;
            word
        })
    }

    /// Returns whether a piece has these characters as neighbours.
    fn are_neighbours(&self, left: u32, right: u32) -> bool {
        match frequent_idx(left, right) {
            Some(idx) => self.frequent[idx],
            None => self.others.contains(&(left, right)),
        }
    }
}

/// Returns each two neighbours in a text, and where the second one starts.
fn neighbours(text: &[u8]) -> impl Iterator<Item = (u32, u32, usize)> {
    let mut at = char_len(text);
    let mut left = code(&text[..at]);
    std::iter::from_fn(move || {
        let start = at;
        at += char_len(&text[start..]);
        let right = code(&text[start..at]);
        (at > start).then(|| (std::mem::replace(&mut left, right), right, start))
    })
}

/// Returns a character as a number: its bytes.
fn code(character: &[u8]) -> u32 {
    character.iter().fold(0, |code, &byte| code << 8 | u32::from(byte))
}

/// Returns where two frequent characters are in their table.
fn frequent_idx(left: u32, right: u32) -> Option<usize> {
    let idx = |code| match code {
        0..128 => Some(code as usize),
        MARK => Some(128),
        _ => None,
    };
    Some(idx(left)? * NUM_FREQUENT + idx(right)?)
}
