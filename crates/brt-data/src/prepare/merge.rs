//! The parts that several jobs prepared, joined to one corpus.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    PART_FILE, State, existing, lock,
    near_copies::{ShardRuns, near_copies},
};
use crate::{
    Counts, DataError, Job, Manifest, ShardRecord, Skipped, Split,
    manifest::MANIFEST_FILE,
    shard::{Width, copy_whole},
    verify::check_tokenizer,
};

/// Joins the parts of a corpus that were prepared with [`crate::PrepareConfig::job`], in the order of the jobs, and
/// returns the manifest of the whole.
///
/// `parts` are the folders `part-I-of-N`, from wherever they were prepared. Their files are linked into `folder`, or
/// copied where the file system cannot; the parts stay. The documents are, in the same order, those that one job would
/// have made. `progress` gets the number of bytes read and of all.
///
/// # Errors
/// [`DataError::Parts`] where a part is missing, there twice, or made from other inputs, with other options or another
/// tokenizer; [`DataError::Length`] and [`DataError::Checksum`] where a part's file is damaged.
pub fn merge(
    parts: &[&Path],
    folder: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest, DataError> {
    let parts = read(parts)?;
    fs::create_dir_all(folder).map_err(DataError::io(folder, "create"))?;
    let same = |part: &&Part| fs::canonicalize(&part.folder).ok() == fs::canonicalize(folder).ok();
    if let Some(part) = parts.iter().find(same) {
        return Err(error(folder, "a folder of its own", format!("the part {}", part.folder.display())));
    }
    let _lock = lock(folder)?;
    let manifest_path = folder.join(MANIFEST_FILE);
    if manifest_path.exists() {
        let manifest = existing(&parts[0].manifest.inputs_sha256, &manifest_path)?;
        return match manifest.shards == shards(&parts) {
            true => Ok(manifest),
            false => Err(DataError::OtherCorpus { path: folder.to_path_buf(), got: manifest.source }),
        };
    }
    let total = parts.iter().map(|part| part.manifest.file_bytes()).sum();
    let mut read = 0;
    let mut add = |num_bytes| {
        read += num_bytes;
        progress(read, total);
    };
    for part in &parts {
        for (shard_idx, shard) in part.manifest.shards.iter().enumerate() {
            for (path, file) in shard.splits.values().flat_map(|record| record.files(&part.folder)) {
                file.verify(&path, &mut add)?;
                link(&path, folder)?;
            }
            if let Some(runs) = &shard.runs {
                runs.verify(&State::part_runs_path(&part.folder, shard_idx), &mut |_| ())?;
            }
        }
    }
    let tokenizer_path = parts[0].manifest.tokenizer_path(&parts[0].folder);
    check_tokenizer(&tokenizer_path, &parts[0].manifest)?;
    link(&tokenizer_path, folder)?;
    let manifest = joined(&parts, folder)?;
    if manifest.num_documents() == 0 {
        return Err(DataError::NoDocuments { name: folder.display().to_string() });
    }
    manifest.write(&manifest_path)?;
    Ok(manifest)
}

/// One job's part.
struct Part {
    folder: PathBuf,
    manifest: Manifest,
    job: Job,
}

/// Reads the manifests of all parts, checks them and returns the parts in the order of their jobs.
fn read(folders: &[&Path]) -> Result<Vec<Part>, DataError> {
    let mut parts = Vec::new();
    for folder in folders {
        let path = folder.join(PART_FILE);
        if !path.exists() {
            let expected = "the part.json of a finished job";
            return Err(DataError::Missing { path, expected });
        }
        let manifest = Manifest::read_file(&path)?;
        Manifest::verify(&path)?;
        let wrong = || error(folder, "a job's part", "a part without a job".into());
        let job = manifest.job.ok_or_else(wrong)?;
        parts.push(Part { folder: folder.to_path_buf(), manifest, job });
    }
    parts.sort_by_key(|part| part.job.idx);
    check(&parts)?;
    Ok(parts)
}

/// Checks that sorted parts are those of one corpus, each once.
fn check(parts: &[Part]) -> Result<(), DataError> {
    let Some(first) = parts.first() else {
        return Err(error(Path::new("parts"), "at least one folder", "none".into()));
    };
    for part in parts {
        let tokenizer = &first.manifest.tokenizer;
        if part.manifest.tokenizer != *tokenizer {
            let expected = format!("the tokenizer {} of {}", tokenizer.sha256, first.folder.display());
            return Err(error(&part.folder, expected, part.manifest.tokenizer.sha256.clone()));
        }
        if (&part.manifest.inputs_sha256, part.job.count) != (&first.manifest.inputs_sha256, first.job.count)
        {
            let expected = format!(
                "a part of the same inputs, options and number of jobs as {}",
                first.folder.display()
            );
            return Err(error(&part.folder, expected, "another".into()));
        }
    }
    let jobs: Vec<usize> = parts.iter().map(|part| part.job.idx).collect();
    if let Some(twice) = jobs.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(error(&first.folder, "each job once", format!("job {} twice", twice[0])));
    }
    let missing: Vec<String> =
        (1..=first.job.count).filter(|idx| !jobs.contains(idx)).map(|idx| idx.to_string()).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => {
            let (expected, got) = (format!("the parts of {} jobs", first.job.count), missing.join(", "));
            Err(error(&first.folder, expected, format!("none of job {got}")))
        }
    }
}

