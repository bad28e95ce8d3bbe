//! Which runs a comparison makes, in which order, on how many threads and for how many steps.

use brt_report::TimingResult;
use serde::{Deserialize, Serialize};

use super::request::Request;
use crate::failure::{Result, fail};

/// Share of the time that is left for evaluation and for starting the runs.
const EVALUATION_SHARE: f64 = 0.15;
/// Tokens of each held-out document that are scored per minute of the whole comparison, so that evaluation keeps to
/// its share on two processors and a few dozen documents.
const SCORED_LEN_PER_MINUTE: f64 = 2048.;
/// From this length on, the configurations decide how much of a document is scored.
const MAX_SCORED_LEN: u64 = 65_536;
/// Fewer steps than this are no training.
const MIN_STEPS: u64 = 20;

/// `plan.json`: everything that was decided before the first run started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// What the user asked for.
    pub(super) request: Request,
    /// The contestant that differences are taken from.
    pub(super) baseline: String,
    /// The contestant that the verdict is about; absent where the baseline is alone.
    pub(super) challenger: Option<String>,
    /// Training steps of every run; absent where the configurations decide.
    pub(super) num_steps: Option<u64>,
    /// Tokens of each held-out document that are scored; absent where the configurations decide.
    pub(super) max_document_len: Option<u64>,
    /// Number of processors that the runs share.
    pub(super) num_cpus: usize,
    /// Number of runs at a time.
    pub(super) jobs: usize,
    /// The runs, in the order in which they start.
    pub(super) runs: Vec<PlannedRun>,
    /// Step times of the contestants, taken in turn in one process.
    pub(super) timing: TimingResult,
}

/// One process of `brt train`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlannedRun {
    pub(super) contestant: String,
    pub(super) seed: u64,
    /// Runs of one round run side by side; a round starts when the one before has ended.
    pub(super) round: usize,
    pub(super) num_threads: usize,
}

impl PlannedRun {
    /// Returns the name of the run's folder.
    pub(super) fn name(&self) -> String {
        format!("{}-seed{}", self.contestant, self.seed)
    }
}

impl Plan {
    /// Plans the runs of a request.
    pub(super) fn new(request: Request, num_cpus: usize, timing: TimingResult) -> Result<Self> {
        for name in &request.contestants {
            if !timing.contestants.iter().any(|timed| timed.name == *name) {
                return fail(format!(
                    "brt time: expected the step times of {name}, got none under this name"
                ));
            }
        }
        let (baseline, challenger) = roles(&request.contestants);
        let jobs = request.jobs_on(num_cpus);
        let runs = schedule(&request, &baseline, challenger.as_deref(), jobs, num_cpus);
        let max_document_len = request.minutes.and_then(scored_len);
        let num_steps = None;
        let mut plan =
            Self { request, baseline, challenger, num_steps, max_document_len, num_cpus, jobs, runs, timing };
        plan.num_steps = plan.request.minutes.map(|minutes| plan.steps_in(minutes));
        Ok(plan)
    }

    /// Returns the number of rounds.
    pub(super) fn num_rounds(&self) -> usize {
        self.runs.last().map_or(0, |run| run.round + 1)
    }

    /// Returns the runs of one round.
    pub(super) fn round(&self, round: usize) -> impl Iterator<Item = &PlannedRun> {
        self.runs.iter().filter(move |run| run.round == round)
    }

    /// Returns a model's time per token relative to the baseline's.
    pub(super) fn relative_step_time(&self, name: &str) -> Option<f64> {
        let timed = |name: &str| self.timing.contestants.iter().find(|timed| timed.name == name);
        let ratio = timed(name)?.relative_to(timed(&self.baseline)?);
        ratio.is_finite().then_some(ratio)
    }

    /// Returns the number of training steps of a contestant.
    pub(super) fn num_steps_of(&self, contestant: &str) -> u64 {
        let timed = self.timing.contestants.iter().find(|timed| timed.name == contestant);
        self.num_steps.or(timed.map(|timed| timed.num_steps)).unwrap_or(0)
    }

    /// Returns about how long all runs take together, in minutes.
    pub(super) fn expected_minutes(&self) -> f64 {
        self.secs_of_all(|contestant| self.num_steps_of(contestant)) / 60. / (1. - EVALUATION_SHARE)
    }

    fn steps_in(&self, minutes: f64) -> u64 {
        let training_secs = minutes * 60. * (1. - EVALUATION_SHARE);
        ((training_secs / self.secs_of_all(|_| 1)) as u64).max(MIN_STEPS)
    }

    /// Returns the wall time in which every run makes so many steps: the slowest run of each round, summed over rounds.
    ///
    /// With fewer threads than in the timing a step is taken to last longer in proportion; more threads are not counted
    /// on, since small models gain little by them.
    fn secs_of_all(&self, num_steps: impl Fn(&str) -> u64) -> f64 {
        let step_secs = |run: &PlannedRun| {
            let timed = self.timing.contestants.iter().find(|timed| timed.name == run.contestant);
            let threads = self.timing.machine.num_threads.max(1) as f64;
            let slower = (threads / run.num_threads as f64).max(1.);
            timed.map_or(0., |timed| timed.median_step_secs() * slower) * num_steps(&run.contestant) as f64
        };
        let slowest = |round| self.round(round).map(step_secs).fold(0., f64::max);
        (0..self.num_rounds()).map(slowest).sum()
    }
}

