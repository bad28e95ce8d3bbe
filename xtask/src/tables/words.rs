//! Which words one model predicts better than another, and how far back they last occurred (the paper's section 4.6).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::occurrences::{Occurrence, Scored, occurrences, top};
use crate::{
    failure::{Context, Result, fail},
    report::{interval_of_mean, mean},
};

/// `words.json`: what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WordGains {
    pub(super) model: String,
    pub(super) against: String,
    /// Window of the model that it is compared with, in tokens.
    pub(super) window_len: u64,
    pub(super) num_documents: usize,
    /// Number of words of all documents.
    pub(super) num_words: usize,
    /// Mean gains by distance to the last occurrence.
    pub(super) by_distance: Vec<DistanceGain>,
    /// The words that gain most: so many of each document, document by document.
    pub(super) best: Vec<Gain>,
}

/// Words whose last occurrence in the document lies `start..end` tokens back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DistanceGain {
    pub(super) start: u64,
    /// Absent for words that had not occurred.
    pub(super) end: Option<u64>,
    pub(super) num_words: usize,
    /// Mean over documents of the mean gain of a word, in bits.
    pub(super) bits: f64,
    /// 95 % interval over documents.
    pub(super) interval: Option<[f64; 2]>,
}

/// A word that gains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Gain {
    pub(super) document: String,
    pub(super) word: String,
    /// Bits that the model saves.
    pub(super) bits: f64,
    /// Bits of the word for the model itself.
    pub(super) model_bits: f64,
    /// Tokens since the word last began; absent where it had not occurred.
    pub(super) distance: Option<u64>,
    /// The text before the word.
    pub(super) before: String,
    /// The text around its last occurrence: before and after it.
    pub(super) last: Option<[String; 2]>,
}

/// A line of `brt score --jsonl`.
#[derive(Deserialize)]
struct Line {
    file: String,
    text: String,
    nats: Option<f64>,
}

impl WordGains {
    /// Compares the scores of two models on the same documents (files of `brt score --jsonl`).
    pub(super) fn new(
        (model, scores): (&str, &Path),
        (against, other_scores): (&str, &Path),
        window_len: u64,
        per_document: usize,
    ) -> Result<Self> {
        let (one, other) = (read(scores)?, read(other_scores)?);
        if one.keys().ne(other.keys()) || one.iter().any(|(name, scored)| scored.texts != other[name].texts) {
            return fail(format!(
                "{} and {} are not of the same texts",
                scores.display(),
                other_scores.display()
            ));
        }
        let (mut best, mut num_words, mut distances) = (vec![], 0, Distances::default());
        for (document, scored) in &one {
            let text = scored.texts.concat();
            let words = occurrences(&text, scored, &other[document]);
            num_words += words.len();
            distances.add(&words, window_len);
            best.extend(top(words, per_document).iter().map(|word| word.gain(document, &text)));
        }
        Ok(Self {
            model: model.into(),
            against: against.into(),
            window_len,
            num_documents: one.len(),
            num_words,
            by_distance: distances.means(window_len),
            best,
        })
    }

    /// Returns how many of the best words are names or identifiers.
    pub(super) fn num_names(&self) -> usize {
        self.best.iter().filter(|gain| is_name(&gain.word)).count()
    }

    /// Returns how many of the best words had not occurred in the window.
    pub(super) fn num_outside_window(&self) -> usize {
        self.best
            .iter()
            .filter(|gain| gain.distance.is_none_or(|distance| distance > self.window_len))
            .count()
    }

    /// Returns how many of the best words had occurred before the window.
    pub(super) fn num_recalled(&self) -> usize {
        self.best
            .iter()
            .filter(|gain| gain.distance.is_some_and(|distance| distance > self.window_len))
            .count()
    }
}

/// Gains by bucket of distances; of words that had not occurred where there is none: their number, the mean of each
/// document.
#[derive(Default)]
struct Distances(BTreeMap<Option<u64>, (usize, Vec<Vec<f64>>)>);