fn error(path: &Path, expected: impl Into<String>, got: String) -> DataError {
    DataError::Parts { path: path.to_path_buf(), expected: expected.into(), got }
}

/// Puts a file into a folder, without taking its place on the disk twice where that is possible.
fn link(path: &Path, folder: &Path) -> Result<(), DataError> {
    let to = folder.join(path.file_name().unwrap_or_default());
    if to.exists() {
        fs::remove_file(&to).map_err(DataError::io(&to, "replace"))?;
    }
    if fs::hard_link(path, &to).is_err() {
        copy_whole(path, &to)?;
    }
    Ok(())
}

/// Returns the records of the shards of the whole.
fn shards(parts: &[Part]) -> Vec<ShardRecord> {
    let shards = parts.iter().flat_map(|part| &part.manifest.shards);
    shards.map(|shard| ShardRecord { runs: None, ..shard.clone() }).collect()
}

/// Returns the manifest of the whole.
fn joined(parts: &[Part], folder: &Path) -> Result<Manifest, DataError> {
    let first = &parts[0].manifest;
    let mut skipped: BTreeMap<String, u64> = BTreeMap::new();
    let manifests = || parts.iter().map(|part| &part.manifest);
    for Skipped { reason, count } in manifests().flat_map(|manifest| &manifest.skipped) {
        *skipped.entry(reason.clone()).or_default() += count;
    }
    let runs: Vec<PathBuf> = parts
        .iter()
        .flat_map(|part| (0..part.manifest.shards.len()).map(|idx| State::part_runs_path(&part.folder, idx)))
        .collect();
    let shards = shards(parts);
    let runs: Vec<_> = runs.iter().zip(&shards).map(|(path, record)| ShardRuns { path, record }).collect();
    let width = Width::of(first.tokenizer.vocab_size);
    let near_copies = near_copies(folder, &runs, first.run_sampling, width)?;
    let counts =
        |split| -> Counts { manifests().filter_map(|manifest| manifest.splits.get(&split).copied()).sum() };
    Ok(Manifest {
        job: None,
        splits: Split::ALL.into_iter().map(|split| (split, counts(split))).collect(),
        skipped: skipped.into_iter().map(|(reason, count)| Skipped { reason, count }).collect(),
        near_copies: near_copies.named,
        num_near_copies: near_copies.count,
        num_not_compared: near_copies.num_not_compared,
        works: manifests().flat_map(|manifest| manifest.works.clone()).collect(),
        shards,
        ..first.clone()
    })
}
