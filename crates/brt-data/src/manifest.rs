//! What a prepared corpus says about itself: `manifest.json`.

use std::{collections::BTreeMap, fs, path::Path};

use brt_report::read_json;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{DataError, Split};

/// Version of the layout of a prepared corpus.
pub(crate) const FORMAT: u32 = 1;

/// Name of the manifest in a corpus's folder.
pub(crate) const MANIFEST_FILE: &str = "manifest.json";

/// The record of a prepared corpus: where it comes from and every document in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout of the folder.
    pub format: u32,
    /// Which corpus this is: `code`, `books` or `folder`.
    pub source: String,
    /// Name of the tokenizer.
    pub tokenizer: String,
    /// Number of rows that an embedding table of these tokens needs.
    pub vocab_size: usize,
    /// Licence of the texts.
    pub licence: String,
    /// Where the texts were taken from.
    pub origin: String,
    /// The three splits.
    pub splits: BTreeMap<Split, SplitManifest>,
    /// What was left out, by reason.
    pub skipped: Vec<Skipped>,
    /// Held-out documents that repeat much of the training documents; none in a sound corpus. They are searched for
    /// in `code` and `books`, not in folders.
    pub near_copies: Vec<NearCopy>,
}

/// The record of one split and its file of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitManifest {
    /// Number of documents.
    pub num_documents: usize,
    /// Number of tokens of all documents.
    pub num_tokens: u64,
    /// Number of bytes of text of all documents.
    pub num_bytes: u64,
    /// SHA-256 of the file of tokens.
    pub sha256: String,
    /// The documents in the order of the file.
    pub documents: Vec<DocumentEntry>,
}

/// The record of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentEntry {
    /// Name, unique in the corpus; for a crate its name and version.
    pub name: String,
    /// Family or author.
    pub group: String,
    /// Number of tokens.
    pub num_tokens: u64,
    /// Number of bytes of text.
    pub num_bytes: u64,
    /// Position of the document's first token in the split's file, in tokens.
    pub first_token: u64,
    /// SHA-256 of the text.
    pub sha256: String,
}

/// A number of inputs that were left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Why, for example `not UTF-8`.
    pub reason: String,
    /// Number of inputs.
    pub count: usize,
}

/// A held-out document much of which also stands in training documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let path = folder.join(MANIFEST_FILE);
        if !path.exists() {
            return Err(DataError::NotPrepared { path: folder.to_path_buf() });
        }
        let Version { format } = read_json(&path, "a corpus manifest")?;
        if format != FORMAT {
            return Err(DataError::ManifestFormat { path, expected: FORMAT, got: format });
        }
        Ok(read_json(&path, "a corpus manifest")?)
    }

    /// Returns the number of documents of all splits.
    pub fn num_documents(&self) -> usize {
        self.splits.values().map(|split| split.num_documents).sum()
    }
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

/// Returns the name of a split's file of tokens.
pub(crate) fn tokens_file(split: Split) -> String {
    format!("{split}.tokens")
}

/// Returns the SHA-256 of the bytes in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

/// Returns the bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
