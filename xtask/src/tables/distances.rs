//! Gains of words by how far back they last occurred.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::occurrences::Occurrence;
use crate::report::{interval_of_mean, mean};

/// Words whose last occurrence in the document lies `start..end` tokens back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DistanceGain {
    pub(super) start: u64,
    /// Absent for words that had not occurred.
    pub(super) end: Option<u64>,
    pub(super) num_words: usize,
    /// Mean gain of a word, in bits.
    pub(super) bits: f64,
    /// 95 % interval over groups of documents.
    pub(super) interval: Option<[f64; 2]>,
}

/// Gains by bucket of distances; of words that had not occurred where there is none.
#[derive(Default)]
pub(super) struct Distances(BTreeMap<Option<u64>, Gains>);

/// Gains of the words of one bucket, in bits, by group of documents.
type Gains = BTreeMap<String, Vec<f64>>;

impl Distances {
    /// Adds the words of a document.
    pub(super) fn add(&mut self, group: &str, words: &[Occurrence<'_>], window_len: u64) {
        for word in words {
            let bucket = word.distance.map(|distance| bucket(distance, window_len));
            self.0.entry(bucket).or_default().entry(group.to_owned()).or_default().push(word.bits);
        }
    }

    /// Returns the mean gain of each bucket.
    pub(super) fn means(self, window_len: u64) -> Vec<DistanceGain> {
        let gain = |(bucket, gains): (Option<u64>, Gains)| {
            let groups: Vec<Vec<f64>> = gains.into_values().collect();
            DistanceGain {
                start: bucket.filter(|start| *start > window_len).unwrap_or(0),
                end: bucket.map(|start| if start <= window_len { window_len + 1 } else { start * 4 }),
                num_words: groups.iter().map(Vec::len).sum(),
                bits: mean(groups.iter().flatten().copied()),
                interval: interval_of_mean(&groups),
            }
        };
        self.0.into_iter().map(gain).collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_fall_into_windows_times_powers_of_four() {
        let starts: Vec<_> = [1, 16, 17, 67, 68, 271, 272].map(|distance| bucket(distance, 16)).into();
        assert_eq!(starts, [16, 16, 17, 17, 68, 68, 272]);
    }
}
