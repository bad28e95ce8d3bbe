//! Step times of every row, each taken in turn with the baseline's in one process before anything is trained.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use brt_report::{ContestantTiming, MachineFacts, TimingResult, read_json};
use serde::Serialize;

use super::{
    budget::Budget,
    experiments::{Experiments, Measure},
    request::Request,
};
use crate::{
    failure::{Context, Result, fail},
    report::interval_of_median,
    runs, tools, ui,
};

/// Measured steps of each row; more of those whose time is claimed to be something, fewer in a dry run.
const ROUNDS: u64 = 12;
const CLAIM_ROUNDS: u64 = 60;
const DRY_ROUNDS: u64 = 3;

/// Step times by row.
#[derive(Debug, Default)]
pub(super) struct Timings {
    baseline: String,
    by_row: BTreeMap<String, TimingResult>,
    /// Time per token relative to the baseline's, of each of these rows.
    relative: BTreeMap<String, Ratio>,
}

/// A ratio of step times with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub(super) value: f64,
    /// Absent for too few rounds.
    pub(super) interval: Option<[f64; 2]>,
}

impl Timings {
    /// Reads the step times that are there and were taken beside the same baseline.
    pub(super) fn read(request: &Request) -> Result<Self> {
        let baseline = request.experiments.file.baseline.clone();
        let mut found = Self { baseline, ..Self::default() };
        for row in Experiments::row_names(&request.experiments.file.tables) {
            let path = path(request, row);
            if path.exists() {
                let timing: TimingResult = read_json(&path, "the step times of a row")?;
                let names = timing.contestants.iter().map(|timed| timed.name.as_str());
                if names.eq([found.baseline.as_str(), row]) {
                    found.add(row, timing);
                }
            }
        }
        Ok(found)
    }

    /// Takes the step times of the wanted rows, and of the baseline, that are missing or were taken otherwise; returns the
    /// rows of which none could be taken, with why.
    pub(super) fn complete(&mut self, brt: &Path, request: &Request) -> Result<Vec<(String, String)>> {
        let baseline = self.baseline.clone();
        let wanted = request.rows().into_iter().filter(|row| *row != baseline);
        let is_missing = |row: &&str| !self.by_row.get(*row).is_some_and(|timing| fits(timing, request));
        let missing: Vec<&str> =
            std::iter::once(baseline.as_str()).chain(wanted).filter(is_missing).collect();
        let mut failures = vec![];
        for (i, row) in missing.iter().enumerate() {
            if runs::interrupted() {
                break;
            }
            ui::headline(&format!("step times {} of {}: {row}", i + 1, missing.len()));
            match take(brt, request, &baseline, row) {
                Ok(timing) => self.add(row, timing),
                // Nothing can be timed, then.
                Err(failure) if *row == baseline => return Err(failure),
                Err(failure) => {
                    failures.push(((*row).to_owned(), format!("no step times: {}", failure.message)))
                }
            }
        }
        Ok(failures)
    }

    fn add(&mut self, row: &str, timing: TimingResult) {
        if let [baseline, timed] = &timing.contestants[..] {
            let (value, ratios) = (timed.relative_to(baseline), timed.ratios_to(baseline));
            let ratio = match row == self.baseline {
                true => Ratio { value: 1., interval: Some([1., 1.]) },
                false => Ratio { value, interval: interval_of_median(&ratios) },
            };
            self.relative.extend(ratio.value.is_finite().then(|| (row.to_owned(), ratio)));
        }
        self.by_row.insert(row.into(), timing);
    }

    /// Returns what was measured of a row.
    pub(super) fn row(&self, row: &str) -> Option<&ContestantTiming> {
        self.by_row.get(row).and_then(|timing| timing.contestants.last())
    }

    /// Returns any of the measurements, for what they have in common.
    pub(super) fn any(&self) -> Option<&TimingResult> {
        self.by_row.get(&self.baseline).or_else(|| self.by_row.values().next())
    }

    /// Returns a row's time per token relative to the baseline's: the median over rounds.
    pub(super) fn relative(&self, row: &str) -> Option<Ratio> {
        self.relative.get(row).copied()
    }

    /// Returns all measurements.
    pub(super) fn all(&self) -> impl Iterator<Item = &TimingResult> {
        self.by_row.values()
    }

    /// Returns the ratio of the times of two rows; each was measured against the baseline, so their intervals add up.
    /// Nothing where one was not measured, or they were under different conditions.
    pub(super) fn ratio(&self, row: &str, other: &str) -> Option<Ratio> {
        if row == other {
            return self.row(row).map(|_| Ratio { value: 1., interval: Some([1., 1.]) });
        }
        let conditions = |row: &str| self.by_row.get(row).map(conditions);
        let is_alike = [row, other].contains(&self.baseline.as_str()) || conditions(row) == conditions(other);
        is_alike.then_some(())?;
        Some(self.relative(row)?.over(self.relative(other)?))
    }

