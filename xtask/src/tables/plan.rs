//! Which runs are to be made, in which order, and what they will cost.

use std::{collections::BTreeMap, fs};

use super::{experiments::Experiments, request::Request, timing::Timings};
use crate::{
    report::{NONE, Table, thousands},
    runs::{self, Job},
};

/// Share of a run's time that evaluation and its start take, beside training: as seen at the laptop's size.
const EVALUATION_SHARE: f64 = 0.15;

/// A run that belongs to the tables.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) row: String,
    pub(super) job: Job,
    /// Seconds that it takes by the measured steps, evaluation included.
    pub(super) secs: f64,
    /// Bytes of its checkpoints.
    pub(super) disk_bytes: u64,
}

/// Returns the runs of the wanted rows: first one seed of each row, those of the headline before the others, then the
/// other seeds. A row without step times is left out.
pub(super) fn runs(request: &Request, timings: &Timings) -> Vec<Planned> {
    let file = &request.experiments.file;
    let mut rows = request.rows();
    rows.sort_by_key(|row| !file.headline.iter().any(|name| name == row));
    let seeds_of = |row: &str| {
        let own = if file.headline.iter().any(|name| name == row) { file.headline_seeds } else { 1 };
        request.seeds.unwrap_or(own)
    };
    let last_seed = rows.iter().map(|row| seeds_of(row)).max().unwrap_or(0);
    let all = (1..=last_seed).flat_map(|seed| rows.iter().map(move |row| (*row, seed)));
    all.filter(|(row, seed)| *seed <= seeds_of(row))
        .filter_map(|(row, seed)| planned(request, timings, row, seed))
        .collect()
}

/// Returns row and name of every run of the folder that is not planned: it is read, whatever was wanted now.
pub(super) fn others(request: &Request, planned: &[Planned]) -> Vec<(String, String)> {
    let rows = Experiments::row_names(&request.experiments.file.tables);
    let entries = fs::read_dir(request.out.join("runs")).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let other = |name: String| {
        let (row, seed) = name.rsplit_once("-seed")?;
        let is_run = seed.parse::<u64>().is_ok() && rows.contains(&row);
        let is_planned = planned.iter().any(|run| run.job.name == name);
        (is_run && !is_planned).then(|| (row.to_owned(), name.clone()))
    };
    names.filter_map(other).collect()
}

fn planned(request: &Request, timings: &Timings, row: &str, seed: u64) -> Option<Planned> {
    let timed = timings.row(row)?;
    // Of a whole step: the measured one may be a part of it.
    let tokens_per_step = timed.num_tokens / timed.num_steps.max(1);
    let step_secs = timings.secs_per_token(row)? * tokens_per_step as f64;
    let num_steps =
        request.budget.map_or(timed.num_steps, |budget| budget.num_steps(tokens_per_step, step_secs));
    let name = format!("{row}-seed{seed}");
    let job = Job {
        folder: request.out.join("runs").join(&name),
        name,
        config: request.experiments.config(row),
        data: request.data(),
        seed,
        num_steps,
        arguments: arguments(request, num_steps),
    };
    let secs = num_steps as f64 * step_secs / (1. - EVALUATION_SHARE);
    Some(Planned { row: row.into(), job, secs, disk_bytes: timed.disk_bytes })
}

/// Returns the keys that are laid over a row's configuration; those that a budget decides, over those of `tables.toml`.
fn arguments(request: &Request, num_steps: u64) -> Vec<String> {
    let mut keys: BTreeMap<String, String> = request.experiments.set();
    if request.budget.is_some() {
        // Parts of the run that do not depend on its length.
        for (key, part) in [
            ("train.num_steps", 1),
            ("schedule.num_warmup_steps", 15),
            ("train.log_every", 100),
            ("train.statistics_every", 20),
            ("train.validate_every", 10),
            ("train.checkpoint_every", 4),
        ] {
            keys.insert(key.into(), (num_steps / part).max(1).to_string());
        }
    }
    keys.into_iter().flat_map(|(key, value)| [format!("--{key}"), value]).collect()
}

/// Returns what is left to be done: one line for each run, and their sum.
pub(super) fn estimate(request: &Request, planned: &[Planned]) -> (Table, String) {
    let mut table = Table::new(["run", "steps", "time", "disk (MB)"], vec![]);
    let (mut secs, mut disk, mut longest) = (0., 0, 0f64);
    for Planned { job, secs: run_secs, disk_bytes, .. } in planned {
        let is_done = matches!(job.finished(), Ok(Some(_)));
        let time = if is_done { "done".into() } else { runs::duration(*run_secs) };
        let megabytes = thousands(disk_bytes.div_ceil(1_000_000));
        table.rows.push(vec![job.name.clone(), thousands(job.num_steps), time, megabytes]);
        disk += disk_bytes;
        if !is_done {
            secs += run_secs;
            longest = longest.max(*run_secs);
        }
    }
    let num_slots = request.slots.len();
    let wall = (secs / num_slots as f64).max(longest);
    let at_a_time = if num_slots == 1 { "one at a time".into() } else { format!("{num_slots} at a time") };
    let sum = format!(
        "{} runs, {at_a_time}: about {} to go, {} MB of checkpoints",
        planned.len(),
        if secs > 0. { runs::duration(wall) } else { NONE.into() },
        thousands(disk.div_ceil(1_000_000)),
    );
    (table, sum)
}
