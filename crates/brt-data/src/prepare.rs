//! From documents to files of tokens that are whole or not there.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, ErrorKind, Write},
    path::Path,
};

use brt_report::write_json;
use sha2::{Digest, Sha256};

use crate::{
    ByteTokenizer, CorpusSource, DataError, DocumentEntry, Manifest, Split, SplitManifest,
    corpus::{Corpus, Member},
    manifest::{FORMAT, MANIFEST_FILE, hex, sha256_hex, tokens_file},
};

/// Name of the file that a process locks while it prepares a folder.
const LOCK_FILE: &str = ".lock";

/// Writes the tokens of a corpus into a folder and returns its manifest.
///
/// The folder then holds `train.tokens`, `validation.tokens` and `test.tokens` (two bytes per token, little endian,
/// all documents one after another) and, written last, `manifest.json`. A folder that already holds the same corpus,
/// made from the same inputs, is left as it is. Of two processes that prepare one folder, the second waits for the
/// first.
///
/// # Errors
/// Where the source cannot be read or has too few documents, where the folder holds another corpus
/// ([`DataError::OtherCorpus`]), or where the folder cannot be written ([`DataError::Io`]): nothing in it then looks
/// like a whole corpus.
pub fn prepare(source: &CorpusSource, folder: &Path) -> Result<Manifest, DataError> {
    let corpus = source.read()?;
    for split in Split::ALL {
        if corpus.members(split).next().is_none() {
            return Err(DataError::EmptySplit { name: source.to_string(), split });
        }
    }
    if folder.join(MANIFEST_FILE).exists() {
        return existing(&corpus, folder);
    }
    fs::create_dir_all(folder).map_err(DataError::io(folder, "create"))?;
    let _lock = lock(folder)?;
    if folder.join(MANIFEST_FILE).exists() {
        return existing(&corpus, folder); // Another process wrote it while we waited.
    }
    let splits = Split::ALL.into_iter().map(|split| Ok((split, write_split(&corpus, split, folder)?)));
    let manifest = corpus.manifest(splits.collect::<Result<_, DataError>>()?);
    let synced = File::open(folder).and_then(|file| file.sync_all());
    synced.map_err(DataError::io(folder, "sync"))?;
    write_json(&folder.join(MANIFEST_FILE), &manifest)?;
    Ok(manifest)
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

/// Returns the manifest of a folder that already holds this corpus.
fn existing(corpus: &Corpus, folder: &Path) -> Result<Manifest, DataError> {
    let manifest = Manifest::read(folder)?;
    let splits = manifest.splits.clone();
    for split in Split::ALL {
        let entries = entries(corpus, split)?;
        let is_same = splits.get(&split).is_some_and(|record| record.documents == entries);
        if !is_same {
            return Err(DataError::OtherCorpus { path: folder.to_path_buf(), got: manifest.source });
        }
        let path = folder.join(tokens_file(split));
        let got = fs::metadata(&path).map_err(DataError::io(&path, "read"))?.len();
        let expected = splits.get(&split).map_or(0, |record| record.num_tokens * 2);
        if got != expected {
            return Err(DataError::TokensLength { path, expected, got });
        }
    }
    if corpus.manifest(splits) != manifest {
        return Err(DataError::OtherCorpus { path: folder.to_path_buf(), got: manifest.source });
    }
    Ok(manifest)
}

/// Returns what the manifest says about the documents of a split.
fn entries(corpus: &Corpus, split: Split) -> Result<Vec<DocumentEntry>, DataError> {
    let mut first_token = 0;
    let mut entries = Vec::new();
    for member in corpus.members(split) {
        let text = member.text()?;
        let entry = entry(member, &text, text.len() as u64, first_token);
        first_token += entry.num_tokens;
        entries.push(entry);
    }
    Ok(entries)
}

/// Returns what the manifest says about one document.
fn entry(member: &Member, text: &[u8], num_tokens: u64, first_token: u64) -> DocumentEntry {
    DocumentEntry {
        name: member.name.clone(),
        group: member.group.clone(),
        num_tokens,
        num_bytes: text.len() as u64,
        first_token,
        sha256: sha256_hex(text),
    }
}

/// Writes a split's file of tokens under a temporary name, then renames it.
fn write_split(corpus: &Corpus, split: Split, folder: &Path) -> Result<SplitManifest, DataError> {
    let path = folder.join(tokens_file(split));
    let part = folder.join(format!("{}.part", tokens_file(split)));
    let written = write_tokens(corpus, split, &part);
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    let record = written?;
    fs::rename(&part, &path).map_err(DataError::io(&path, "rename to"))?;
    Ok(record)
}

/// Writes the tokens of a split, document after document, and waits until they are on the disk.
fn write_tokens(corpus: &Corpus, split: Split, path: &Path) -> Result<SplitManifest, DataError> {
    let file = File::create(path).map_err(DataError::io(path, "create"))?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let mut hash = Sha256::new();
    let (mut documents, mut num_tokens, mut num_bytes) = (Vec::new(), 0, 0);
    for member in corpus.members(split) {
        let text = member.text()?;
        let tokens = ByteTokenizer.encode(&text);
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        hash.update(&bytes);
        file.write_all(&bytes).map_err(DataError::io(path, "write"))?;
        documents.push(entry(member, &text, tokens.len() as u64, num_tokens));
        num_tokens += tokens.len() as u64;
        num_bytes += text.len() as u64;
    }
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(DataError::io(path, "write"))?;
    let (num_documents, sha256) = (documents.len(), hex(&hash.finalize()));
    Ok(SplitManifest { num_documents, num_tokens, num_bytes, sha256, documents })
}

impl Corpus {
    /// Returns the manifest of this corpus with these splits.
    fn manifest(&self, splits: BTreeMap<Split, SplitManifest>) -> Manifest {
        Manifest {
            format: FORMAT,
            source: self.source.to_owned(),
            tokenizer: ByteTokenizer.name().to_owned(),
            vocab_size: ByteTokenizer::VOCAB_SIZE,
            licence: self.licence.to_owned(),
            origin: self.origin.clone(),
            splits,
            skipped: self.skipped.clone(),
            near_copies: self.near_copies.clone(),
        }
    }
}
