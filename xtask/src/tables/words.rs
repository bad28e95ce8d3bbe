//! Which words one model predicts better than another, and how far back they last occurred (the paper's section 4.6).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{
    distances::{DistanceGain, Distances},
    experiments::Words,
    occurrences::{Scored, extremes, occurrences},
};
use crate::{
    failure::{Context, Result, fail},
    report::{interval_of_mean, mean},
};

/// `words.json`: what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WordGains {
    pub(super) model: String,
    pub(super) against: String,
    pub(super) seed: u64,
    pub(super) per_document: usize,
    /// Window of the model that it is compared with, in tokens.
    pub(super) window_len: u64,
    pub(super) num_documents: usize,
    /// Number of words of all documents.
    pub(super) num_words: usize,
    /// How many of them look like names or identifiers, and how many had not occurred in the window.
    pub(super) num_names: usize,
    pub(super) num_outside_window: usize,
    /// Mean gains by distance to the last occurrence.
    pub(super) by_distance: Vec<DistanceGain>,
    /// The words that gain most: so many of each document, document by document.
    pub(super) best: Vec<Gain>,
    /// The words that lose most, as many. Long words gain and lose most, whatever the models: what is more frequent among
    /// the best must be so beside these.
    pub(super) worst: Vec<Gain>,
}

/// How often words are of some kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    /// Among those that gain most, and those that lose most: means over documents.
    pub(super) of_best: f64,
    pub(super) of_worst: f64,
    /// Among all.
    pub(super) of_all: f64,
    /// 95 % interval of the difference of best and worst, over groups of documents.
    pub(super) interval: Option<[f64; 2]>,
}

/// A word that gains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Gain {
    pub(super) document: String,
    pub(super) group: String,
    pub(super) word: String,
    /// Bits that the model saves.
    pub(super) bits: f64,
    /// Bits of the word for the model itself.
    pub(super) model_bits: f64,
    /// Tokens since the word last began; absent where it had not occurred.
    pub(super) distance: Option<u64>,
    /// Whether it looks like a name or an identifier.
    pub(super) is_name: bool,
    /// The text before the word.
    pub(super) before: String,
    /// The text around its last occurrence: before and after it.
    pub(super) last: Option<[String; 2]>,
}

/// A line of `brt score --jsonl`.
#[derive(Deserialize)]
struct Line {
    file: String,
    #[serde(default)]
    group: String,
    idx: usize,
    text: String,
    nats: Option<f64>,
}

impl WordGains {
    /// Compares the scores of two models on the same documents (files of `brt score --jsonl`): of the model, of the
    /// other.
    pub(super) fn new(wanted: &Words, seed: u64, scores: [&Path; 2], window_len: u64) -> Result<Self> {
        let [one, other] = [read(scores[0])?, read(scores[1])?];
        let texts = |documents: &[Scored]| documents.iter().flat_map(|d| d.texts.clone()).collect::<Vec<_>>();
        if one.len() != other.len() || texts(&one) != texts(&other) {
            let [one, other] = scores.map(|path| path.display().to_string());
            return fail(format!("{one} and {other} are not of the same texts"));
        }
        let mut found = Self {
            model: wanted.model.clone(),
            against: wanted.against.clone(),
            seed,
            per_document: wanted.per_document,
            window_len,
            num_documents: one.len(),
            num_words: 0,
            num_names: 0,
            num_outside_window: 0,
            by_distance: vec![],
            best: vec![],
            worst: vec![],
        };
        let mut distances = Distances::default();
        for (scored, other) in one.iter().zip(&other) {
            let text = scored.texts.concat();
            let words = occurrences(&text, scored, other);
            found.num_words += words.len();
            found.num_names += words.iter().filter(|word| word.is_name).count();
            found.num_outside_window += words.iter().filter(|word| found.is_outside(word.distance)).count();
            distances.add(&scored.group, &words, window_len);
            let [best, worst] = extremes(words, wanted.per_document);
            found.best.extend(best.iter().map(|word| word.gain(scored, &text)));
            found.worst.extend(worst.iter().map(|word| word.gain(scored, &text)));
        }
        found.by_distance = distances.means(window_len);
        Ok(found)
    }

