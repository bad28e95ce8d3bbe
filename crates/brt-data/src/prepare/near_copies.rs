//! Held-out documents that repeat training documents: with them a model would be tested on what it has read.
//!
//! Documents are compared by the runs of eight lines that stand in both. Of a large corpus only the runs whose hash is
//! a multiple of a number are looked at, which leaves shares as they are but for chance.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
};

use crate::{
    DataError, NearCopy, ShardRecord, Split,
    shard::{Shard, Width},
};

/// Part of a document's runs from which on it counts as a near copy.
const MAX_SHARED: f64 = 0.2;

/// Fewest runs that say anything where not all are looked at.
const MIN_SAMPLED: usize = 8;

/// Number of near copies that are named.
const MAX_NAMED: usize = 100;

/// A run of a document; written in 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) hash: u64,
    /// Place of the document among those of its split in the shard.
    pub(super) document_idx: u32,
    pub(super) split: Split,
}

/// The runs of all documents of a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShardRuns<'a> {
    pub(super) path: &'a Path,
    pub(super) record: &'a ShardRecord,
}

/// Writes the runs of a shard.
pub(super) fn write_runs(path: &Path, runs: &[Run]) -> Result<(), DataError> {
    let error = || DataError::io(path, "write");
    let mut file = BufWriter::new(File::create(path).map_err(error())?);
    for run in runs {
        let split = Split::ALL.iter().position(|&split| split == run.split).unwrap_or(0) as u32;
        file.write_all(&run.hash.to_le_bytes()).map_err(error())?;
        file.write_all(&run.document_idx.to_le_bytes()).map_err(error())?;
        file.write_all(&split.to_le_bytes()).map_err(error())?;
    }
    file.into_inner().map_err(|e| e.into_error()).and_then(|file| file.sync_all()).map_err(error())
}

/// Calls `visit` with every run of a shard.
fn visit_runs(path: &Path, mut visit: impl FnMut(Run)) -> Result<(), DataError> {
    let error = || DataError::io(path, "read");
    let file = File::open(path).map_err(error())?;
    let len = file.metadata().map_err(error())?.len();
    let mut file = BufReader::with_capacity(1 << 20, file);
    for _ in 0..len / 16 {
        let mut record = [0; 16];
        file.read_exact(&mut record).map_err(error())?;
        let (hash, rest) = record.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let (document_idx, split) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let split = split.first().and_then(|&split| Split::ALL.get(usize::from(split)));
        let (hash, document_idx) = (u64::from_le_bytes(*hash), u32::from_le_bytes(*document_idx));
        visit(Run { hash, document_idx, split: split.copied().unwrap_or(Split::Train) });
    }
    Ok(())
}

/// A document: its shard, its split and its place there.
type DocumentId = (u32, Split, u32);

/// What the comparison found.
#[derive(Debug, Default)]
pub(super) struct NearCopies {
    /// Those that share most, at most a hundred.
    pub(super) named: Vec<NearCopy>,
    /// Number of all.
    pub(super) count: u64,
    /// Number of held-out documents with too few runs to say anything.
    pub(super) num_not_compared: u64,
}

