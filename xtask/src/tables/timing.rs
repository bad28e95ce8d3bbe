//! Step times of every row, each taken in turn with the baseline's in one process before anything is trained.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use brt_report::{ContestantTiming, TimingResult, read_json};
use serde::Serialize;

use super::{experiments::Experiments, request::Request};
use crate::{
    failure::{Context, Result, fail},
    report::interval_of_median,
    runs, tools, ui,
};

/// Measured steps of each row; a dry run makes do with fewer.
const ROUNDS: u64 = 12;
const DRY_ROUNDS: u64 = 3;

/// Step times by row.
#[derive(Debug, Default)]
pub(super) struct Timings {
    baseline: String,
    by_row: BTreeMap<String, TimingResult>,
}

/// A ratio of step times with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub(super) value: f64,
    /// Absent for too few rounds.
    pub(super) interval: Option<[f64; 2]>,
}

impl Timings {
    /// Reads the step times that are there and were taken as they would be now: beside the same baseline, of as large a
    /// part of the step.
    pub(super) fn read(request: &Request) -> Result<Self> {
        let mut found = Self { baseline: request.experiments.file.baseline.clone(), by_row: BTreeMap::new() };
        for row in Experiments::row_names(&request.experiments.file.tables) {
            let path = path(request, row);
            if path.exists() {
                let timing: TimingResult = read_json(&path, "the step times of a row")?;
                if fits(&timing, request, row) {
                    found.by_row.insert(row.into(), timing);
                }
            }
        }
        Ok(found)
    }

    /// Takes the step times that are missing; returns the rows of which none could be taken, with why.
    pub(super) fn complete(
        &mut self,
        brt: &Path,
        request: &Request,
        rows: &[&str],
    ) -> Result<Vec<(String, String)>> {
        let missing: Vec<&str> = rows.iter().copied().filter(|row| !self.by_row.contains_key(*row)).collect();
        let mut failures = vec![];
        for (i, row) in missing.iter().enumerate() {
            if runs::interrupted() {
                break;
            }
            ui::headline(&format!("step times {} of {}: {row}", i + 1, missing.len()));
            match take(brt, request, &self.baseline, row) {
                Ok(timing) => {
                    self.by_row.insert((*row).into(), timing);
                }
                // Nothing can be timed, then.
                Err(failure) if *row == self.baseline => return Err(failure),
                Err(failure) => {
                    failures.push(((*row).to_owned(), format!("no step times: {}", failure.message)))
                }
            }
        }
        Ok(failures)
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
        if row == self.baseline {
            return Some(Ratio { value: 1., interval: Some([1., 1.]) });
        }
        let [baseline, row] = &self.by_row.get(row)?.contestants[..] else { return None };
        let ratios = row.ratios_to(baseline);
        let value = row.relative_to(baseline);
        value.is_finite().then(|| Ratio { value, interval: interval_of_median(&ratios) })
    }

    /// Returns all measurements.
    pub(super) fn all(&self) -> impl Iterator<Item = &TimingResult> {
        self.by_row.values()
    }

    /// Returns the ratio of the times of two rows; each was measured against the baseline, so their intervals add up.
    pub(super) fn ratio(&self, row: &str, other: &str) -> Option<Ratio> {
        if row == other {
            return Some(Ratio { value: 1., interval: Some([1., 1.]) });
        }
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

/// Returns whether step times were taken as they would be now.
fn fits(timing: &TimingResult, request: &Request, row: &str) -> bool {
    let names: Vec<&str> = timing.contestants.iter().map(|timed| timed.name.as_str()).collect();
    let is_whole = |timed: &ContestantTiming| timed.tokens_per_step * timed.num_steps == timed.num_tokens;
    names == [request.experiments.file.baseline.as_str(), row]
        && timing.contestants.iter().all(is_whole) == request.parts.is_none_or(|parts| parts == 1)
}

fn take(brt: &Path, request: &Request, baseline: &str, row: &str) -> Result<TimingResult> {
    let path = path(request, row);
    let folder = path.parent().unwrap_or(&path);
    fs::create_dir_all(folder).context(|| format!("creating {}", folder.display()))?;
    let Some(slot) = request.slots.first() else { return fail("--devices: expected at least one") };
    let rounds = if request.dry_run { DRY_ROUNDS } else { ROUNDS };
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
    tools::run("brt time", tools::to_stderr(&mut command))?;
    Ok(read_json(&path, "the step times of a row")?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