/// Returns how much of each document a comparison of few minutes scores: a power of two, in tokens.
fn scored_len(minutes: f64) -> Option<u64> {
    let len = 1 << ((minutes * SCORED_LEN_PER_MINUTE) as u64).max(1024).ilog2();
    (len < MAX_SCORED_LEN).then_some(len)
}

/// Returns the baseline and the challenger: `slide`, else the first; the first `rec…`, else the last of the others.
fn roles(contestants: &[String]) -> (String, Option<String>) {
    let baseline = contestants.iter().find(|name| *name == "slide").unwrap_or(&contestants[0]).clone();
    let mut others = contestants.iter().filter(|name| **name != baseline);
    let challenger = others.clone().find(|name| name.starts_with("rec")).or_else(|| others.next_back());
    (baseline, challenger.cloned())
}

/// Distributes the runs over rounds. Baseline and challenger of one seed run side by side, on equal terms.
fn schedule(
    request: &Request,
    baseline: &str,
    challenger: Option<&str>,
    jobs: usize,
    num_cpus: usize,
) -> Vec<PlannedRun> {
    let is_pair = |name: &str| name == baseline || Some(name) == challenger;
    let seeds = 1..=request.seeds;
    let mut pairs: Vec<Vec<(&str, u64)>> = vec![];
    let mut singles: Vec<(&str, u64)> = vec![];
    for seed in seeds {
        pairs.push([Some(baseline), challenger].into_iter().flatten().map(|name| (name, seed)).collect());
        let others = request.contestants.iter().filter(|name| !is_pair(name));
        singles.extend(others.map(|name| (name.as_str(), seed)));
    }
    if jobs == 1 {
        // Side by side is not possible; one after the other is the next best.
        pairs = pairs.concat().into_iter().map(|run| vec![run]).collect();
    }
    let mut rounds: Vec<Vec<(&str, u64)>> = vec![];
    for unit in pairs.into_iter().chain(singles.into_iter().map(|run| vec![run])) {
        match rounds.iter_mut().find(|round| round.len() + unit.len() <= jobs) {
            Some(round) => round.extend(unit),
            None => rounds.push(unit),
        }
    }
    let mut runs = vec![];
    for (round, members) in rounds.into_iter().enumerate() {
        let num_threads = (num_cpus / members.len()).max(1);
        let planned =
            |(name, seed): (&str, u64)| PlannedRun { contestant: name.into(), seed, round, num_threads };
        runs.extend(members.into_iter().map(planned));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::fixture;

    /// Lists rounds as `a1 b1 (threads) | ...`.
    fn rounds(contestants: &[&str], seeds: u64, jobs: usize, num_cpus: usize) -> String {
        let request = fixture::request(contestants, seeds, Some(jobs), None);
        let plan = Plan::new(request, num_cpus, fixture::timing(contestants)).unwrap();
        let text = |round| {
            let names: Vec<_> =
                plan.round(round).map(|run| format!("{}{}", run.contestant, run.seed)).collect();
            format!("{} ({})", names.join(" "), plan.round(round).next().unwrap().num_threads)
        };
        (0..plan.num_rounds()).map(text).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn the_pair_runs_side_by_side_and_the_last_round_uses_all_processors() {
        let three = ["xl", "slide", "rec"];
        for (contestants, seeds, jobs, num_cpus, expected) in [
            (&three[..], 1, 2, 2, "slide1 rec1 (1) | xl1 (2)"),
            (&three, 1, 1, 2, "slide1 (2) | rec1 (2) | xl1 (2)"),
            (&three, 1, 3, 2, "slide1 rec1 xl1 (1)"),
            (&three, 2, 3, 3, "slide1 rec1 xl1 (1) | slide2 rec2 xl2 (1)"),
            (&three, 2, 2, 8, "slide1 rec1 (4) | slide2 rec2 (4) | xl1 xl2 (4)"),
            (&["a"], 3, 2, 2, "a1 a2 (1) | a3 (2)"),
        ] {
            assert_eq!(rounds(contestants, seeds, jobs, num_cpus), expected);
        }
    }

    #[test]
    fn steps_fill_the_time_and_never_fall_below_the_least() {
        // The fixture's steps take 0.5 s on two threads. Round 1: one thread each, 1 s; round 2: two threads, 0.5 s.
        let names = ["xl", "slide", "rec"];
        let plan = |minutes| {
            Plan::new(fixture::request(&names, 1, None, Some(minutes)), 2, fixture::timing(&names)).unwrap()
        };
        // 85 % of 60 s by 1.5 s.
        assert_eq!(plan(1.).num_steps, Some(34));
        assert!((plan(1.).expected_minutes() - 1.).abs() < 1e-9);
        assert_eq!(plan(0.01).num_steps, Some(20));
        let lens = [0.01, 1., 10., 63., 64., 1e9].map(scored_len);
        assert_eq!(lens, [Some(1024), Some(2048), Some(16_384), None, None, None]);
    }

    #[test]
    fn roles_follow_the_names() {
        let roles = |names: &[&str]| roles(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(roles(&["xl", "slide", "rec_a", "rec_b"]), ("slide".into(), Some("rec_a".into())));
        assert_eq!(roles(&["a", "b", "c"]), ("a".into(), Some("c".into())));
        assert_eq!(roles(&["a"]), ("a".into(), None));
    }

    #[test]
    fn a_contestant_without_step_times_is_an_error() {
        let error =
            Plan::new(fixture::request(&["a"], 1, None, None), 2, fixture::timing(&["b"])).unwrap_err();
        assert_eq!(error.message, "brt time: expected the step times of a, got none under this name");
    }
}