/// Returns the held-out documents more than a fifth of whose runs stand in training documents too.
pub(super) fn near_copies(
    folder: &Path,
    shards: &[ShardRuns<'_>],
    run_sampling: u64,
    width: Width,
) -> Result<NearCopies, DataError> {
    let min_runs = if run_sampling > 1 { MIN_SAMPLED } else { 1 };
    let (mut documents, copies) = shares(shards, min_runs)?;
    let held_out =
        shards.iter().flat_map(|shard| &shard.record.splits).filter(|(split, _)| **split != Split::Train);
    let num_held_out: u64 = held_out.map(|(_, split)| split.counts.num_documents).sum();
    let num_compared = documents.values().filter(|runs| runs.len() >= min_runs).count() as u64;
    let mut named: Vec<(&DocumentId, &f64)> = copies.iter().collect();
    named.sort_by(|a, b| b.1.total_cmp(a.1).then(a.0.cmp(b.0)));
    named.truncate(MAX_NAMED);
    documents.retain(|id, _| named.iter().any(|(named, _)| *named == id));
    let sources = sources(shards, &documents)?;
    let name = |&(shard_idx, split, document_idx): &DocumentId| -> Result<String, DataError> {
        let damaged = || DataError::DamagedDocument { document_idx: document_idx as usize };
        let record = shards[shard_idx as usize].record.splits.get(&split).ok_or_else(damaged)?;
        let shard = Shard::open(folder, record, width)?;
        Ok(shard.index().entry(document_idx as usize).ok_or_else(damaged)?.name.to_owned())
    };
    let copy = |(id, &shared): (&DocumentId, &f64)| {
        let train_document = sources.get(id).map(name).transpose()?.unwrap_or_default();
        Ok(NearCopy { name: name(id)?, split: id.1, train_document, shared })
    };
    let named = named.into_iter().map(copy).collect::<Result<_, DataError>>()?;
    Ok(NearCopies { named, count: copies.len() as u64, num_not_compared: num_held_out - num_compared })
}

/// The runs of held-out documents.
type HeldOutRuns = HashMap<DocumentId, Vec<u64>>;

/// Returns the runs of the held-out documents, and of those that are near copies the part that they share.
fn shares(
    shards: &[ShardRuns<'_>],
    min_runs: usize,
) -> Result<(HeldOutRuns, HashMap<DocumentId, f64>), DataError> {
    let mut documents = HeldOutRuns::new();
    let mut is_in_training: HashMap<u64, bool> = HashMap::new();
    for (shard_idx, shard) in shards.iter().enumerate() {
        visit_runs(shard.path, |run| {
            if run.split != Split::Train {
                documents.entry((shard_idx as u32, run.split, run.document_idx)).or_default().push(run.hash);
                is_in_training.insert(run.hash, false);
            }
        })?;
    }
    for shard in shards {
        visit_runs(shard.path, |run| {
            if let Some(found) = is_in_training.get_mut(&run.hash).filter(|_| run.split == Split::Train) {
                *found = true;
            }
        })?;
    }
    let share = |(&id, runs): (&DocumentId, &Vec<u64>)| {
        let found = runs.iter().filter(|run| is_in_training.get(run) == Some(&true)).count();
        let shared = found as f64 / runs.len() as f64;
        (runs.len() >= min_runs && shared > MAX_SHARED).then_some((id, shared))
    };
    let copies = documents.iter().filter_map(share).collect();
    Ok((documents, copies))
}

/// Returns the training document that shares most runs with each of these documents.
fn sources(
    shards: &[ShardRuns<'_>],
    documents: &HeldOutRuns,
) -> Result<HashMap<DocumentId, DocumentId>, DataError> {
    let mut holders: HashMap<u64, Vec<DocumentId>> = HashMap::new();
    for (&id, runs) in documents {
        for &run in runs {
            holders.entry(run).or_default().push(id);
        }
    }
    let mut most =
        MostShared { document: (0, Split::Train, 0), shared: HashMap::new(), best: HashMap::new() };
    for (shard_idx, shard) in shards.iter().enumerate() {
        visit_runs(shard.path, |run| {
            most.enter((shard_idx as u32, run.split, run.document_idx));
            for &id in holders.get(&run.hash).into_iter().flatten().filter(|_| run.split == Split::Train) {
                *most.shared.entry(id).or_default() += 1;
            }
        })?;
    }
    most.leave();
    Ok(most.best.into_iter().map(|(id, (_, train))| (id, train)).collect())
}

/// The training documents that share most runs, found by one document after another: the runs of a document stand
/// together, and there may be more pairs of documents than fit into memory.
#[derive(Debug)]
struct MostShared {
    document: DocumentId,
    /// Number of this document's runs that stand in each of the held-out documents.
    shared: HashMap<DocumentId, u64>,
    best: HashMap<DocumentId, (u64, DocumentId)>,
}

impl MostShared {
    fn enter(&mut self, document: DocumentId) {
        if document != self.document {
            self.leave();
            self.document = document;
        }
    }

    fn leave(&mut self) {
        for (id, num_runs) in self.shared.drain() {
            let best = self.best.entry(id).or_insert((num_runs, self.document));
            if num_runs > best.0 {
                *best = (num_runs, self.document); // Of equals the first.
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{CorpusSource, Job, PrepareConfig, SourceFormat, prepare};

    /// Prepares documents as the part of a job, which keeps the runs, and compares those whose hash is a multiple.
    fn compare(documents: &[(&str, String)], run_sampling: u64) -> NearCopies {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in documents {
            let path = folder.path().join("in").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let source = CorpusSource::files(folder.path().join("in"), SourceFormat::Files);
        let job = Some(Job { idx: 1, count: 1 });
        let manifest = prepare(&PrepareConfig { job, ..PrepareConfig::new(source) }, folder.path()).unwrap();
        let part = folder.path().join("part-1-of-1");
        let mut runs = vec![];
        visit_runs(&part.join("00000.runs"), |run| runs.push(run)).unwrap();
        runs.retain(|run| run.hash.is_multiple_of(run_sampling));
        let path = folder.path().join("runs");
        write_runs(&path, &runs).unwrap();
        let shards = [ShardRuns { path: &path, record: &manifest.shards[0] }];
        near_copies(&part, &shards, run_sampling, Width::Narrow).unwrap()
    }

    fn lines(lines: std::ops::Range<usize>) -> String {
        lines.map(|i| format!("line {i}\n")).collect()
    }

    /// A sample of the runs finds the same documents with about the same shares, and says which have too few.
    #[test]
    fn a_sample_of_the_runs_is_enough_of_long_documents() {
        let documents = [
            ("train/all", lines(0..10_000)),
            ("test/half", lines(5_000..15_000)),
            ("test/short", lines(0..20)),
            ("validation/fresh", lines(20_000..30_000)),
        ];
        let all = compare(&documents, 1);
        assert_eq!((all.count, all.num_not_compared), (2, 0));
        let sample = compare(&documents, 16);
        assert_eq!((sample.count, sample.num_not_compared), (1, 1));
        let half = &sample.named[0];
        assert_eq!((half.name.as_str(), half.train_document.as_str()), ("test/half", "train/all"));
        assert!((half.shared - 0.5).abs() < 0.05, "{}", half.shared);
    }

    /// Of training documents that share the same number of runs the first is named, of others the one that shares most.
    #[test]
    fn the_training_document_that_shares_most_is_named() {
        let documents = [
            ("train/a", lines(0..20)),
            ("train/b", lines(0..30)),
            ("train/c", lines(0..30)),
            ("test/copy", lines(0..30)),
            ("validation/other", lines(50..60)),
        ];
        let found = compare(&documents, 1);
        let [copy] = &found.named[..] else { panic!("{found:?}") };
        assert_eq!((copy.train_document.as_str(), copy.shared), ("train/b", 1.));
    }
}
