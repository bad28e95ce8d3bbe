//! Differences of models on the same documents with the same seeds.

use std::collections::BTreeMap;

use brt_report::Evaluation;
use serde::{Deserialize, Serialize};

use super::interval_of_mean;

/// Losses of one model by seed.
pub(crate) type Scores<'a> = BTreeMap<u64, &'a Evaluation>;

/// A paired difference in bits per byte; below 0 the first model is better than the second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Difference {
    pub(crate) mean: f64,
    /// 95 % interval over groups of documents; absent for too few groups.
    pub(crate) interval: Option<[f64; 2]>,
    /// The mean for each seed that both have.
    pub(crate) by_seed: BTreeMap<u64, f64>,
    pub(crate) num_documents: usize,
    /// Number of groups of documents that belong together.
    pub(crate) num_groups: usize,
}

/// A document: its place in the split, its group and its name.
type Document<'a> = (usize, &'a str, &'a str);

/// Returns the bits per byte of each document with text.
fn document_bits(evaluation: &Evaluation) -> BTreeMap<Document<'_>, f64> {
    let scored = evaluation.documents.iter().enumerate().filter(|(_, document)| document.num_bytes > 0);
    scored.map(|(place, d)| ((place, d.group.as_str(), d.name.as_str()), d.bits_per_byte())).collect()
}

/// Returns the mean bits per byte over documents; NaN for none.
pub(crate) fn mean_bits(evaluation: &Evaluation) -> f64 {
    mean(document_bits(evaluation).into_values())
}

/// Returns the difference of the first and second models of all pairs, averaged over the pairs, over the seeds and
/// documents that all of them have; nothing where there is no such seed or document.
pub(crate) fn difference(pairs: &[(Scores<'_>, Scores<'_>)]) -> Option<Difference> {
    let all: Vec<&Scores<'_>> = pairs.iter().flat_map(|(one, other)| [one, other]).collect();
    let seeds = all.first()?.keys().filter(|seed| all.iter().all(|scores| scores.contains_key(seed)));
    let mut by_document: BTreeMap<Document<'_>, Vec<f64>> = BTreeMap::new();
    let mut by_seed = BTreeMap::new();
    for seed in seeds {
        let mut of_seed: BTreeMap<Document<'_>, Vec<f64>> = BTreeMap::new();
        for (one, other) in pairs {
            let (one, other) = (document_bits(one[seed]), document_bits(other[seed]));
            for (document, bits) in one {
                let paired = other.get(&document).map(|other| bits - other);
                of_seed.entry(document).or_default().extend(paired);
            }
        }
        of_seed.retain(|_, differences| differences.len() == pairs.len());
        if !of_seed.is_empty() {
            by_seed.insert(*seed, mean(of_seed.values().flatten().copied()));
        }
        for (document, differences) in of_seed {
            by_document.entry(document).or_default().extend(differences);
        }
    }
    let mut groups: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for ((_, group, _), differences) in &by_document {
        groups.entry(group).or_default().push(mean(differences.iter().copied()));
    }
    let groups: Vec<Vec<f64>> = groups.into_values().collect();
    let found = Difference {
        mean: mean(groups.iter().flatten().copied()),
        interval: interval_of_mean(&groups),
        by_seed,
        num_documents: by_document.len(),
        num_groups: groups.len(),
    };
    found.mean.is_finite().then_some(found)
}

/// Returns the mean; NaN for none.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0., 0u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

/// Returns the standard deviation over seeds, or nothing for fewer than two.
pub(crate) fn standard_deviation(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values.iter().copied());
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
pub(super) mod tests {
    use brt_report::{DocumentScore, StateRule};

    use super::*;

    /// Scores documents of one byte and one group each.
    pub(in crate::report) fn evaluation(bits: &[f64]) -> Evaluation {
        let document = |(i, bits): (usize, &f64)| DocumentScore {
            name: format!("document-{i}"),
            group: format!("group-{i}"),
            loss_nats: bits * std::f64::consts::LN_2,
            num_tokens: 1,
            num_bytes: 1,
            num_words: 1,
        };
        Evaluation {
            split: "test".into(),
            state_rule: StateRule::Carried,
            max_document_len: 0,
            num_batches: 0,
            documents: bits.iter().enumerate().map(document).collect(),
            by_position: vec![],
        }
    }

    #[test]
    fn pairs_are_averaged_over_common_seeds_and_documents() {
        let [zero, one, two] = [[0.; 6], [1.; 6], [2.; 6]].map(|bits| evaluation(&bits));
        let short = evaluation(&[0.5; 3]);
        let a = (Scores::from([(1, &one), (2, &one)]), Scores::from([(1, &zero), (2, &two), (3, &zero)]));
        let alone = difference(std::slice::from_ref(&a)).unwrap();
        // Seed 1: 1 − 0; seed 2: 1 − 2.
        assert_eq!(alone.by_seed, BTreeMap::from([(1, 1.), (2, -1.)]));
        assert_eq!((alone.mean, alone.interval, alone.num_documents), (0., Some([0., 0.]), 6));
        // The second pair has seed 1 alone, and of it three documents: (1 + (2 − 0.5)) / 2.
        let b = (Scores::from([(1, &two)]), Scores::from([(1, &short)]));
        let both = difference(&[a, b]).unwrap();
        assert_eq!((both.mean, both.interval, both.num_documents), (1.25, None, 3));
        assert_eq!(both.by_seed, BTreeMap::from([(1, 1.25)]));
        assert_eq!(difference(&[(Scores::from([(1, &one)]), Scores::from([(2, &one)]))]), None);
        assert_eq!(difference(&[]), None);
    }

    #[test]
    fn spread_over_seeds() {
        assert_eq!(standard_deviation(&[1.]), None);
        assert_eq!(standard_deviation(&[1., 3.]), Some(2f64.sqrt()));
    }
}
