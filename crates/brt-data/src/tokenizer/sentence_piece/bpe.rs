//! Byte-pair encoding as SentencePiece does it: the neighbours whose union has the best score are joined first, the
//! left ones first among equals.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
};

use super::{Output, PieceKind, Trie, Vocabulary, Words, char_len};

/// Longest word that is remembered, and number of those that are: more would hardly be met again.
const MAX_CACHED_LEN: usize = 64;
const MAX_CACHED_WORDS: usize = 1 << 17;

/// No symbol.
const NONE: u32 = u32::MAX;

/// A BPE model.
#[derive(Debug)]
pub(super) struct Bpe {
    trie: Trie,
    scores: Vec<f32>,
    is_unused: Vec<bool>,
    has_unused: bool,
    user_defined: Option<Trie>,
    max_piece_len: usize,
}

/// A part of the text that is not divided any more.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: u32,
    /// Length in bytes; 0 once it is joined to the one before.
    len: u32,
    previous: u32,
    next: u32,
    is_user_defined: bool,
}

/// Two neighbours that can be joined.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pair {
    score: f32,
    left: u32,
    right: u32,
    len: u32,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left)).then(other.len.cmp(&self.len))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What is used again for each word.
#[derive(Debug, Default)]
struct Scratch {
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Pair>,
    /// How unused pieces were made: length of the left half, by token.
    halves: HashMap<u32, usize>,
    /// Lengths and tokens of the pieces of a word.
    pieces: Vec<(usize, Option<u32>)>,
}

impl Bpe {
    /// Returns the model of a vocabulary.
    pub(super) fn new(vocabulary: &Vocabulary, user_defined: Option<Trie>) -> Self {
        let is_unused: Vec<bool> = vocabulary.pieces.iter().map(|p| p.kind == PieceKind::Unused).collect();
        Self {
            trie: Trie::new(vocabulary.of_texts()),
            scores: vocabulary.pieces.iter().map(|piece| piece.score).collect(),
            has_unused: is_unused.contains(&true),
            is_unused,
            user_defined,
            max_piece_len: vocabulary.of_texts().map(|(piece, _)| piece.len()).max().unwrap_or(0),
        }
    }

    /// Appends the pieces of a normalised text.
    pub(super) fn encode(&self, words: &Words, text: &[u8], output: &mut Output) {
        let mut scratch = Scratch::default();
        if self.has_unused {
            // How an unused piece is divided depends on how it was made last in the whole text.
            self.encode_word(text, &mut scratch);
            scratch.append(text, output);
            return;
        }
        let mut cache: HashMap<&[u8], Vec<(usize, Option<u32>)>> = HashMap::new();
        for word in words.split(text) {
            if let Some(pieces) = cache.get(word) {
                append(word, pieces, output);
                continue;
            }
            self.encode_word(word, &mut scratch);
            scratch.append(word, output);
            if word.len() <= MAX_CACHED_LEN && cache.len() < MAX_CACHED_WORDS {
                cache.insert(word, scratch.pieces.clone());
            }
        }
    }

    /// Finds the pieces of a word.
    fn encode_word(&self, word: &[u8], scratch: &mut Scratch) {
        let Scratch { symbols, pairs, halves, pieces } = scratch;
        self.read_symbols(word, symbols);
        halves.clear();
        for right in 1..symbols.len() as u32 {
            self.offer(word, symbols, (right - 1, right), pairs, halves);
        }
        while let Some(Pair { left, right, len, .. }) = pairs.pop() {
            let [l, r] = [left, right].map(|symbol| symbols[symbol as usize]);
            if l.len == 0 || r.len == 0 || l.len + r.len != len {
                continue; // one of them has been joined to another
            }
            symbols[left as usize].len = len;
            symbols[left as usize].next = r.next;
            symbols[right as usize].len = 0;
            if r.next != NONE {
                symbols[r.next as usize].previous = left;
            }
            self.offer(word, symbols, (l.previous, left), pairs, halves);
            self.offer(word, symbols, (left, r.next), pairs, halves);
        }
        pieces.clear();
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            self.divide(&word[symbol.start as usize..][..symbol.len as usize], halves, pieces);
        }
    }

    /// Reads the characters and user-defined pieces of a word.
    fn read_symbols(&self, word: &[u8], symbols: &mut Vec<Symbol>) {
        symbols.clear();
        let mut start = 0;
        while start < word.len() {
            let rest = &word[start..];
            let user_defined = self.user_defined.as_ref().and_then(|trie| trie.prefixes(rest).last());
            let len = user_defined.map_or_else(|| char_len(rest), |(len, _)| len);
            let idx = symbols.len() as u32;
            symbols.push(Symbol {
                start: start as u32,
                len: len as u32,
                previous: idx.checked_sub(1).unwrap_or(NONE),
                next: if start + len < word.len() { idx + 1 } else { NONE },
                is_user_defined: user_defined.is_some(),
            });
            start += len;
        }
    }

    /// Adds a pair of neighbours if their union is a piece.
    fn offer(
        &self,
        word: &[u8],
        symbols: &[Symbol],
        (left, right): (u32, u32),
        pairs: &mut BinaryHeap<Pair>,
        halves: &mut HashMap<u32, usize>,
    ) {
        let (Some(l), Some(r)) = (symbols.get(left as usize), symbols.get(right as usize)) else { return };
        let len = l.len + r.len;
        if l.is_user_defined || r.is_user_defined || len as usize > self.max_piece_len {
            return;
        }
        let Some(token) = self.trie.get(&word[l.start as usize..][..len as usize]) else { return };
        if self.is_unused[token as usize] {
            halves.insert(token, l.len as usize);
        }
        pairs.push(Pair { score: self.scores[token as usize], left, right, len });
    }

    /// Appends a piece, or those that it was made of if it is unused.
    fn divide(&self, piece: &[u8], halves: &HashMap<u32, usize>, pieces: &mut Vec<(usize, Option<u32>)>) {
        let mut todo = vec![piece];
        while let Some(piece) = todo.pop() {
            let token = self.trie.get(piece);
            let is_unused = token.is_some_and(|token| self.is_unused[token as usize]);
            match token.and_then(|token| halves.get(&token)) {
                Some(&len) if is_unused => todo.extend([&piece[len..], &piece[..len]]),
                // An unused character is an unknown one.
                _ => pieces.push((piece.len(), token.filter(|_| !is_unused))),
            }
        }
    }
}

impl Scratch {
    /// Appends the pieces of the last word.
    fn append(&self, word: &[u8], output: &mut Output) {
        append(word, &self.pieces, output);
    }
}

/// Appends the pieces of a word.
fn append(word: &[u8], pieces: &[(usize, Option<u32>)], output: &mut Output) {
    let mut rest = word;
    for &(len, token) in pieces {
        let (piece, after) = rest.split_at(len);
        output.push(piece, token);
        rest = after;
    }
}
