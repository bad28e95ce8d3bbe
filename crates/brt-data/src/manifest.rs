//! What a prepared corpus says about itself: `manifest.json`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use brt_report::{read_json, write_atomic};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Counts, DataError, FileRecord, SourceConfig, Split, TokenizerKind};

/// Version of the layout of a prepared corpus.
pub(crate) const FORMAT: u32 = 2;

/// Name of the manifest in a corpus's folder.
pub(crate) const MANIFEST_FILE: &str = "manifest.json";

/// The record of a prepared corpus, or of one job's part of it.
///
/// It holds nothing of the machine that wrote it: the same inputs make the same manifest everywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout of the folder.
    pub format: u32,
    /// Which corpus this is: `code`, `books`, `latex`, `pg19`, or the format of the files.
    pub source: String,
    /// Licence of the texts.
    pub licence: String,
    /// Where the texts were taken from.
    pub origin: String,
    /// The tokenizer; its file lies beside this one.
    pub tokenizer: TokenizerRecord,
    /// What decided which documents these are and how they were read.
    pub options: Options,
    /// SHA-256 of the options and of the names and sizes of all inputs: another corpus is never mixed with this one.
    pub inputs_sha256: String,
    /// Which part of the inputs this is; absent for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    /// Of the runs of lines by which near copies are found one in so many was looked at.
    pub run_sampling: u64,
    /// Sizes of the splits.
    pub splits: BTreeMap<Split, Counts>,
    /// What was left out, by reason.
    pub skipped: Vec<Skipped>,
    /// Held-out documents that repeat much of the training documents, at most a hundred; none in a sound corpus.
    pub near_copies: Vec<NearCopy>,
    /// Number of such documents.
    pub num_near_copies: u64,
    /// Number of held-out documents that were not compared because they have too few lines for the sample of their
    /// runs.
    pub num_not_compared: u64,
    /// The works of a named corpus, where it is a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub works: Vec<Work>,
    /// The shards in the order of the documents.
    pub shards: Vec<ShardRecord>,
}

/// What decides, beside the inputs and the tokenizer, what is in a corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How files were read; absent for the named corpora, which come as works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceConfig>,
    /// Part of the documents that went to validation where the input had no splits.
    pub validation: f64,
    /// Part of the documents that went to test where the input had no splits.
    pub test: f64,
    /// Number of bytes of text after which a shard ended.
    pub shard_bytes: u64,
}

/// The record of a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerRecord {
    /// What it is.
    pub kind: TokenizerKind,
    /// Number of rows that an embedding table of its tokens needs.
    pub vocab_size: usize,
    /// Name of its file in the folder.
    pub file: String,
    /// SHA-256 of that file.
    pub sha256: String,
}

/// A part of the inputs, for job runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Number of the job, from 1.
    pub idx: usize,
    /// Number of jobs.
    pub count: usize,
}

/// The record of a shard: its splits that have documents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRecord {
    /// The splits.
    pub splits: BTreeMap<Split, SplitShard>,
    /// Of a job's part, the file `NNNNN.runs` of the runs of lines by which near copies are found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<FileRecord>,
}

/// The record of one split of a shard and its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitShard {
    /// Name of its files, without `.tokens`, `.index` and `.spans`.
    pub name: String,
    /// Sizes.
    pub counts: Counts,
    /// The file of tokens.
    pub tokens: FileRecord,
    /// The file of spans; absent where tokens are bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spans: Option<FileRecord>,
    /// The file that says where the documents are.
    pub index: FileRecord,
}

impl SplitShard {
    /// Returns the path of a file of this split.
    pub(crate) fn path(&self, folder: &Path, kind: &str) -> PathBuf {
        folder.join(format!("{}.{kind}", self.name))
    }

    /// Returns the files with their records.
    pub(crate) fn files(&self, folder: &Path) -> Vec<(PathBuf, &FileRecord)> {
        let files =
            [("tokens", Some(&self.tokens)), ("spans", self.spans.as_ref()), ("index", Some(&self.index))];
        files.into_iter().filter_map(|(kind, record)| Some((self.path(folder, kind), record?))).collect()
    }

    /// Removes the files of this split.
    pub(crate) fn remove(&self, folder: &Path) -> Result<(), DataError> {
        for (path, _) in self.files(folder) {
            fs::remove_file(&path).map_err(DataError::io(&path, "remove"))?;
        }
        Ok(())
    }
}

