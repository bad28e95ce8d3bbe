//! What the results of all runs say together.

use std::collections::BTreeMap;

use brt_report::RunResult;
use serde::{Deserialize, Serialize};

use super::{plan::Plan, run::RunOutcome, verdict};
use crate::report::{Difference, Scores, difference, mean, mean_bits};

/// Statistics of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Statistics {
    /// The answer in one sentence.
    pub(super) verdict: String,
    /// What a reader must know before believing it.
    pub(super) notes: Vec<String>,
    /// One entry per contestant with a finished run, in the order of the request.
    pub(super) contestants: Vec<ContestantStatistics>,
}

/// Means over the seeds of one contestant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ContestantStatistics {
    pub(super) name: String,
    /// The seeds that finished.
    pub(super) seeds: Vec<u64>,
    /// Mean over documents and seeds.
    pub(super) bits_per_byte: f64,
    /// Mean over documents, for each seed.
    pub(super) bits_per_byte_by_seed: Vec<f64>,
    /// The same with the recurrent state reset in every segment.
    pub(super) bits_per_byte_state_reset: Option<f64>,
    /// The difference to the baseline; absent for the baseline and where nothing can be paired.
    pub(super) difference: Option<Difference>,
    /// Time per token of a training step relative to the baseline's: median over rounds of the ratios.
    pub(super) relative_step_time: Option<f64>,
    /// Largest resident memory of a run.
    pub(super) peak_bytes: u64,
    /// Loss by position in the document, mean over seeds.
    pub(super) by_position: Vec<PositionMean>,
}

/// The loss on tokens whose position lies in `start_token..end_token`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PositionMean {
    pub(super) start_token: u64,
    pub(super) end_token: u64,
    pub(super) bits_per_token: f64,
}

/// Results of one contestant by seed.
type BySeed<'a> = BTreeMap<u64, &'a RunResult>;

fn scores<'a>(results: &BySeed<'a>) -> Scores<'a> {
    results.iter().map(|(seed, result)| (*seed, &result.test)).collect()
}

impl Statistics {
    /// Computes the statistics of all finished runs.
    pub(super) fn new(plan: &Plan, outcomes: &[RunOutcome]) -> Self {
        let by_seed = |name: &str| -> BySeed<'_> {
            let of_name = outcomes.iter().filter(|outcome| outcome.run.contestant == name);
            of_name.filter_map(|outcome| Some((outcome.run.seed, outcome.result.as_ref()?))).collect()
        };
        let baseline = by_seed(&plan.baseline);
        let mut contestants = vec![];
        for name in &plan.request.contestants {
            let results = by_seed(name);
            if results.is_empty() {
                continue;
            }
            let mut entry = ContestantStatistics::new(name, &results, plan);
            if *name != plan.baseline {
                entry.difference = difference(&[(scores(&results), scores(&baseline))]);
            }
            contestants.push(entry);
        }
        let mut statistics = Self { verdict: String::new(), notes: verdict::notes(outcomes), contestants };
        statistics.verdict = verdict::verdict(plan, &statistics, outcomes);
        statistics
    }

    /// Returns a contestant's entry, where it has one.
    pub(super) fn of(&self, name: &str) -> Option<&ContestantStatistics> {
        self.contestants.iter().find(|contestant| contestant.name == name)
    }
}

impl ContestantStatistics {
    fn new(name: &str, results: &BySeed<'_>, plan: &Plan) -> Self {
        let by_seed: Vec<f64> = results.values().map(|result| mean_bits(&result.test)).collect();
        let resets: Vec<f64> =
            results.values().filter_map(|result| result.test_state_reset.as_ref().map(mean_bits)).collect();
        Self {
            name: name.to_owned(),
            seeds: results.keys().copied().collect(),
            bits_per_byte: mean(by_seed.iter().copied()),
            bits_per_byte_by_seed: by_seed,
            bits_per_byte_state_reset: (!resets.is_empty()).then(|| mean(resets)),
            difference: None,
            relative_step_time: plan.relative_step_time(name),
            peak_bytes: results.values().map(|result| result.training.peak_bytes).max().unwrap_or(0),
            by_position: by_position(results),
        }
    }
}

/// Returns the mean over seeds of the loss in each bucket with tokens.
fn by_position(results: &BySeed<'_>) -> Vec<PositionMean> {
    let mut buckets: BTreeMap<(u64, u64), Vec<f64>> = BTreeMap::new();
    for bucket in results.values().flat_map(|result| &result.test.by_position) {
        if bucket.num_tokens > 0 {
            buckets.entry((bucket.start_token, bucket.end_token)).or_default().push(bucket.bits_per_token());
        }
    }
    let entry = |((start_token, end_token), bits)| PositionMean {
        start_token,
        end_token,
        bits_per_token: mean(bits),
    };
    buckets.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::fixture;

    #[test]
    fn differences_pair_documents_and_seeds() {
        let plan = fixture::plan(&["slide", "rec"], 2);
        // Seed 2 of the baseline failed: only seed 1 can be paired.
        let outcomes = vec![
            fixture::outcome("slide", 1, &[2., 3.]),
            fixture::failed("slide", 2),
            fixture::outcome("rec", 1, &[1.5, 2.9]),
            fixture::outcome("rec", 2, &[1., 1.]),
        ];
        let statistics = Statistics::new(&plan, &outcomes);
        let rec = statistics.of("rec").unwrap();
        assert_eq!(rec.seeds, [1, 2]);
        assert!((rec.bits_per_byte - 1.6).abs() < 1e-9);
        let difference = rec.difference.as_ref().unwrap();
        assert!((difference.mean + 0.3).abs() < 1e-9);
        let [low, high] = difference.interval.unwrap();
        // Of eight documents, one to seven have the larger difference: means of 0.15 to 0.45.
        assert!((low + 0.45).abs() < 1e-9 && (high + 0.15).abs() < 1e-9, "[{low}, {high}]");
        assert_eq!((difference.num_documents, difference.num_groups, difference.by_seed.len()), (8, 8, 1));
        assert_eq!(statistics.of("slide").unwrap().difference, None);
        assert_eq!(rec.relative_step_time, Some(1.));
    }
}
