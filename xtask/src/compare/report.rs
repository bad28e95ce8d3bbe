//! The report of a comparison: one record, written as JSON, Markdown, HTML and SVG.

use std::path::Path;

use brt_report::{RunResult, write_atomic, write_json};
use serde::{Deserialize, Serialize};

use super::{
    charts, html, markdown,
    plan::Plan,
    run::RunOutcome,
    statistics::{ContestantStatistics, Statistics},
};
use crate::failure::Result;

/// `report.json`: everything raw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(super) plan: Plan,
    pub(super) statistics: Statistics,
    pub(super) outcomes: Vec<RunOutcome>,
}

impl Report {
    /// Computes the statistics of finished runs.
    pub(super) fn new(plan: Plan, outcomes: Vec<RunOutcome>) -> Self {
        Self { statistics: Statistics::new(&plan, &outcomes), plan, outcomes }
    }

    /// Writes `report.{json,md,html}` and the plots.
    pub(super) fn write(&self, out: &Path) -> Result {
        write_json(&out.join("report.json"), self)?;
        let plots = charts::all(self);
        for (name, svg) in &plots {
            write_atomic(&out.join(name), svg.as_bytes())?;
        }
        write_atomic(&out.join("report.md"), markdown::report(self, &plots).as_bytes())?;
        write_atomic(&out.join("report.html"), html::page(self, &plots).as_bytes())?;
        Ok(())
    }

    /// Returns what the report lacks: runs without a result, numbers that are not finite, intervals that are absent.
    pub(crate) fn gaps(&self) -> Vec<String> {
        let mut gaps = vec![];
        for outcome in self.outcomes.iter().filter(|outcome| outcome.result.is_none()) {
            gaps.push(format!("{} has no result", outcome.run.name()));
        }
        for name in &self.plan.request.contestants {
            let Some(entry) = self.statistics.of(name) else {
                gaps.push(format!("{name} has no statistics"));
                continue;
            };
            if !entry.bits_per_byte.is_finite() {
                gaps.push(format!("the bits per byte of {name} are not a number"));
            }
            let interval = entry.difference.as_ref().and_then(|difference| difference.interval);
            if *name != self.plan.baseline
                && !interval.is_some_and(|ends| ends.iter().all(|end| end.is_finite()))
            {
                gaps.push(format!("the difference of {name} to {} has no interval", self.plan.baseline));
            }
            if entry.by_position.is_empty() {
                gaps.push(format!("{name} has no loss by position"));
            }
            if entry.relative_step_time.is_none() {
                gaps.push(format!("{name} has no step time"));
            }
            if entry.peak_bytes == 0 {
                gaps.push(format!("{name} has no peak memory"));
            }
            if name.starts_with("rec") && entry.bits_per_byte_state_reset.is_none() {
                gaps.push(format!("{name} was not scored with its state reset"));
            }
        }
        gaps
    }

    /// Returns the results of all finished runs.
    pub(super) fn results(&self) -> impl Iterator<Item = &RunResult> {
        self.outcomes.iter().filter_map(|outcome| outcome.result.as_ref())
    }

    /// Returns the results of one contestant.
    pub(super) fn results_of(&self, name: &str) -> impl Iterator<Item = &RunResult> {
        let of_name = self.outcomes.iter().filter(move |outcome| outcome.run.contestant == name);
        of_name.filter_map(|outcome| outcome.result.as_ref())
    }

    /// Returns the result of a contestant's first finished seed.
    pub(super) fn first_result(&self, name: &str) -> Option<&RunResult> {
        self.results_of(name).next()
    }

    /// Returns challenger and baseline, where both have finished runs.
    pub(super) fn pair(&self) -> Option<(&ContestantStatistics, &ContestantStatistics)> {
        let challenger = self.statistics.of(self.plan.challenger.as_deref()?)?;
        Some((challenger, self.statistics.of(&self.plan.baseline)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::fixture;

    #[test]
    fn gaps_are_found() {
        let whole = || {
            let plan = fixture::plan(&["slide", "rec"], 1);
            let outcomes =
                vec![fixture::outcome("slide", 1, &[2., 3.]), fixture::outcome("rec", 1, &[1.5, 2.9])];
            Report::new(plan, outcomes)
        };
        assert_eq!(whole().gaps(), Vec::<String>::new());
        let broken = |break_it: &dyn Fn(&mut RunResult)| {
            let mut report = whole();
            break_it(report.outcomes[1].result.as_mut().unwrap());
            Report::new(report.plan, report.outcomes).gaps()
        };
        assert_eq!(broken(&|r| r.training.peak_bytes = 0), ["rec has no peak memory"]);
        assert_eq!(broken(&|r| r.test_state_reset = None), ["rec was not scored with its state reset"]);
        assert_eq!(broken(&|r| r.test.by_position.clear()), ["rec has no loss by position"]);
        assert_eq!(
            broken(&|r| r.test.documents.truncate(2)),
            ["the difference of rec to slide has no interval"]
        );
        let mut report = whole();
        report.outcomes[1] = fixture::failed("rec", 1);
        let gaps = Report::new(report.plan, report.outcomes).gaps();
        assert_eq!(gaps, ["rec-seed1 has no result", "rec has no statistics"]);
    }
}