    /// Returns the seconds that a row takes for a token, on the scale of one measurement of the baseline.
    pub(super) fn secs_per_token(&self, row: &str) -> Option<f64> {
        let baseline = self.any()?.contestants.first()?;
        let secs = baseline.median_step_secs() / baseline.tokens_per_step as f64;
        Some(self.relative(row)?.value * secs)
    }
}

impl Ratio {
    /// Returns the quotient of two independent ratios: distances to the ends add up as squares of logarithms.
    fn over(self, other: Self) -> Self {
        let value = self.value / other.value;
        let interval = self.interval.zip(other.interval).map(|(one, other_ends)| {
            let distance = |end: f64, value: f64| (end / value).ln();
            let low = distance(one[0], self.value).hypot(distance(other_ends[1], other.value));
            let high = distance(one[1], self.value).hypot(distance(other_ends[0], other.value));
            [value * (-low).exp(), value * high.exp()]
        });
        Self { value, interval }
    }
}

fn path(request: &Request, row: &str) -> PathBuf {
    // A dry run's few rounds are not the measurement.
    let folder = if request.dry_run { "timing-dry" } else { "timing" };
    request.out.join(folder).join(format!("{row}.json"))
}

/// Returns what step times depend on: device, threads, and into how many parts steps were divided of which one was
/// timed.
pub(super) fn conditions(timing: &TimingResult) -> (String, u64, Vec<u64>) {
    let parts =
        |timed: &ContestantTiming| timed.num_tokens / (timed.tokens_per_step * timed.num_steps).max(1);
    let MachineFacts { device, num_threads, .. } = &timing.machine;
    (device.clone(), *num_threads, timing.contestants.iter().map(parts).collect())
}

/// Returns whether step times were taken as they would be now. Those that decide how long rows are trained stay as they
/// are.
fn fits(timing: &TimingResult, request: &Request) -> bool {
    let Some(slot) = request.slots.first() else { return true };
    let (device, num_threads, parts) = conditions(timing);
    let is_whole = parts.iter().all(|parts| *parts == 1);
    let is_here = slot.device.as_ref().is_none_or(|name| (name == "cpu") == (device == "cpu"));
    matches!(request.budget, Some(Budget::Minutes(_)))
        || (is_here
            && num_threads == slot.num_threads as u64
            && is_whole == request.parts.is_none_or(|parts| parts == 1))
}

/// Returns how many steps of a row are measured.
fn rounds(request: &Request, row: &str) -> u64 {
    let of_time = request.experiments.file.claims.iter().filter(|claim| claim.measure == Measure::StepTime);
    let is_claimed = of_time.flat_map(|claim| claim.of.iter().chain(&claim.against)).any(|name| name == row);
    match (request.dry_run, is_claimed) {
        (true, _) => DRY_ROUNDS,
        (_, true) => CLAIM_ROUNDS,
        (_, false) => ROUNDS,
    }
}

fn take(brt: &Path, request: &Request, baseline: &str, row: &str) -> Result<TimingResult> {
    let path = path(request, row);
    let folder = path.parent().unwrap_or(&path);
    fs::create_dir_all(folder).context(|| format!("creating {}", folder.display()))?;
    let Some(slot) = request.slots.first() else { return fail("--devices: expected at least one") };
    let rounds = rounds(request, row);
    let mut command = Command::new(brt);
    command.arg("time").arg(request.experiments.config(baseline)).arg(request.experiments.config(row));
    command.arg("--data").arg(request.data()).args(["--rounds", &rounds.to_string()]);
    command.args(["--threads", &slot.num_threads.to_string()]);
    command.args(slot.device.iter().flat_map(|device| ["--device", device]));
    if let Some(parts) = request.parts {
        command.args(["--parts", &parts.to_string()]);
    }
    for (key, value) in request.experiments.set() {
        command.args([format!("--{key}"), value]);
    }
    command.arg("--out").arg(&path);
    tools::run_and_quote("brt time", &mut command)?;
    Ok(read_json(&path, "the step times of a row")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_step_times_has_no_ratio() {
        let timings = Timings { baseline: "slide".into(), ..Timings::default() };
        assert_eq!(timings.ratio("slide", "slide"), None);
        assert_eq!(timings.ratio("slide_16d", "slide_16d"), None);
    }

    #[test]
    fn quotients_of_ratios() {
        let ratio = |value, low, high| Ratio { value, interval: Some([low, high]) };
        let exact = ratio(1., 1., 1.);
        assert_eq!(
            ratio(2., 1.8, 2.5).over(exact).interval.map(|ends| ends.map(|end| (end * 100.).round())),
            Some([180., 250.])
        );
        let both = ratio(2., 1.8, 2.2).over(ratio(2., 1.8, 2.2));
        let [low, high] = both.interval.unwrap();
        assert_eq!(both.value, 1.);
        // √2 times the distances of one, crosswise: ln(1.8/2) = −0.105, ln(2.2/2) = 0.095.
        assert!((low.ln() + 0.142).abs() < 1e-3 && (high.ln() - 0.142).abs() < 1e-3, "[{low}, {high}]");
        assert_eq!(Ratio { interval: None, ..exact }.over(exact).interval, None);
    }
}