    /// Returns whether they are what is wanted.
    pub(super) fn fits(&self, wanted: Option<&Words>) -> bool {
        wanted.is_some_and(|wanted| {
            let found = (&self.model, &self.against, self.per_document);
            found == (&wanted.model, &wanted.against, wanted.per_document)
        })
    }

    fn is_outside(&self, distance: Option<u64>) -> bool {
        distance.is_none_or(|distance| distance > self.window_len)
    }

    /// Returns how often words look like names or identifiers.
    pub(super) fn names(&self) -> Option<Share> {
        self.share(self.num_names, |gain| gain.is_name)
    }

    /// Returns how often words had not occurred in the window.
    pub(super) fn outside_window(&self) -> Option<Share> {
        self.share(self.num_outside_window, |gain| self.is_outside(gain.distance))
    }

    /// Returns how many of the best words had occurred before the window.
    pub(super) fn num_recalled(&self) -> usize {
        self.best
            .iter()
            .filter(|gain| gain.distance.is_some_and(|distance| distance > self.window_len))
            .count()
    }

    fn share(&self, count: usize, is: impl Fn(&Gain) -> bool) -> Option<Share> {
        // Of each document: every one has as many of the best as of the worst.
        let shares = |gains: &[Gain]| -> BTreeMap<(String, String), f64> {
            let mut by_document: BTreeMap<_, Vec<f64>> = BTreeMap::new();
            for gain in gains {
                let document = (gain.group.clone(), gain.document.clone());
                by_document.entry(document).or_default().push(f64::from(u8::from(is(gain))));
            }
            by_document.into_iter().map(|(document, ones)| (document, mean(ones))).collect()
        };
        let (best, worst) = (shares(&self.best), shares(&self.worst));
        let mut groups: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (document, of_best) in &best {
            let more = worst.get(document).map(|of_worst| of_best - of_worst);
            groups.entry(&document.0).or_default().extend(more);
        }
        let groups: Vec<Vec<f64>> = groups.into_values().collect();
        (!best.is_empty()).then(|| Share {
            of_best: mean(best.into_values()),
            of_worst: mean(worst.into_values()),
            of_all: count as f64 / self.num_words as f64,
            interval: interval_of_mean(&groups),
        })
    }
}

