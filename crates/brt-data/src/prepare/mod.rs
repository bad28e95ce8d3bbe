//! From documents to shards of tokens: in parallel, in bounded memory, and again from where it stopped.

mod inputs;
mod merge;
mod near_copies;
mod output;
mod pipeline;
mod split_rule;
mod state;
mod tokenize;
mod train_tokenizer;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::ErrorKind,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use brt_report::write_atomic;
pub use merge::merge;
pub use train_tokenizer::train_tokenizer;

use self::{
    inputs::Inputs,
    near_copies::{NearCopies, ShardRuns, near_copies},
    output::Output,
    state::State,
    tokenize::TokenizeConfig,
};
use crate::{
    CorpusSource, Counts, DataError, Job, Manifest, Skipped, Split, Tokenizer, TokenizerRecord,
    manifest::{FORMAT, MANIFEST_FILE},
    shard::Width,
    source::InvalidUtf8,
};

/// Name of the file that a process locks while it prepares a folder.
const LOCK_FILE: &str = ".lock";

/// Name of the manifest of a job's part of a corpus.
pub(crate) const PART_FILE: &str = "part.json";

/// What is made of a corpus.
#[derive(Debug, Clone)]
pub struct PrepareConfig {
    /// Where the documents come from.
    pub source: CorpusSource,
    /// What makes tokens of them.
    pub tokenizer: Tokenizer,
    /// Licence of the texts, where it is not that of a named corpus.
    pub licence: Option<String>,
    /// Where the texts were taken from, where it is no named corpus.
    pub origin: Option<String>,
    /// Part of the documents that goes to validation where the input has no splits.
    pub validation: f64,
    /// Part of the documents that goes to test where the input has no splits.
    pub test: f64,
    /// Which part of the inputs is prepared; `None` for all.
    pub job: Option<Job>,
    /// Number of bytes of text after which a shard ends with the document.
    pub shard_bytes: u64,
}

impl PrepareConfig {
    /// Returns what is done by default: bytes in the T5 layout, 90/5/5, shards of 256 MiB of text.
    pub fn new(source: CorpusSource) -> Self {
        let tokenizer = Tokenizer::t5_bytes();
        let (licence, origin, job) = (None, None, None);
        Self { source, tokenizer, licence, origin, validation: 0.05, test: 0.05, job, shard_bytes: 1 << 28 }
    }

    /// Checks what the types cannot.
    fn validate(&self) -> Result<(), DataError> {
        let option = |name, expected, got: String| Err(DataError::Option { name, expected, got });
        for (name, part) in [("validation", self.validation), ("test", self.test)] {
            if !(0. ..1.).contains(&part) {
                return option(name, "a part of the documents in 0.0 .. 1.0", part.to_string());
            }
        }
        if self.validation + self.test >= 1. {
            let got = (self.validation + self.test).to_string();
            return option("validation + test", "less than 1, the rest is for training", got);
        }
        if let Some(Job { idx, count }) = self.job.filter(|job| !(1..=job.count).contains(&job.idx)) {
            return option("shard", "I/N with I from 1 to N", format!("{idx}/{count}"));
        }
        let files = match &self.source {
            CorpusSource::Files(files) | CorpusSource::Pg19(files) => Some(files),
            _ => None,
        };
        let keeps_bytes = files.is_some_and(|files| files.invalid_utf8 == InvalidUtf8::Bytes);
        if keeps_bytes && !self.tokenizer.kind().is_bytes() {
            return option("invalid_utf8", "strict or replace with a tokenizer of text", "bytes".into());
        }
        Ok(())
    }

    /// Returns the tokenizer's record.
    fn tokenizer_record(&self) -> TokenizerRecord {
        TokenizerRecord {
            kind: self.tokenizer.kind(),
            vocab_size: self.tokenizer.vocab_size(),
            file: self.tokenizer.file_name().to_owned(),
            sha256: self.tokenizer.sha256().to_owned(),
        }
    }
}

/// How far a preparation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrepareProgress {
    /// Number of bytes of input that were read, as they lie on the disk.
    pub bytes_read: u64,
    /// Number of bytes of all inputs.
    pub bytes_total: u64,
    /// Sizes of what was written.
    pub counts: Counts,
}

/// Writes the tokens of a corpus into a folder and returns its manifest; see [`prepare_with`].
///
/// # Errors
/// As [`prepare_with`].
pub fn prepare(config: &PrepareConfig, folder: &Path) -> Result<Manifest, DataError> {
    prepare_with(config, folder, &mut |_| ())
}

