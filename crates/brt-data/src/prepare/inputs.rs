//! What a corpus is made from, in order: works in memory, or files.

use std::{borrow::Cow, collections::BTreeMap, path::PathBuf};

use serde::Serialize;

use super::{
    PrepareConfig, PrepareProgress, pipeline::SkipLog, split_rule::SplitRule, state::State, watched,
};
use crate::{
    Counts, DataError, Job, Options, Split, TokenizerRecord, Work,
    corpus::{Corpus, Listing, Member},
    manifest::sha256_hex,
    source::{
        self, BytesRead, Event, InvalidUtf8, OnError, Plan, SourceConfig, SourceFormat, Unit, document_events,
    },
};

/// Number of bytes of text from which on only a part of the runs of lines is compared.
const ALL_RUNS_BYTES: u64 = 1 << 28;

/// Number of bytes of text that a byte of a packed file may hold, as a guess.
const UNPACKED: u64 = 4;

/// The inputs of a preparation.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) source: String,
    pub(super) licence: String,
    pub(super) origin: String,
    pub(super) options: Options,
    pub(super) units: Vec<InputUnit>,
    /// What was left out before reading, by reason.
    pub(super) skipped: BTreeMap<String, u64>,
    pub(super) split_rule: SplitRule,
    /// SHA-256 of the options, and of the names and sizes of all inputs.
    pub(super) sha256: String,
    config: Option<SourceConfig>,
    plan: Option<Plan>,
    text_bytes: u64,
    bytes_read: BytesRead,
}

/// The events of a unit.
pub(super) type InputEvents<'a> = Box<dyn Iterator<Item = Result<Event, DataError>> + Send + 'a>;

/// What is read at a time, and from whose start a preparation can go on.
#[derive(Debug)]
pub(super) enum InputUnit {
    /// A work of a named corpus.
    Work(Member),
    /// A file, or several.
    File(Unit),
}

/// Everything that the files of a corpus depend on.
#[derive(Debug, Serialize)]
struct Fingerprint<'a> {
    source: &'a str,
    options: &'a Options,
    tokenizer: TokenizerRecord,
    inputs: Vec<(Cow<'a, str>, u64, Option<Split>, String)>,
}

/// The inputs of one source, before what they have in common.
struct Listed {
    name: String,
    licence: String,
    origin: String,
    config: Option<SourceConfig>,
    units: Vec<InputUnit>,
    skipped: BTreeMap<String, u64>,
    is_packed: bool,
    plan: Option<Plan>,
}

impl Inputs {
    /// Lists the inputs of all jobs.
    pub(super) fn of(config: &PrepareConfig) -> Result<Self, DataError> {
        let listed = match config.source.read()? {
            Listing::Works(corpus) => Listed::works(corpus),
            Listing::Files { name, licence, origin, config } => {
                Listed { licence, origin, ..Listed::files(name, config)? }
            }
        };
        let split_rule = SplitRule::new(config.validation, config.test, &listed.known_groups());
        let options = Options {
            // Where the files lie is nobody's business.
            source: listed.config.clone().map(|config| SourceConfig { path: PathBuf::new(), ..config }),
            validation: config.validation,
            test: config.test,
            shard_bytes: config.shard_bytes,
        };
        let fingerprint = Fingerprint {
            source: &listed.name,
            options: &options,
            tokenizer: config.tokenizer_record(),
            inputs: listed.units.iter().map(InputUnit::fingerprint).collect(),
        };
        let sha256 = sha256_hex(&serde_json::to_vec(&fingerprint).expect("a fingerprint is JSON"));
        let num_bytes: u64 = listed.units.iter().map(InputUnit::num_bytes).sum();
        let text_bytes = if listed.is_packed { num_bytes * UNPACKED } else { num_bytes };
        Ok(Self {
            split_rule,
            source: listed.name,
            licence: config.licence.clone().unwrap_or(listed.licence),
            origin: config.origin.clone().unwrap_or(listed.origin),
            options,
            sha256,
            units: listed.units,
            skipped: listed.skipped,
            config: listed.config,
            plan: listed.plan,
            text_bytes,
            bytes_read: BytesRead::default(),
        })
    }

    /// Returns the inputs of one job: rows that belong together are brought together, then the units are dealt out so
    /// that each job has about the same number of bytes, and the documents of all jobs, one after another, are those
    /// of one.
    pub(super) fn job_part(
        mut self,
        config: &PrepareConfig,
        state: &State,
        progress: &mut dyn FnMut(&PrepareProgress),
    ) -> Result<Self, DataError> {
        let job = config.job.unwrap_or(Job { idx: 1, count: 1 });
        if job.idx > 1 {
            self.skipped.clear(); // Of what was left out before reading the first job tells.
        }
        if let (Some(config), Some(plan), true) = (&self.config, &self.plan, self.is_grouped()) {
            let (folder, part) = (state.spill_folder(), (job.idx - 1, job.count));
            let spill = || {
                let mut skips = SkipLog::default();
                let mut warn = |reason: &str, place: &str| skips.warn(reason, place);
                source::spill(plan, config, &folder, part, &self.bytes_read, &mut warn)
            };
            let spilled = watched(spill, || {
                let (bytes_read, bytes_total) = (self.bytes_read(), self.num_bytes());
                progress(&PrepareProgress { bytes_read, bytes_total, counts: Counts::default() });
            })?;
            self.bytes_read = BytesRead::default(); // The buckets are read anew.
            self.units = spilled.units.into_iter().map(InputUnit::File).collect();
            for (reason, count) in spilled.skipped {
                *self.skipped.entry(reason).or_default() += count;
            }
            return Ok(self);
        }
        let total = self.num_bytes().max(1) as u128;
        let (mut before, count) = (0, job.count as u128);
        self.units.retain(|unit| {
            let middle = before + u128::from(unit.num_bytes()) / 2;
            before += u128::from(unit.num_bytes());
            (middle * count / total).min(count - 1) == (job.idx - 1) as u128
        });
        Ok(self)
    }

