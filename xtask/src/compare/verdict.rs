//! The answer in one sentence, and what a reader must know before believing it.

use std::collections::BTreeSet;

use super::{plan::Plan, run::RunOutcome, statistics::Statistics};
use crate::{report::Difference, runs::SMOKE_STEPS};

/// Returns whether the challenger beats the baseline, and by how much.
pub(super) fn verdict(plan: &Plan, statistics: &Statistics, outcomes: &[RunOutcome]) -> String {
    let baseline = &plan.baseline;
    let Some(challenger) = &plan.challenger else {
        return format!("no verdict: {baseline} has nothing to be compared with");
    };
    for name in [baseline, challenger] {
        if statistics.of(name).is_none() {
            return format!("no verdict: {name} has no finished run");
        }
    }
    match statistics.of(challenger).and_then(|entry| entry.difference.as_ref()) {
        Some(difference) => match smoke_steps(outcomes) {
            Some(steps) => format!(
                "undecided at this budget: a smoke run of {steps} steps says nothing about trained models \
                 ({challenger} minus {baseline}: {:+.4} bits/byte)",
                difference.mean
            ),
            None => sentence(challenger, baseline, difference),
        },
        None => format!("no verdict: {challenger} and {baseline} share no seed and document"),
    }
}

fn sentence(challenger: &str, baseline: &str, difference: &Difference) -> String {
    let Difference { mean, interval, by_seed, num_documents, num_groups } = difference;
    let seeds = count(by_seed.len(), "seed");
    let documents = match num_groups == num_documents {
        true => count(*num_documents, "document"),
        false => format!("{} in {}", count(*num_documents, "document"), count(*num_groups, "group")),
    };
    let size = format!("{:.4} bits/byte", mean.abs());
    match interval {
        None => {
            let side = if *mean < 0. { "better" } else { "worse" };
            format!(
                "no verdict: {challenger} is {size} {side} than {baseline} on {documents} ({seeds}), \
                 which gives no interval"
            )
        }
        Some([low, high]) if *high < 0. => format!(
            "{challenger} beats {baseline} by {size} (95 % interval [{:.4}, {:.4}], {documents}, {seeds})",
            -high, -low
        ),
        Some([low, high]) if *low > 0. => format!(
            "{challenger} is worse than {baseline} by {size} (95 % interval [{low:.4}, {high:.4}], {documents}, {seeds})"
        ),
        Some([low, high]) => format!(
            "undecided at this budget: {challenger} minus {baseline} is {mean:+.4} bits/byte, and its 95 % interval \
             [{low:+.4}, {high:+.4}] contains 0 ({documents}, {seeds})"
        ),
    }
}

/// Returns what weakens the comparison: failed runs, and runs that differ in what should be equal.
pub(super) fn notes(outcomes: &[RunOutcome]) -> Vec<String> {
    let mut notes = vec![];
    for outcome in outcomes {
        if let Some(failure) = &outcome.failure {
            let last = failure.lines().last().unwrap_or_default();
            notes.push(format!("{} failed: {last}", outcome.run.name()));
        }
    }
    let results = || outcomes.iter().filter_map(|outcome| outcome.result.as_ref());
    let mut differ = |name: &str, values: BTreeSet<String>| {
        if values.len() > 1 {
            let values: Vec<_> = values.into_iter().collect();
            notes.push(format!("the runs differ in {name}: {}", values.join(", ")));
        }
    };
    differ("corpus", results().map(|r| r.corpus_sha256.clone()).collect());
    differ("trained tokens", results().map(|r| r.training.num_tokens.to_string()).collect());
    differ("commit", results().map(|r| r.build.commit.clone()).collect());
    differ("libtorch", results().map(|r| r.build.libtorch_version.clone()).collect());
    differ("processor", results().map(|r| r.machine.cpu.clone()).collect());
    differ("device", results().map(|r| r.machine.device.clone()).collect());
    if results().any(|result| result.build.commit.ends_with("-dirty")) {
        notes.push("the program was built from files that differ from its commit".into());
    }
    notes
}

/// Returns the number of steps of the shortest run, where it is too short for a verdict.
fn smoke_steps(outcomes: &[RunOutcome]) -> Option<u64> {
    let steps = outcomes.iter().filter_map(|outcome| Some(outcome.result.as_ref()?.training.num_steps));
    steps.min().filter(|steps| *steps < SMOKE_STEPS)
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::fixture;

    #[test]
    fn sentences() {
        let say = |mean, interval, num_documents| {
            sentence(
                "rec",
                "slide",
                &Difference {
                    mean,
                    interval,
                    num_documents,
                    num_groups: num_documents.min(39),
                    by_seed: [1, 2, 3].map(|seed| (seed, mean)).into(),
                },
            )
        };
        assert_eq!(
            say(-0.0123, Some([-0.02, -0.005]), 40),
            "rec beats slide by 0.0123 bits/byte (95 % interval [0.0050, 0.0200], 40 documents in 39 groups, 3 seeds)"
        );
        assert_eq!(
            say(0.0123, Some([0.005, 0.02]), 40),
            "rec is worse than slide by 0.0123 bits/byte (95 % interval [0.0050, 0.0200], 40 documents in 39 groups, 3 seeds)"
        );
        assert_eq!(
            say(-0.001, Some([-0.02, 0.018]), 2),
            "undecided at this budget: rec minus slide is -0.0010 bits/byte, and its 95 % interval \
             [-0.0200, +0.0180] contains 0 (2 documents, 3 seeds)"
        );
        assert_eq!(
            say(-0.5, None, 1),
            "no verdict: rec is 0.5000 bits/byte better than slide on 1 document (3 seeds), which gives no interval"
        );
    }

    #[test]
    fn a_smoke_run_is_undecided() {
        let plan = fixture::plan(&["slide", "rec"], 1);
        let mut outcomes =
            [("slide", [2., 3.]), ("rec", [1.5, 2.9])].map(|(name, bits)| fixture::outcome(name, 1, &bits));
        let decided = Statistics::new(&plan, &outcomes).verdict;
        assert!(decided.starts_with("rec beats slide by 0.3000 bits/byte"), "{decided}");
        outcomes[0].result.as_mut().unwrap().training.num_steps = 66;
        assert_eq!(
            Statistics::new(&plan, &outcomes).verdict,
            "undecided at this budget: a smoke run of 66 steps says nothing about trained models \
             (rec minus slide: -0.3000 bits/byte)"
        );
    }

    #[test]
    fn failed_and_unequal_runs_are_noted() {
        let plan = fixture::plan(&["slide", "rec"], 1);
        let mut other = fixture::outcome("rec", 1, &[2.]);
        other.result.as_mut().unwrap().build.commit = "b".into();
        let outcomes = [fixture::outcome("slide", 1, &[2.]), other];
        assert_eq!(notes(&outcomes), ["the runs differ in commit: a, b"]);
        let outcomes = [fixture::outcome("slide", 1, &[2.]), fixture::failed("rec", 1)];
        let statistics = Statistics::new(&plan, &outcomes);
        assert_eq!(statistics.notes, ["rec-seed1 failed: error: out of <memory>"]);
        assert_eq!(statistics.verdict, "no verdict: rec has no finished run");
    }
}
