//! One split of a prepared corpus, opened and checked.

use std::{fs::File, io::Read, path::Path};

use sha2::{Digest, Sha256};

use crate::{
    ByteTokenizer, DataError, Document, Manifest, Split, SplitManifest,
    manifest::{MANIFEST_FILE, hex, manifest_sha256, sha256_hex, tokens_file},
};

/// Number of bytes of a file of tokens that are read at a time; even.
const CHUNK_BYTES: usize = 1 << 20;

/// The tokens of all documents of one split, in memory: two bytes per token.
#[derive(Debug)]
pub struct TokenSet {
    tokens: Vec<u16>,
    documents: Vec<Entry>,
    vocab_size: usize,
    manifest_sha256: String,
}

/// Where a document is in the tokens.
#[derive(Debug)]
struct Entry {
    name: String,
    group: String,
    first_token: usize,
    num_tokens: usize,
    num_bytes: u64,
}

/// One document of a [`TokenSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentTokens<'a> {
    /// Name, unique in the corpus.
    pub name: &'a str,
    /// Author, family of crates, …: what is never split over two splits.
    pub group: &'a str,
    /// All tokens.
    pub tokens: &'a [u16],
    /// Number of bytes of text that the tokens stand for.
    pub num_bytes: u64,
}

impl TokenSet {
    /// Opens a split of a prepared corpus and checks its file against the manifest: length, checksum, documents.
    ///
    /// # Errors
    /// As [`Manifest::read`]; [`DataError::Io`] where the tokens cannot be read; [`DataError::TokensLength`],
    /// [`DataError::Checksum`], [`DataError::ManifestDocuments`] where they are not what was written;
    /// [`DataError::EmptySplit`] without documents.
    pub fn open(folder: &Path, split: Split) -> Result<Self, DataError> {
        let manifest = Manifest::read(folder)?;
        let empty = || DataError::EmptySplit { name: folder.display().to_string(), split };
        let record = manifest.splits.get(&split).ok_or_else(empty)?;
        if record.documents.is_empty() {
            return Err(empty());
        }
        let tokens = read_tokens(&folder.join(tokens_file(split)), record)?;
        let documents = entries(record, tokens.len()).map_err(|document| DataError::ManifestDocuments {
            path: folder.join(MANIFEST_FILE),
            document,
        })?;
        Ok(Self {
            tokens,
            documents,
            vocab_size: manifest.vocab_size,
            manifest_sha256: manifest_sha256(folder)?,
        })
    }

    /// Makes a set of byte tokens of documents in memory; its checksum is one of their names and texts.
    ///
    /// # Errors
    /// [`DataError::EmptySplit`] without documents, [`DataError::TooSmall`] for a document without text.
    pub fn from_documents(documents: &[Document]) -> Result<Self, DataError> {
        let mut hash = Sha256::new();
        let (mut tokens, mut entries) = (Vec::new(), Vec::new());
        for document in documents {
            if document.text.is_empty() {
                return Err(DataError::TooSmall { name: "document text", expected: 1, got: 0 });
            }
            let document_tokens = ByteTokenizer.encode(&document.text);
            entries.push(Entry {
                name: document.name.clone(),
                group: document.group.clone(),
                first_token: tokens.len(),
                num_tokens: document_tokens.len(),
                num_bytes: document.text.len() as u64,
            });
            tokens.extend(document_tokens);
            hash.update(sha256_hex(document.name.as_bytes()));
            hash.update(sha256_hex(&document.text));
        }
        if entries.is_empty() {
            return Err(DataError::EmptySplit { name: "documents".into(), split: Split::Train });
        }
        let manifest_sha256 = hex(&hash.finalize());
        Ok(Self { tokens, documents: entries, vocab_size: ByteTokenizer::VOCAB_SIZE, manifest_sha256 })
    }

    /// Returns the number of documents, at least 1.
    pub fn num_documents(&self) -> usize {
        self.documents.len()
    }

    /// Returns the number of tokens of all documents.
    pub fn num_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Returns a document.
    ///
    /// # Panics
    /// Where `document_idx` is not below [`TokenSet::num_documents`].
    pub fn document(&self, document_idx: usize) -> DocumentTokens<'_> {
        let entry = &self.documents[document_idx];
        let tokens = &self.tokens[entry.first_token..][..entry.num_tokens];
        DocumentTokens { name: &entry.name, group: &entry.group, tokens, num_bytes: entry.num_bytes }
    }

    /// Returns the number of rows that an embedding table of these tokens needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Returns the SHA-256 of the manifest that the split belongs to.
    pub fn manifest_sha256(&self) -> &str {
        &self.manifest_sha256
    }

    /// Returns the number of tokens of the longest document.
    pub(crate) fn longest_document(&self) -> usize {
        self.documents.iter().map(|entry| entry.num_tokens).max().unwrap_or(0)
    }
}

/// Reads a file of tokens, two bytes little endian each, and checks its length and checksum.
fn read_tokens(path: &Path, record: &SplitManifest) -> Result<Vec<u16>, DataError> {
    let mut file = File::open(path).map_err(DataError::io(path, "read"))?;
    let got = file.metadata().map_err(DataError::io(path, "read"))?.len();
    let expected = record.num_tokens * 2;
    if got != expected {
        return Err(DataError::TokensLength { path: path.to_path_buf(), expected, got });
    }
    let mut hash = Sha256::new();
    let mut tokens = Vec::with_capacity(record.num_tokens as usize);
    // In chunks, so that a large corpus is not in memory twice.
    let mut chunk = vec![0; CHUNK_BYTES];
    while tokens.len() < record.num_tokens as usize {
        let num_bytes = CHUNK_BYTES.min((record.num_tokens as usize - tokens.len()) * 2);
        let bytes = &mut chunk[..num_bytes];
        file.read_exact(bytes).map_err(DataError::io(path, "read"))?;
        hash.update(&*bytes);
        tokens.extend(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])));
    }
    let got = hex(&hash.finalize());
    if got != record.sha256 {
        return Err(DataError::Checksum { path: path.to_path_buf(), expected: record.sha256.clone(), got });
    }
    Ok(tokens)
}

/// Returns where the documents are, or the name of the first one that does not follow the one before.
fn entries(record: &SplitManifest, num_tokens: usize) -> Result<Vec<Entry>, String> {
    let mut end = 0;
    let mut entries = Vec::with_capacity(record.documents.len());
    for document in &record.documents {
        if document.first_token != end || document.num_tokens == 0 {
            return Err(document.name.clone());
        }
        end += document.num_tokens;
        entries.push(Entry {
            name: document.name.clone(),
            group: document.group.clone(),
            first_token: document.first_token as usize,
            num_tokens: document.num_tokens as usize,
            num_bytes: document.num_bytes,
        });
    }
    let last = record.documents.last().map(|document| document.name.clone()).unwrap_or_default();
    if end == num_tokens as u64 { Ok(entries) } else { Err(last) }
}
