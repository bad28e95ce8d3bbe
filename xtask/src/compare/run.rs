//! The runs of a comparison, round by round.

use std::path::{Path, PathBuf};

use brt_report::RunResult;
use serde::{Deserialize, Serialize};

use super::plan::{Plan, PlannedRun};
use crate::{
    failure::Result,
    runs::{self, Job, Outcome, Slot},
    ui,
};

/// How one run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RunOutcome {
    /// The run.
    pub(super) run: PlannedRun,
    /// What it wrote, where it finished.
    pub(super) result: Option<RunResult>,
    /// The end of its log, where it failed.
    pub(super) failure: Option<String>,
}

impl RunOutcome {
    fn new(run: &PlannedRun, outcome: Outcome) -> Self {
        let (result, failure) = match outcome {
            Ok(result) => (Some(result), None),
            Err(failure) => (None, Some(failure)),
        };
        Self { run: run.clone(), result, failure }
    }
}

/// What all runs share.
pub(super) struct Runner<'a> {
    pub(super) brt: &'a Path,
    pub(super) data: &'a Path,
    pub(super) out: &'a Path,
    pub(super) plan: &'a Plan,
}

impl Runner<'_> {
    /// Runs everything that is planned and not yet done, round by round; stops after the round that was interrupted.
    pub(super) fn run_all(&self) -> Result<Vec<RunOutcome>> {
        let mut outcomes = vec![];
        for round in 0..self.plan.num_rounds() {
            if runs::interrupted() {
                break;
            }
            self.run_round(round, &mut outcomes)?;
        }
        Ok(outcomes)
    }

    fn run_round(&self, round: usize, outcomes: &mut Vec<RunOutcome>) -> Result {
        let mut jobs = vec![];
        let mut slots = vec![];
        for run in self.plan.round(round) {
            let job = self.job(run);
            match job.finished() {
                Ok(None) => {
                    jobs.push(job);
                    slots.push(Slot { device: None, num_threads: run.num_threads });
                }
                Ok(Some(result)) => {
                    ui::line(&format!("{}: done before", run.name()));
                    outcomes.push(RunOutcome::new(run, Ok(result)));
                }
                Err(failure) => outcomes.push(RunOutcome::new(run, Err(failure))),
            }
        }
        if let [slot, ..] = &slots[..] {
            let names: Vec<_> = jobs.iter().map(|job| job.name.as_str()).collect();
            let (threads, num_rounds) = (slot.num_threads, self.plan.num_rounds());
            ui::headline(&format!(
                "round {} of {num_rounds}: {} ({threads} thread{} each)",
                round + 1,
                names.join(", "),
                if threads == 1 { "" } else { "s" }
            ));
        }
        runs::run_all(self.brt, &slots, jobs, |job, outcome| {
            let run = self.plan.round(round).find(|run| run.name() == job.name);
            outcomes.extend(run.map(|run| RunOutcome::new(run, outcome)));
            Ok(())
        })
    }

    fn job(&self, run: &PlannedRun) -> Job {
        let mut arguments: Vec<String> = vec![];
        let mut set = |key: &str, value: u64| arguments.extend([format!("--{key}"), value.to_string()]);
        if let Some(steps) = self.plan.num_steps {
            set("train.num_steps", steps);
            // A short run needs its lines more often: for the progress and for the curve.
            set("train.log_every", (steps / 100).max(1));
            // As large a part of the run as in the configurations that come with brt.
            set("schedule.num_warmup_steps", (steps / 15).max(1));
        }
        if let Some(len) = self.plan.max_document_len {
            set("evaluation.max_document_len", len);
        }
        Job {
            name: run.name(),
            folder: self.folder(run),
            config: self.plan.request.config(&run.contestant),
            data: self.data.into(),
            seed: run.seed,
            num_steps: self.plan.num_steps_of(&run.contestant),
            arguments,
        }
    }

    fn folder(&self, run: &PlannedRun) -> PathBuf {
        self.out.join("runs").join(run.name())
    }
}
