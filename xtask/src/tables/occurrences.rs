//! The words of a scored text: what each costs two models, and where it last occurred.

use std::collections::{HashMap, HashSet};

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
    pub(super) name: String,
    /// Documents of one group are not independent.
    pub(super) group: String,
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
#[derive(Clone)]
pub(super) struct Occurrence<'a> {
    word: &'a str,
    /// Its first byte in the text, and that of the occurrence before.
    start: usize,
    last_start: Option<usize>,
    pub(super) distance: Option<u64>,
    pub(super) bits: f64,
    model_bits: f64,
    /// Whether it looks like a name or an identifier.
    pub(super) is_name: bool,
}

/// Returns every word of a document, in order.
///
/// A word is a run of letters, digits and underscores of three or more characters; a token belongs to the word that its
/// first such character is in, and a word without a token of its own is left out. A name or an identifier is no number and
/// has an underscore or a digit in it, or a capital letter where the document never has it in small letters.
pub(super) fn occurrences<'a>(text: &'a str, scored: &Scored, other: &Scored) -> Vec<Occurrence<'a>> {
    let starts = scored.starts();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    // The byte of a token that says which word it belongs to; none for spaces and signs. A token without text is the
    // beginning of the character that comes next.
    let place = |token: usize| match scored.texts[token].as_str() {
        "" => Some(starts[token]),
        text => text.find(is_part).map(|at| starts[token] + at),
    };
    let words = || text.split(|c| !is_part(c)).filter(|word| !word.is_empty());
    let all: HashSet<&str> = words().collect();
    let mut last: HashMap<&str, (usize, usize)> = HashMap::new();
    let (mut found, mut next) = (vec![], 0);
    for word in words() {
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
        if word.chars().count() < MIN_CHARS || first == next {
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
            is_name: is_name(word, &all),
        });
    }
    found
}

fn is_name(word: &str, all: &HashSet<&str>) -> bool {
    let is_number = word.starts_with(|c: char| c.is_ascii_digit());
    let has_sign = word.chars().any(|c| c == '_' || c.is_ascii_digit());
    let has_capital = word.chars().any(char::is_uppercase);
    !is_number && (has_sign || (has_capital && !all.contains(word.to_lowercase().as_str())))
}

/// Returns the words that gain most, the largest gain first, and those that lose most; each word once in each.
pub(super) fn extremes<'a>(words: Vec<Occurrence<'a>>, count: usize) -> [Vec<Occurrence<'a>>; 2] {
    let mut order = words;
    order.sort_by(|a, b| b.bits.total_cmp(&a.bits));
    let best = first_of_each(order.iter(), count);
    order.sort_by(|a, b| a.bits.total_cmp(&b.bits));
    let worst = first_of_each(order.iter(), count);
    [best, worst]
}

fn first_of_each<'a: 'b, 'b>(
    words: impl Iterator<Item = &'b Occurrence<'a>>,
    count: usize,
) -> Vec<Occurrence<'a>> {
    let mut found: Vec<Occurrence<'a>> = vec![];
    for word in words {
        if found.len() < count && found.iter().all(|other| other.word != word.word) {
            found.push(word.clone());
        }
    }
    found
}

impl Occurrence<'_> {
    /// Returns the word with the text before it and around its last occurrence.
    pub(super) fn gain(&self, scored: &Scored, text: &str) -> Gain {
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
            document: scored.name.clone(),
            group: scored.group.clone(),
            word: self.word.into(),
            bits: self.bits,
            model_bits: self.model_bits,
            distance: self.distance,
            is_name: self.is_name,
            before: before(self.start),
            last: self.last_start.map(|start| [before(start), after(start + self.word.len())]),
        }
    }
}
