//! Whether a prepared corpus is still what was written.

use std::{fs, path::Path};

use crate::{
    DataError, Manifest, ShardRecord, SplitShard, Tokenizer,
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
    let total = shards().flat_map(|shard| shard.files(folder)).map(|(_, file)| file.num_bytes).sum();
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
        if records.map(|record| record.counts).sum::<crate::Counts>() != counts {
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
    let (mut num_tokens, mut num_bytes, mut num_words) = (0, 0, 0);
    for document_idx in 0..shard.index().num_documents() {
        let entry = shard.index().entry(document_idx).ok_or(DataError::DamagedDocument { document_idx })?;
        num_tokens += entry.num_tokens as u64;
        num_bytes += entry.span.num_bytes;
        num_words += entry.span.num_words;
        let tokens = shard.tokens();
        let end = (entry.first_token + entry.num_tokens).min(tokens.len());
        let largest = tokens.slice(entry.first_token.min(end)..end).largest();
        if largest as usize >= vocab_size {
            return Err(DataError::Token { document_idx, vocab_size, got: largest });
        }
    }
    let counts = record.counts;
    match (num_tokens, num_bytes, num_words) == (counts.num_tokens, counts.num_bytes, counts.num_words) {
        true => Ok(()),
        false => Err(DataError::Counts { path: record.path(folder, "index"), what: "its documents".into() }),
    }
}