impl Distances {
    fn add(&mut self, words: &[Occurrence<'_>], window_len: u64) {
        let mut of_document: BTreeMap<Option<u64>, Vec<f64>> = BTreeMap::new();
        for word in words {
            let bucket = word.distance.map(|distance| bucket(distance, window_len));
            of_document.entry(bucket).or_default().push(word.bits);
        }
        for (bucket, bits) in of_document {
            let (count, means) = self.0.entry(bucket).or_default();
            *count += bits.len();
            means.push(vec![mean(bits)]);
        }
    }

    fn means(self, window_len: u64) -> Vec<DistanceGain> {
        let gain = |(bucket, (num_words, means)): (Option<u64>, (usize, Vec<Vec<f64>>))| DistanceGain {
            start: bucket.filter(|start| *start > window_len).unwrap_or(0),
            end: bucket.map(|start| if start <= window_len { window_len + 1 } else { start * 4 }),
            num_words,
            bits: mean(means.iter().flatten().copied()),
            interval: interval_of_mean(&means),
        };
        self.0.into_iter().map(gain).collect()
    }
}

/// Returns whether a word looks like a name or an identifier: a capital letter, an underscore or a digit in it.
pub(super) fn is_name(word: &str) -> bool {
    word.chars().any(|c| c.is_uppercase() || c == '_' || c.is_ascii_digit())
}

/// Returns the 95 % interval of a share after Wilson; 0 to 1 for none.
pub(super) fn share_interval(count: usize, of: usize) -> [f64; 2] {
    if of == 0 {
        return [0., 1.];
    }
    let (n, z) = (of as f64, 1.959_964);
    let share = count as f64 / n;
    let centre = share + z * z / (2. * n);
    let half = z * (share * (1. - share) / n + z * z / (4. * n * n)).sqrt();
    let norm = 1. + z * z / n;
    [(centre - half) / norm, (centre + half) / norm]
}

/// Returns which bucket a distance falls into: `W` stands for the window `1..=W`, the others begin at `(W + 1) · 4ⁿ`.
fn bucket(distance: u64, window_len: u64) -> u64 {
    let mut start = window_len;
    if distance <= window_len {
        return start;
    }
    start += 1;
    while distance >= start * 4 {
        start *= 4;
    }
    start
}

fn read(path: &Path) -> Result<BTreeMap<String, Scored>> {
    let context = || format!("reading {}", path.display());
    let mut documents: BTreeMap<String, Scored> = BTreeMap::new();
    for line in BufReader::new(File::open(path).context(context)?).lines() {
        let line: Line = serde_json::from_str(&line.context(context)?).context(context)?;
        let scored = documents.entry(line.file).or_default();
        scored.texts.push(line.text);
        scored.nats.push(line.nats.unwrap_or(0.));
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{super::occurrences::BITS_PER_NAT, *};

    /// Writes scores of one document.
    fn scores(tokens: &[(&str, f64)]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for (text, bits) in tokens {
            let nats = (*bits > 0.).then(|| bits / BITS_PER_NAT);
            let line = serde_json::json!({"file": "d", "idx": 0, "token": 1, "text": text, "nats": nats});
            writeln!(file, "{line}").unwrap();
        }
        file
    }

    #[test]
    fn words_get_the_nats_of_their_tokens_and_their_distances() {
        // Tokens as a byte pair tokenizer cuts them: a space before a word, a word in two, a sign behind it, one that
        // ends a word and begins the next.
        let texts = ["The", " Al", "ice", ", the", " cat", ". an", " Al", "ice saw", " the", " éa_1"];
        let model = [0., 1., 1., 1., 1., 1., 1., 0.5, 1., 2.];
        let other = [0., 1., 1., 1., 1., 1., 4., 2.5, 1.25, 2.];
        let tokens = |bits: &[f64]| texts.iter().copied().zip(bits.iter().copied()).collect::<Vec<_>>();
        let [model, other] = [scores(&tokens(&model)), scores(&tokens(&other))];
        let found = WordGains::new(("m", model.path()), ("o", other.path()), 4, 2).unwrap();
        assert_eq!((found.num_documents, found.num_words), (1, 8));
        let best: Vec<_> = found
            .best
            .iter()
            .map(|gain| (gain.word.as_str(), (gain.bits * 1e6).round() / 1e6, gain.distance))
            .collect();
        // Alice: 4 + 2.5 − 1 − 0.5 bits, five tokens after the first; "the" has capitals and small letters apart.
        assert_eq!(best, [("Alice", 5., Some(5)), ("the", 0.25, Some(5))]);
        assert_eq!(found.best[0].before, "The Alice, the cat. an ");
        assert_eq!(found.best[0].last, Some(["The ".into(), ", the cat. an Alice saw the éa_1".into()]));
        assert_eq!((found.num_names(), found.num_outside_window(), found.num_recalled()), (1, 2, 2));
        let distances: Vec<_> = found.by_distance.iter().map(|d| (d.start, d.end, d.num_words)).collect();
        assert_eq!(distances, [(0, None, 6), (5, Some(20), 2)]);
        assert!((found.by_distance[1].bits - 2.625).abs() < 1e-9);

        let short = scores(&[("The", 1.)]);
        let error = WordGains::new(("m", model.path()), ("o", short.path()), 4, 2).unwrap_err();
        assert!(error.message.contains("are not of the same texts"), "{}", error.message);
    }

    #[test]
    fn distances_fall_into_windows_times_powers_of_four() {
        let starts: Vec<_> = [1, 16, 17, 67, 68, 271, 272].map(|distance| bucket(distance, 16)).into();
        assert_eq!(starts, [16, 16, 17, 17, 68, 68, 272]);
    }

    #[test]
    fn names_and_shares() {
        assert_eq!(["Emma", "num_rows", "u32", "walked"].map(is_name), [true, true, true, false]);
        // Wilson's interval for 17 of 20.
        let [low, high] = share_interval(17, 20);
        assert!((low - 0.640).abs() < 1e-3 && (high - 0.948).abs() < 1e-3, "[{low}, {high}]");
        assert_eq!(share_interval(0, 0), [0., 1.]);
    }
}