/// Writes the tokens of a corpus into a folder, tells how far it is, and returns the manifest.
///
/// The folder then holds shards of at least [`PrepareConfig::shard_bytes`] of text, the tokenizer's file and, written
/// last, `manifest.json`. Of a job's part the folder is `FOLDER/part-I-of-N`, and [`merge`] joins the parts. A folder
/// that already holds the same corpus (the same options, and inputs of the same names and sizes) is left as it is. What
/// was interrupted goes on after the last whole shard. Of two processes that prepare one folder, the second waits.
///
/// The files depend on the inputs and the options alone, not on the number of threads. In memory are some pieces of
/// documents of about 1 MiB (of texts without white space between words 8 MiB), one record where documents come in
/// records, and the index of the shard that is written.
///
/// # Errors
/// Where an input cannot be read, the folder holds another corpus ([`DataError::OtherCorpus`]), or it cannot be written
/// ([`DataError::Io`]): whole shards stay, and nothing looks like a whole corpus.
pub fn prepare_with(
    config: &PrepareConfig,
    folder: &Path,
    progress: &mut dyn FnMut(&PrepareProgress),
) -> Result<Manifest, DataError> {
    config.validate()?;
    let inputs = Inputs::of(config)?;
    let folder = &match config.job {
        Some(Job { idx, count }) => folder.join(format!("part-{idx}-of-{count}")),
        None => folder.to_path_buf(),
    };
    let manifest_path = folder.join(if config.job.is_some() { PART_FILE } else { MANIFEST_FILE });
    if manifest_path.exists() {
        return existing(&inputs.sha256, &manifest_path);
    }
    fs::create_dir_all(folder).map_err(DataError::io(folder, "create"))?;
    let _lock = lock(folder)?;
    if manifest_path.exists() {
        return existing(&inputs.sha256, &manifest_path); // Another process wrote it while we waited.
    }
    let state = State::enter(folder, &inputs.sha256)?;
    let tokenizer_path = folder.join(config.tokenizer.file_name());
    write_atomic(&tokenizer_path, config.tokenizer.file_contents())?;
    let run_sampling = inputs.run_sampling();
    let tokenize = TokenizeConfig { tokenizer: config.tokenizer.clone(), run_sampling };
    let inputs = inputs.job_part(config, &state, progress)?;
    let output = Output::new(folder, config, &inputs, state)?;
    let states = pipeline::run(&inputs, &tokenize, output, progress)?;
    let mut manifest = manifest(config, folder, &inputs, &states)?;
    if config.job.is_some() {
        let runs = State::keep_runs(folder, manifest.shards.len())?;
        manifest.shards.iter_mut().zip(runs).for_each(|(shard, runs)| shard.runs = Some(runs));
    }
    manifest.write(&manifest_path)?;
    State::remove(folder)?; // Of processes that come meanwhile, one may have done it.
    Ok(manifest)
}

/// Returns the manifest of a folder that already holds the corpus of these inputs.
fn existing(inputs_sha256: &str, manifest_path: &Path) -> Result<Manifest, DataError> {
    let manifest = Manifest::read_file(manifest_path)?;
    let folder = manifest_path.parent().unwrap_or(manifest_path);
    if manifest.inputs_sha256 != inputs_sha256 {
        return Err(DataError::OtherCorpus { path: folder.to_path_buf(), got: manifest.source });
    }
    let _ = State::remove(folder); // What a process that ended just before has left.
    for record in manifest.shards.iter().flat_map(|shard| shard.splits.values()) {
        for (path, file) in record.files(folder) {
            let got = fs::metadata(&path).map_err(DataError::io(&path, "read"))?.len();
            if got != file.num_bytes {
                return Err(DataError::Length { path, expected: file.num_bytes, got });
            }
        }
    }
    Ok(manifest)
}

/// Does work on another thread and calls `watch` now and then meanwhile.
fn watched<T: Send>(work: impl FnOnce() -> T + Send, mut watch: impl FnMut()) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(work);
        while !worker.is_finished() {
            watch();
            thread::sleep(Duration::from_millis(20));
        }
        worker.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Waits until no other process prepares this folder; the lock ends with the returned file.
fn lock(folder: &Path) -> Result<File, DataError> {
    let path = folder.join(LOCK_FILE);
    let file = File::create(&path).map_err(DataError::io(&path, "create"))?;
    match file.lock() {
        Err(error) if error.kind() != ErrorKind::Unsupported => Err(DataError::io(&path, "lock")(error)),
        _ => Ok(file),
    }
}

/// Waits until the names of a folder's files are on the disk.
fn sync(folder: &Path) -> Result<(), DataError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(DataError::io(folder, "sync"))
}

/// Returns the manifest of what was written.
fn manifest(
    config: &PrepareConfig,
    folder: &Path,
    inputs: &Inputs,
    states: &[state::ShardState],
) -> Result<Manifest, DataError> {
    let mut skipped: BTreeMap<String, u64> = inputs.skipped.clone();
    for (reason, count) in states.iter().flat_map(|state| &state.skipped) {
        *skipped.entry(reason.clone()).or_default() += count;
    }
    let paths: Vec<PathBuf> = (0..states.len()).map(|idx| State::runs_path(folder, idx)).collect();
    let shards: Vec<_> =
        states.iter().zip(&paths).map(|(state, path)| ShardRuns { path, record: &state.record }).collect();
    let width = Width::of(config.tokenizer.vocab_size());
    // A part's documents are compared when the parts are joined.
    let near_copies = match config.job {
        Some(_) => NearCopies::default(),
        None => near_copies(folder, &shards, inputs.run_sampling(), width)?,
    };
    let manifest = Manifest {
        format: FORMAT,
        source: inputs.source.clone(),
        licence: inputs.licence.clone(),
        origin: inputs.origin.clone(),
        tokenizer: config.tokenizer_record(),
        options: inputs.options.clone(),
        inputs_sha256: inputs.sha256.clone(),
        job: config.job,
        run_sampling: inputs.run_sampling(),
        splits: Split::ALL.into_iter().map(|split| (split, split_counts(states, split))).collect(),
        skipped: skipped.into_iter().map(|(reason, count)| Skipped { reason, count }).collect(),
        near_copies: near_copies.named,
        num_near_copies: near_copies.count,
        num_not_compared: near_copies.num_not_compared,
        works: inputs.works(),
        shards: states.iter().map(|state| state.record.clone()).collect(),
    };
    if manifest.num_documents() == 0 && config.job.is_none() {
        return Err(DataError::NoDocuments { name: config.source.to_string() });
    }
    Ok(manifest)
}

fn split_counts(states: &[state::ShardState], split: Split) -> Counts {
    states.iter().filter_map(|state| Some(state.record.splits.get(&split)?.counts)).sum()
}
