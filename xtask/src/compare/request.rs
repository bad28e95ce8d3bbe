//! What the user asked a comparison to be.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    failure::{Result, fail},
    flags,
    runs::{self, Corpus, keys},
};

/// The contestants where the user names none.
const CONTESTANTS: &[&str] = &["xl", "slide", "rec_fixed_skip"];

/// The configuration that is only timed: Transformer-XL with a window as long as the recurrent model's gradient.
pub(super) const TIMING_ONLY: &str = "xl_long";

/// The flags of one comparison. Two requests that are equal lead to the same runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    /// Wall time of all runs together, where it decides the number of steps.
    pub(super) minutes: Option<f64>,
    /// Where the text comes from, with whole paths.
    pub(super) corpus: String,
    /// The same for readers.
    #[serde(default)]
    pub(super) corpus_name: String,
    #[serde(skip)]
    pub(super) source: Corpus,
    /// Number of seeds per contestant; they count from 1.
    pub(super) seeds: u64,
    /// Names of the contestants' configurations.
    pub(super) contestants: Vec<String>,
    /// Folder of the configurations: not kept, for their texts are.
    #[serde(skip)]
    pub(super) configs: PathBuf,
    /// Number of runs at a time, where the user said one.
    pub(super) jobs: Option<usize>,
    /// The text of each configuration file of the folder, by name.
    pub(super) config_texts: BTreeMap<String, String>,
}

impl Request {
    /// Checks the flags and reads the configuration files.
    pub(super) fn new(root: &Path, flags: &flags::Compare) -> Result<Self> {
        let source = Corpus::new(flags.corpus.as_deref(), flags.data.as_deref())?;
        if let Some(minutes) = flags.minutes.filter(|minutes| !minutes.is_finite() || *minutes <= 0.) {
            return fail(format!("--minutes: expected a number above 0, got {minutes}"));
        }
        let seeds = flags.seeds.unwrap_or(1);
        if seeds == 0 || flags.jobs == Some(0) {
            return fail("--seeds and --jobs: expected at least 1, got 0");
        }
        let names = flags.contestants.clone().unwrap_or_else(|| CONTESTANTS.join(","));
        let mut contestants: Vec<String> = vec![];
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if contestants.iter().any(|other| other == name) {
                return fail(format!("--contestants: {name} is named twice"));
            }
            contestants.push(name.to_owned());
        }
        if contestants.is_empty() {
            return fail("--contestants: expected at least one name, got none");
        }
        let configs = flags.configs.clone().unwrap_or_else(|| root.join("benchmarks/configs/compare"));
        let config_texts = read_configs(&configs, &contestants)?;
        let (minutes, jobs) = (flags.minutes, flags.jobs);
        let (corpus, corpus_name) = (source.to_string(), source.short_name());
        Ok(Self { minutes, corpus, corpus_name, source, seeds, contestants, configs, jobs, config_texts })
    }

    /// Returns the number of runs at a time on a machine with that many processors.
    pub(super) fn jobs_on(&self, num_cpus: usize) -> usize {
        self.jobs.unwrap_or(num_cpus).min(self.contestants.len() * self.seeds as usize)
    }

    /// Returns the path of a configuration.
    pub(super) fn config(&self, name: &str) -> PathBuf {
        self.configs.join(format!("{name}.toml"))
    }

    /// Returns the names of the flags, and configurations, in which two requests differ.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = vec![];
        let mut note = |differs: bool, name: &str| found.extend(differs.then(|| name.to_owned()));
        note(self.minutes != other.minutes, "--minutes");
        note(!Corpus::is_recorded_as(&other.corpus, &self.corpus), "--corpus or --data");
        note(self.seeds != other.seeds, "--seeds");
        note(self.contestants != other.contestants, "--contestants");
        note(self.jobs != other.jobs, "--jobs");
        for (name, text) in &self.config_texts {
            let other = other.config_texts.get(name);
            note(other.is_some_and(|other| !keys(other).eq(keys(text))), &format!("{name}.toml"));
        }
        found
    }
}

/// Reads all configurations of a folder and checks that the contestants' are there.
fn read_configs(folder: &Path, contestants: &[String]) -> Result<BTreeMap<String, String>> {
    if !folder.is_dir() {
        return fail(format!("--configs: no such folder: {}", folder.display()));
    }
    let texts = runs::read_configs(folder)?;
    match contestants.iter().find(|name| !texts.contains_key(*name)) {
        Some(name) => {
            let names: Vec<_> = texts.into_keys().collect();
            fail(format!("--contestants: {} has no {name}.toml, only {}", folder.display(), names.join(", ")))
        }
        None => Ok(texts),
    }
}
