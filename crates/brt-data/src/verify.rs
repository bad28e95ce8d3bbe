//! Whether a prepared corpus is still what was written.

use std::{fs, path::Path};

use crate::{
    Counts, DataError, Manifest, ShardRecord, Span, SplitShard, Tokenizer,
    manifest::{MANIFEST_FILE, sha256_hex},
    shard::{Shard, Width},
};

/// Reads every file of a prepared corpus and checks it against the manifest: lengths, checksums, documents, counts and
/// tokens. `progress` gets the number of bytes read and of all.
///
/// # Errors
/// The first file that is not what was written, or a document or a token that cannot be.
pub fn verify(folder: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Manifest, DataError> {
    let manifest = Manifest::read(folder)?;
    Manifest::verify(&folder.join(MANIFEST_FILE))?;
    let shards = || manifest.shards.iter().flat_map(|shard| shard.splits.values());
    let total = manifest.file_bytes();
    let mut read = 0;
    check_tokenizer(&manifest.tokenizer_path(folder), &manifest)?;
    for record in shards() {
        for (path, file) in record.files(folder) {
            file.verify(&path, &mut |num_bytes| {
                read += num_bytes;
                progress(read, total);
            })?;
        }
        documents(folder, record, manifest.tokenizer.vocab_size)?;
    }
    for (&split, &counts) in &manifest.splits {
        let records = manifest.shards.iter().filter_map(|ShardRecord { splits, .. }| splits.get(&split));
        if records.map(|record| record.counts).sum::<Counts>() != counts {
            return Err(DataError::Counts { path: folder.to_path_buf(), what: split.to_string() });
        }
    }
    Ok(manifest)
}

/// Checks that a file is the tokenizer of a manifest.
pub(crate) fn check_tokenizer(path: &Path, manifest: &Manifest) -> Result<(), DataError> {
    let got = sha256_hex(&fs::read(path).map_err(DataError::io(path, "read"))?);
    if got != manifest.tokenizer.sha256 {
        let expected = manifest.tokenizer.sha256.clone();
        return Err(DataError::Checksum { path: path.to_path_buf(), expected, got });
    }
    Tokenizer::from_file(path)?;
    Ok(())
}

/// Checks that the documents of a split of a shard follow one another and have the sizes that the manifest says.
fn documents(folder: &Path, record: &SplitShard, vocab_size: usize) -> Result<(), DataError> {
    let shard = Shard::open(folder, record, Width::of(vocab_size))?;
    let mut found = Counts { num_documents: record.counts.num_documents, ..Counts::default() };
    for document_idx in 0..shard.index().num_documents() {
        let entry = shard.index().entry(document_idx).filter(|entry| entry.num_tokens > 0);
        let entry = entry.ok_or(DataError::DamagedDocument { document_idx })?;
        let Span { num_bytes, num_words } = entry.span;
        let document = Counts { num_documents: 0, num_tokens: entry.num_tokens as u64, num_bytes, num_words };
        found = found + document;
        let tokens = shard.tokens();
        let end = (entry.first_token + entry.num_tokens).min(tokens.len());
        let largest = tokens.slice(entry.first_token.min(end)..end).largest();
        if largest as usize >= vocab_size {
            return Err(DataError::Token { document_idx, vocab_size, got: largest });
        }
    }
    match found == record.counts {
        true => Ok(()),
        false => Err(DataError::Counts { path: record.path(folder, "index"), what: "its documents".into() }),
    }
}
