//! The most probable pieces of a text, each independent of the others: Viterbi's search.

use super::{Output, PieceKind, Trie, Vocabulary, char_len};

/// How much less probable than the least probable piece an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.;

/// Scores beyond this are counted from 0 again, so that they keep their precision.
const MAX_SCORE: f32 = 100_000.;

/// A Unigram model.
#[derive(Debug)]
pub(super) struct Unigram {
    trie: Trie,
    scores: Vec<Score>,
    unknown_score: f32,
}

/// What a piece adds to the score of a text.
#[derive(Debug, Clone, Copy)]
enum Score {
    /// The logarithm of its probability.
    Log(f32),
    /// User-defined: better than all others.
    Best,
    /// Unused: none.
    Never,
}

/// The best way to divide the text up to a place: its score, and its last piece.
#[derive(Debug, Clone, Copy)]
struct Best {
    score: f32,
    /// Where the last piece starts; `None` as long as no piece has reached this place.
    start: Option<usize>,
    token: Option<u32>,
}

impl Unigram {
    /// Returns the model of a vocabulary.
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        let normal = vocabulary.pieces.iter().filter(|piece| piece.kind == PieceKind::Normal);
        let min_score = normal.fold(f32::MAX, |min, piece| min.min(piece.score));
        let scores = vocabulary.pieces.iter().map(|piece| match piece.kind {
            PieceKind::UserDefined => Score::Best,
            PieceKind::Unused => Score::Never,
            _ => Score::Log(piece.score),
        });
        Self {
            trie: Trie::new(vocabulary.of_texts()),
            scores: scores.collect(),
            unknown_score: min_score - UNKNOWN_PENALTY,
        }
    }

    /// Appends the pieces of a part of a normalised text.
    pub(super) fn encode(&self, text: &[u8], output: &mut Output) {
        let best = self.search(text);
        let mut pieces = Vec::new();
        let mut end = text.len();
        while let Best { start: Some(start), token, .. } = best[end] {
            pieces.push((&text[start..end], token));
            end = start;
        }
        pieces.into_iter().rev().for_each(|(piece, token)| output.push(piece, token));
    }

    /// Returns the best way to each place of a text, in bytes.
    fn search(&self, text: &[u8]) -> Vec<Best> {
        let mut best = vec![Best { score: 0., start: None, token: None }; text.len() + 1];
        let (mut start, mut farthest) = (0, 0);
        while start < text.len() {
            if best[start].score.abs() > MAX_SCORE {
                restart(&mut best[start..=farthest]);
            }
            let (score, rest) = (best[start].score, &text[start..]);
            let char_len = char_len(rest);
            let mut has_char = false;
            for (len, token) in self.trie.prefixes(rest) {
                let Some(piece_score) = self.score(token, len) else { continue };
                has_char |= len == char_len;
                farthest = farthest.max(start + len);
                best[start + len].offer(piece_score + score, start, Some(token));
            }
            if !has_char {
                farthest = farthest.max(start + char_len);
                best[start + char_len].offer(self.unknown_score + score, start, None);
            }
            start += char_len;
        }
        best
    }

    /// Returns what a piece of this length adds to the score.
    fn score(&self, token: u32, len: usize) -> Option<f32> {
        match self.scores[token as usize] {
            Score::Log(score) => Some(score),
            Score::Best => Some((0.1 * (len as f64 - 1.)) as f32),
            Score::Never => None,
        }
    }
}

impl Best {
    /// Takes a piece that ends here if it is the first one or better than the one so far.
    fn offer(&mut self, score: f32, start: usize, token: Option<u32>) {
        if self.start.is_none() || score > self.score {
            *self = Self { score, start: Some(start), token };
        }
    }
}

/// Counts the scores of places from that of the first one.
fn restart(best: &mut [Best]) {
    let first = best[0].score;
    for place in best.iter_mut().filter(|place| place.start.is_some()) {
        place.score -= first;
    }
}
