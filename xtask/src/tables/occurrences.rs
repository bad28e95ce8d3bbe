//! The words of a scored text: what each costs two models, and where it last occurred.

use std::collections::HashMap;

use super::words::Gain;

/// Bits in one nat.
pub(super) const BITS_PER_NAT: f64 = std::f64::consts::LOG2_E;
/// Shorter words are not looked at: one letter is no name.
const MIN_CHARS: usize = 3;
/// Characters that are shown before a word, and around its last occurrence.
const CONTEXT_CHARS: usize = 90;

/// A document's tokens and what they cost.
#[derive(Debug, Default)]
pub(super) struct Scored {
    pub(super) texts: Vec<String>,
    pub(super) nats: Vec<f64>,
}

impl Scored {
    /// Returns the first byte of each token in the text.
    fn starts(&self) -> Vec<usize> {
        let mut end = 0;
        let start_of = |text: &String| {
            end += text.len();
            end - text.len()
        };
        self.texts.iter().map(start_of).collect()
    }
}

/// One occurrence of a word and what it gains.
pub(super) struct Occurrence<'a> {
    word: &'a str,
    /// Its first byte in the text, and that of the occurrence before.
    start: usize,
    last_start: Option<usize>,
    pub(super) distance: Option<u64>,
    pub(super) bits: f64,
    model_bits: f64,
}

/// Returns every word of a document, in order.
///
/// A word is a run of letters, digits and underscores of three or more characters; a token belongs to the word that its
/// first such character is in.
pub(super) fn occurrences<'a>(text: &'a str, scored: &Scored, other: &Scored) -> Vec<Occurrence<'a>> {
    let starts = scored.starts();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    // The byte of a token that says which word it belongs to; none for spaces and signs.
    let place = |token: usize| scored.texts[token].find(is_part).map(|at| starts[token] + at);
    let mut last: HashMap<&str, (usize, usize)> = HashMap::new();
    let (mut found, mut next) = (vec![], 0);
    for word in text.split(|c| !is_part(c)).filter(|word| !word.is_empty()) {
        let start = word.as_ptr() as usize - text.as_ptr() as usize;
        let is_before = |token: usize| place(token).is_none_or(|at| at < start);
        while next < starts.len() && is_before(next) {
            next += 1;
        }
        let first = next;
        let end = start + word.len();
        while next < starts.len() && place(next).is_none_or(|at| at < end) && starts[next] < end {
            next += 1;
        }
        if word.chars().count() < MIN_CHARS {
            continue;
        }
        let bits = |nats: &[f64]| nats[first..next].iter().sum::<f64>() * BITS_PER_NAT;
        let before = last.insert(word, (first, start));
        let model_bits = bits(&scored.nats);
        found.push(Occurrence {
            word,
            start,
            last_start: before.map(|(_, start)| start),
            distance: before.map(|(token, _)| (first - token) as u64),
            bits: bits(&other.nats) - model_bits,
            model_bits,
        });
    }
    found
}

/// Returns the words that gain most, the largest gain first; each word once.
pub(super) fn top(mut words: Vec<Occurrence<'_>>, count: usize) -> Vec<Occurrence<'_>> {
    words.sort_by(|a, b| b.bits.total_cmp(&a.bits));
    let mut best: Vec<Occurrence<'_>> = vec![];
    for word in words {
        if best.len() < count && best.iter().all(|other| other.word != word.word) {
            best.push(word);
        }
    }
    best
}

impl Occurrence<'_> {
    /// Returns the word with the text before it and around its last occurrence.
    pub(super) fn gain(&self, document: &str, text: &str) -> Gain {
        let before = |at: usize| {
            let begin =
                text[..at].char_indices().rev().take(CONTEXT_CHARS).last().map_or(at, |(place, _)| place);
            text[begin..at].to_owned()
        };
        let after = |at: usize| {
            let end =
                text[at..].char_indices().nth(CONTEXT_CHARS / 2).map_or(text.len(), |(place, _)| at + place);
            text[at..end].to_owned()
        };
        Gain {
            document: document.into(),
            word: self.word.into(),
            bits: self.bits,
            model_bits: self.model_bits,
            distance: self.distance,
            before: before(self.start),
            last: self.last_start.map(|start| [before(start), after(start + self.word.len())]),
        }
    }
}