fn read(path: &Path) -> Result<Vec<Scored>> {
    let context = || format!("reading {}", path.display());
    let mut documents: Vec<Scored> = vec![];
    for line in BufReader::new(File::open(path).context(context)?).lines() {
        let line: Line = serde_json::from_str(&line.context(context)?).context(context)?;
        if line.idx == 0 {
            let group = if line.group.is_empty() { line.file.clone() } else { line.group };
            documents.push(Scored { name: line.file, group, texts: vec![], nats: vec![] });
        }
        if let Some(document) = documents.last_mut() {
            document.texts.push(line.text);
            document.nats.push(line.nats.unwrap_or(0.));
        }
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{super::occurrences::BITS_PER_NAT, *};

    /// Writes scores of documents with the same tokens, two in each of some groups.
    fn scores(num_groups: usize, tokens: &[(&str, f64)]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for document in 0..2 * num_groups {
            for (idx, (text, bits)) in tokens.iter().enumerate() {
                let nats = (*bits > 0.).then(|| bits / BITS_PER_NAT);
                let (file_name, group) = (format!("d{document}"), format!("g{}", document / 2));
                let line = serde_json::json!({
                    "file": file_name, "group": group, "idx": idx, "token": 1, "text": text, "nats": nats
                });
                writeln!(file, "{line}").unwrap();
            }
        }
        file
    }

    fn wanted() -> Words {
        Words { model: "m".into(), against: "o".into(), documents: 1, per_document: 2 }
    }

    #[test]
    fn words_get_the_nats_of_their_tokens_and_their_distances() {
        // Tokens as a byte pair tokenizer cuts them: a space before a word, a word in two, a sign behind it, one that
        // ends a word and begins the next, and a letter in two.
        let texts = ["The", " Al", "ice", ", the", " cat", ". an", " Al", "ice saw", " the", " ", "", "éa_1"];
        let model = [0., 1., 1., 1., 1., 1., 1., 0.5, 1., 1., 1., 1.];
        let other = [0., 1., 1., 1., 1., 1., 4., 2.5, 1.25, 1., 1.125, 1.];
        let tokens = |bits: &[f64]| texts.iter().copied().zip(bits.iter().copied()).collect::<Vec<_>>();
        let [model, other] = [scores(1, &tokens(&model)), scores(1, &tokens(&other))];
        let found = WordGains::new(&wanted(), 1, [model.path(), other.path()], 4).unwrap();
        // "saw" has no token of its own.
        assert_eq!((found.num_documents, found.num_words), (2, 2 * 7));
        let gain = |gain: &Gain| (gain.word.clone(), (gain.bits * 1e6).round() / 1e6, gain.distance);
        // Alice: 4 + 2.5 − 1 − 0.5 bits, five tokens after the first; "the" has capitals and small letters apart.
        let expected = [("Alice".to_owned(), 5., Some(5)), ("the".to_owned(), 0.25, Some(5))];
        assert_eq!(found.best[..2].iter().map(gain).collect::<Vec<_>>(), expected);
        assert_eq!(found.best[2..].iter().map(gain).collect::<Vec<_>>(), expected);
        assert_eq!(found.best[0].before, "The Alice, the cat. an ");
        assert_eq!(found.best[0].last, Some(["The ".into(), ", the cat. an Alice saw the éa_1".into()]));
        // Names: Alice twice and éa_1, but not The, which occurs in small letters.
        assert_eq!((found.num_names, found.num_outside_window, found.num_recalled()), (2 * 3, 2 * 7, 4));
        // Those that gain least stand in for losers: The and Alice, in the order of the text.
        let names = found.names().unwrap();
        assert_eq!((names.of_best, names.of_worst, names.interval), (0.5, 0.5, None));
        assert!((names.of_all - 3. / 7.).abs() < 1e-9);
        let distances: Vec<_> = found.by_distance.iter().map(|d| (d.start, d.end, d.num_words)).collect();
        assert_eq!(distances, [(0, None, 2 * 5), (5, Some(20), 2 * 2)]);
        assert!((found.by_distance[1].bits - 2.625).abs() < 1e-9);

        let short = scores(1, &[("The", 1.)]);
        let error = WordGains::new(&wanted(), 1, [model.path(), short.path()], 4).unwrap_err();
        assert!(error.message.contains("are not of the same texts"), "{}", error.message);
        assert!(found.fits(Some(&wanted())) && !found.fits(None));
        assert!(!found.fits(Some(&Words { per_document: 3, ..wanted() })));
    }

    #[test]
    fn what_gains_is_set_against_what_loses() {
        // A name gains where it comes again, out of the window; small words lose.
        let tokens = ["x ", "Alice ", "the ", "cat ", "and ", "dog ", "saw ", "Alice"];
        let bits = |of: [f64; 8]| tokens.into_iter().zip(of).collect::<Vec<_>>();
        let model = scores(6, &bits([0., 8., 9., 9., 4., 4., 4., 1.]));
        let other = scores(6, &bits([0., 8., 5., 5., 4., 4., 4., 9.]));
        let wanted = Words { per_document: 1, ..wanted() };
        let found = WordGains::new(&wanted, 1, [model.path(), other.path()], 4).unwrap();
        let [names, outside] = [found.names().unwrap(), found.outside_window().unwrap()];
        assert_eq!((names.of_best, names.of_worst, names.interval), (1., 0., Some([1., 1.])));
        // Words that had not occurred are outside, too.
        assert_eq!((outside.of_best, outside.of_worst, outside.interval), (1., 1., Some([0., 0.])));
        assert_eq!((found.worst.len(), found.worst[0].word.as_str()), (12, "the"));
        // Means over words, not over documents; six groups of two.
        let never = found.by_distance.iter().find(|gain| gain.end.is_none()).unwrap();
        assert_eq!((never.num_words, never.interval.is_some()), (12 * 6, true));
        assert!((never.bits + 8. / 6.).abs() < 1e-9, "{}", never.bits);
    }
}