    /// Opens a unit behind its first `num_done` inputs.
    pub(super) fn open(&self, unit_idx: usize, num_done: u64) -> InputEvents<'_> {
        match (&self.units[unit_idx], &self.config) {
            (InputUnit::File(unit), Some(config)) => {
                let events = unit.open(config, num_done, &self.bytes_read);
                Box::new(events.map(|event| event.map_err(DataError::from)))
            }
            (InputUnit::Work(Member { name, group, split, text, .. }), _) if num_done == 0 => {
                Box::new(document_events(name, group, *split, text, &self.bytes_read).map(Ok))
            }
            _ => Box::new(std::iter::empty()),
        }
    }

    /// Counts the first units as read: a preparation that goes on does not open them.
    pub(super) fn pass_over(&self, num_units: usize) {
        self.bytes_read.add(self.units.iter().take(num_units).map(InputUnit::num_bytes).sum());
    }

    /// Returns the number of bytes of all units on the disk.
    pub(super) fn num_bytes(&self) -> u64 {
        self.units.iter().map(InputUnit::num_bytes).sum()
    }

    /// Returns the number of bytes that were read of them.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// Returns in how many runs of lines one is compared with those of other documents.
    pub(super) fn run_sampling(&self) -> u64 {
        (self.text_bytes / ALL_RUNS_BYTES + 1).next_power_of_two()
    }

    /// Returns the number of bytes of text, a guess where files are packed.
    pub(super) fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Returns what happens to input that cannot be read.
    pub(super) fn on_error(&self) -> OnError {
        self.config.as_ref().map_or(OnError::Stop, |config| config.on_error)
    }

    /// Returns whether rows are joined to documents.
    pub(super) fn is_grouped(&self) -> bool {
        self.config.as_ref().is_some_and(|config| config.group_by.is_some())
    }

    /// Returns whether text that is not UTF-8 is treated like this.
    pub(super) fn treats_invalid_utf8(&self, mode: InvalidUtf8) -> bool {
        self.config.as_ref().is_some_and(|config| config.invalid_utf8 == mode)
    }

    /// Returns the list of works of a named corpus.
    pub(super) fn works(&self) -> Vec<Work> {
        let works = self.units.iter().filter_map(|unit| match unit {
            InputUnit::Work(member) => Some(member.work()),
            InputUnit::File(_) => None,
        });
        works.collect()
    }
}

impl InputUnit {
    fn num_bytes(&self) -> u64 {
        match self {
            Self::Work(member) => member.text.len() as u64,
            Self::File(unit) => unit.num_bytes,
        }
    }

    /// Returns what tells a unit from another: name, size, split and, of a work, the checksum of its text, of a tree
    /// that of the names and sizes of its files.
    fn fingerprint(&self) -> (Cow<'_, str>, u64, Option<Split>, String) {
        match self {
            Self::Work(member) => {
                let work = member.work();
                (
                    Cow::Owned(format!("{}: {}", work.group, work.name)),
                    work.num_bytes,
                    Some(work.split),
                    work.sha256,
                )
            }
            Self::File(unit) => {
                let files: String =
                    unit.tree_files().map(|(name, num_bytes)| format!("{name:?} {num_bytes}\n")).collect();
                let files = if files.is_empty() { files } else { sha256_hex(files.as_bytes()) };
                (Cow::Borrowed(&unit.name), unit.num_bytes, unit.split, files)
            }
        }
    }
}

impl Listed {
    /// Returns the groups that are known before reading: the files of a folder that has no splits.
    fn known_groups(&self) -> Vec<&str> {
        let is_folder = matches!(&self.config, Some(config) if config.format == SourceFormat::Files);
        let groups = self.units.iter().filter_map(|unit| match unit {
            InputUnit::File(unit) if is_folder && unit.num_bytes > 0 && unit.split.is_none() => {
                Some(unit.name.as_str())
            }
            _ => None,
        });
        groups.collect()
    }

    fn works(corpus: Corpus) -> Self {
        let Corpus { name, licence, origin, members, skipped } = corpus;
        Self {
            name: name.to_owned(),
            licence: licence.to_owned(),
            origin,
            config: None,
            units: members.into_iter().map(InputUnit::Work).collect(),
            skipped,
            is_packed: false,
            plan: None,
        }
    }

    fn files(name: String, config: SourceConfig) -> Result<Self, DataError> {
        let plan = source::plan(&config)?;
        let is_packed = |unit: &Unit| [".gz", ".zst", ".parquet"].iter().any(|end| unit.name.ends_with(end));
        let name = if name == SourceFormat::Auto.to_string() { plan.format.to_string() } else { name };
        Ok(Self {
            name,
            licence: String::new(),
            origin: String::new(),
            is_packed: plan.units.iter().any(is_packed),
            units: plan.units.iter().cloned().map(InputUnit::File).collect(),
            skipped: plan.skipped.clone(),
            config: Some(SourceConfig { format: plan.format, ..config }),
            plan: Some(plan),
        })
    }
}