/// A work of a named corpus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Name; for a crate its name and version.
    pub name: String,
    /// Family or author.
    pub group: String,
    /// Its split.
    pub split: Split,
    /// Its licence, where it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Number of bytes of text.
    pub num_bytes: u64,
    /// SHA-256 of the text.
    pub sha256: String,
}

/// A number of inputs that were left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// Why, for example `not UTF-8`.
    pub reason: String,
    /// Number of inputs.
    pub count: u64,
}

/// A held-out document much of which also stands in training documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NearCopy {
    /// The held-out document.
    pub name: String,
    /// Its split.
    pub split: Split,
    /// The training document that shares most with it.
    pub train_document: String,
    /// Part of its runs of eight lines that also stand in training documents, 0 to 1.
    pub shared: f64,
}

impl Manifest {
    /// Reads the manifest of a prepared corpus.
    ///
    /// # Errors
    /// [`DataError::NotPrepared`] without a manifest, [`DataError::ManifestFormat`] for one of another version,
    /// [`DataError::Record`] for a file that is no manifest.
    pub fn read(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(MANIFEST_FILE);
        if !path.exists() {
            return Err(DataError::NotPrepared { path: folder.to_path_buf() });
        }
        Self::read_file(&path)
    }

    /// Reads a manifest under any name.
    pub(crate) fn read_file(path: &Path) -> Result<Self, DataError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = read_json(path, "a corpus manifest")?;
        match format {
            FORMAT => Ok(read_json(path, "a corpus manifest")?),
            got if got > FORMAT => {
                Err(DataError::NewerManifest { path: path.to_path_buf(), expected: FORMAT, got })
            }
            got => Err(DataError::ManifestFormat { path: path.to_path_buf(), expected: FORMAT, got }),
        }
    }

    /// Writes the manifest, after its checksum and when all other files of the folder are on the disk.
    pub(crate) fn write(&self, path: &Path) -> Result<(), DataError> {
        let folder = path.parent().unwrap_or(path);
        let mut text = serde_json::to_string_pretty(self).expect("a manifest is JSON");
        text.push('\n');
        write_atomic(&checksum_path(path), format!("{}\n", sha256_hex(text.as_bytes())).as_bytes())?;
        let synced = fs::File::open(folder).and_then(|file| file.sync_all());
        synced.map_err(DataError::io(folder, "sync"))?;
        Ok(write_atomic(path, text.as_bytes())?)
    }

    /// Checks a manifest against its checksum.
    pub(crate) fn verify(path: &Path) -> Result<(), DataError> {
        let checksum_path = checksum_path(path);
        let expected = fs::read(&checksum_path).map_err(DataError::io(&checksum_path, "read"))?;
        let got = sha256_hex(&fs::read(path).map_err(DataError::io(path, "read"))?);
        if expected == format!("{got}\n").as_bytes() {
            return Ok(());
        }
        let expected = String::from_utf8_lossy(&expected).trim().to_owned();
        Err(DataError::Checksum { path: path.to_path_buf(), expected, got })
    }

    /// Returns the number of documents of all splits.
    pub fn num_documents(&self) -> u64 {
        self.splits.values().copied().sum::<Counts>().num_documents
    }

    /// Returns the number of bytes of all files of shards.
    pub fn file_bytes(&self) -> u64 {
        let splits = self.shards.iter().flat_map(|shard| shard.splits.values());
        let files = splits.flat_map(|split| [Some(&split.tokens), split.spans.as_ref(), Some(&split.index)]);
        // A damaged manifest may say anything.
        files.flatten().fold(0, |sum, file| sum.saturating_add(file.num_bytes))
    }

    /// Returns the path of the tokenizer's file.
    pub fn tokenizer_path(&self, folder: &Path) -> PathBuf {
        folder.join(&self.tokenizer.file)
    }
}

/// Returns the path of a manifest's checksum.
fn checksum_path(manifest_path: &Path) -> PathBuf {
    manifest_path.with_extension("sha256")
}

/// Returns the SHA-256 of a prepared corpus's `manifest.json`: the identity of the corpus, the same on every machine.
///
/// # Errors
/// [`DataError::NotPrepared`] without a manifest, [`DataError::Io`] where it cannot be read.
pub fn manifest_sha256(folder: &Path) -> Result<String, DataError> {
    let path = folder.join(MANIFEST_FILE);
    if !path.exists() {
        return Err(DataError::NotPrepared { path: folder.to_path_buf() });
    }
    Ok(sha256_hex(&fs::read(&path).map_err(DataError::io(&path, "read"))?))
}

/// Returns the SHA-256 of the bytes in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

/// Returns the bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
