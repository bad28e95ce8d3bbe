//! What finished runs left: the input of every table, claim and plot.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use brt_report::{Evaluation, RunResult, read_json};

use super::{
    experiments::{Experiment, File, Row},
    paper::Paper,
    request::Request,
    timing::Timings,
    words::WordGains,
};
use crate::{failure::Result, report::Scores};

/// What a person writes for the report.
const FINDINGS: &str = "findings.md";
/// Where a run's scores on the whole test split are.
pub(super) const WHOLE_TEST: &str = "whole-test.json";

/// Everything that is known.
pub(super) struct Records {
    pub(super) file: File,
    /// Names of the tables that were asked for.
    only: Vec<String>,
    /// The commands that made the tables.
    pub(super) commands: Vec<String>,
    /// What a person found in them: `findings.md` of the folder.
    pub(super) findings: String,
    pub(super) corpus: String,
    pub(super) timings: Timings,
    /// Results by row and seed.
    results: BTreeMap<String, BTreeMap<u64, RunResult>>,
    /// Scores of whole documents, state carried, by row and seed.
    whole: BTreeMap<String, BTreeMap<u64, Evaluation>>,
    /// Names of runs that failed, with the ends of their logs.
    pub(super) failures: BTreeMap<String, String>,
    pub(super) words: Option<WordGains>,
    pub(super) paper: Paper,
}

impl Records {
    /// Returns records without any run.
    pub(super) fn new(request: &Request, commands: Vec<String>, timings: Timings, paper: Paper) -> Self {
        let (file, only) = (request.experiments.file.clone(), request.only.tables.clone());
        let corpus = request.corpus.short_name();
        let findings = fs::read_to_string(request.out.join(FINDINGS)).unwrap_or_default();
        let (results, whole, failures, words) = Default::default();
        Self { file, only, commands, findings, corpus, timings, results, whole, failures, words, paper }
    }

    /// Adds how a run ended.
    pub(super) fn add(&mut self, row: &str, name: &str, outcome: std::result::Result<RunResult, String>) {
        match outcome {
            Ok(result) => {
                self.failures.remove(name);
                self.results.entry(row.into()).or_default().insert(result.seed, result);
            }
            Err(failure) => {
                self.failures.insert(name.into(), failure);
            }
        }
    }

    /// Adds the scores of whole documents that lie in a run's folder, where they do.
    pub(super) fn add_whole(&mut self, row: &str, seed: u64, folder: &Path) -> Result {
        let path = folder.join(WHOLE_TEST);
        if path.exists() {
            let evaluations: Vec<Evaluation> = read_json(&path, "scores of whole documents")?;
            let carried = evaluations.into_iter().next();
            self.whole.entry(row.into()).or_default().extend(carried.map(|carried| (seed, carried)));
        }
        Ok(())
    }

    /// Returns the tables that are shown: those that were asked for, and those whose rows are all there.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Experiment> {
        let is_whole = |table: &Experiment| table.rows.iter().all(|row| self.first(&row.config).is_some());
        self.file.tables.iter().filter(move |table| self.only.contains(&table.name) || is_whole(table))
    }

    /// Returns the results of a row by seed.
    pub(super) fn of(&self, row: &str) -> impl Iterator<Item = (u64, &RunResult)> {
        self.results.get(row).into_iter().flatten().map(|(seed, result)| (*seed, result))
    }

    /// Returns the result of a row's first seed.
    pub(super) fn first(&self, row: &str) -> Option<&RunResult> {
        self.of(row).next().map(|(_, result)| result)
    }

    /// Returns all results.
    pub(super) fn all(&self) -> impl Iterator<Item = &RunResult> {
        self.results.values().flat_map(BTreeMap::values)
    }

    /// Returns the scores of a row by seed: of the documents as the configuration bounds them, or of whole ones.
    pub(super) fn scores(&self, row: &str, whole: bool) -> Scores<'_> {
        if whole {
            return self.whole.get(row).into_iter().flatten().map(|(seed, whole)| (*seed, whole)).collect();
        }
        self.of(row).map(|(seed, result)| (seed, &result.test)).collect()
    }

    /// Returns the scores of a row with its state reset in every segment, by seed.
    pub(super) fn reset_scores(&self, row: &str) -> Scores<'_> {
        self.of(row).filter_map(|(seed, result)| Some((seed, result.test_state_reset.as_ref()?))).collect()
    }

    /// Returns what a row is called in the first table that has it.
    pub(super) fn label<'a>(&'a self, row: &'a str) -> &'a str {
        let rows = self.file.tables.iter().flat_map(|table| &table.rows);
        rows.into_iter().find(|other| other.config == row).map_or(row, Row::label)
    }

    /// Returns the seeds that all of the rows have, of those that have any; so their mean losses can be compared.
    pub(super) fn common_seeds<'a>(&self, rows: impl IntoIterator<Item = &'a str>) -> BTreeSet<u64> {
        let seeds = rows.into_iter().map(|row| self.of(row).map(|(seed, _)| seed).collect::<BTreeSet<u64>>());
        seeds.filter(|seeds| !seeds.is_empty()).reduce(|one, other| &one & &other).unwrap_or_default()
    }

    /// Returns the folder of a row's first finished run, relative to the report.
    pub(super) fn folder(&self, row: &str) -> Option<String> {
        self.of(row).next().map(|(seed, _)| format!("runs/{row}-seed{seed}/"))
    }
}
