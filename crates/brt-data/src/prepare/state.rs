//! What an unfinished preparation has done: the folder `.prepare`, with a record of each whole shard.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use brt_report::{read_json, write_json};
use serde::{Deserialize, Serialize};

use super::near_copies::{Run, write_runs};
use crate::{DataError, FileRecord, ShardRecord, Split, shard::copy_whole};

/// Where the inputs were read up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// Index of the unit that is read.
    pub(super) unit_idx: usize,
    /// Number of its inputs that were written or left out.
    pub(super) num_done: u64,
}

/// The record of a whole shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShardState {
    pub(super) record: ShardRecord,
    /// Where the next shard goes on.
    pub(super) next: Position,
    /// What was left out since the shard before, by reason.
    pub(super) skipped: BTreeMap<String, u64>,
}

/// The record of the whole: what it is made from.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    inputs_sha256: String,
}

/// The folder `.prepare` of a folder that is being prepared.
#[derive(Debug)]
pub(super) struct State {
    folder: PathBuf,
    /// The shards that are whole.
    pub(super) shards: Vec<ShardState>,
}

impl State {
    /// Begins a preparation, or enters the one that was interrupted.
    pub(super) fn enter(folder: &Path, inputs_sha256: &str) -> Result<Self, DataError> {
        let own = Self::folder(folder);
        fs::create_dir_all(&own).map_err(DataError::io(&own, "create"))?;
        let plan_path = own.join("plan.json");
        if plan_path.exists() {
            let plan: Plan = read_json(&plan_path, "the record of an unfinished preparation")?;
            if plan.inputs_sha256 != inputs_sha256 {
                let got = "unfinished".into();
                return Err(DataError::OtherCorpus { path: folder.to_path_buf(), got });
            }
        } else {
            write_json(&plan_path, &Plan { inputs_sha256: inputs_sha256.to_owned() })?;
        }
        let mut this = Self { folder: folder.to_path_buf(), shards: vec![] };
        while let Some(shard) = this.read_shard(this.shards.len()) {
            this.shards.push(shard);
        }
        if !this.shards.is_empty() {
            tracing::info!(num_shards = this.shards.len(), "going on after the last whole shard");
        }
        remove_parts(folder)?;
        Ok(this)
    }

    /// Returns the record of a shard whose files are there as it says.
    fn read_shard(&self, shard_idx: usize) -> Option<ShardState> {
        let path = Self::folder(&self.folder).join(format!("{shard_idx:05}.json"));
        let state: ShardState = read_json(&path, "the record of a shard").ok()?;
        let splits = state.record.splits.values();
        let whole = splits.flat_map(|split| split.files(&self.folder)).all(|(path, record)| {
            fs::metadata(path).is_ok_and(|metadata| metadata.len() == record.num_bytes)
        });
        (whole && Self::runs_path(&self.folder, shard_idx).exists()).then_some(state)
    }

    /// Adds a shard whose files are whole.
    pub(super) fn push(&mut self, shard: ShardState, runs: &[Run]) -> Result<(), DataError> {
        let shard_idx = self.shards.len();
        write_runs(&Self::runs_path(&self.folder, shard_idx), runs)?;
        super::sync(&self.folder)?;
        write_json(&Self::folder(&self.folder).join(format!("{shard_idx:05}.json")), &shard)?;
        self.shards.push(shard);
        Ok(())
    }

    /// Returns where the inputs go on.
    pub(super) fn next(&self) -> Position {
        self.shards.last().map(|shard| shard.next).unwrap_or_default()
    }

    /// Returns the folder of a preparation's state.
    pub(super) fn folder(folder: &Path) -> PathBuf {
        folder.join(".prepare")
    }

    /// Returns the folder in which rows that belong together are brought together.
    pub(super) fn spill_folder(&self) -> PathBuf {
        Self::folder(&self.folder).join("spill")
    }

    /// Returns the path of the runs of lines of a shard.
    pub(super) fn runs_path(folder: &Path, shard_idx: usize) -> PathBuf {
        Self::folder(folder).join(format!("{shard_idx:05}.runs"))
    }

    /// Returns the path of the runs of lines of a shard of a job's part that is done.
    pub(super) fn part_runs_path(folder: &Path, shard_idx: usize) -> PathBuf {
        folder.join(format!("{shard_idx:05}.runs"))
    }

    /// Puts the runs of lines of a job's part beside its shards, for the merge, and returns the records of the files.
    pub(super) fn keep_runs(folder: &Path, num_shards: usize) -> Result<Vec<FileRecord>, DataError> {
        let keep = |shard_idx| {
            let to = Self::part_runs_path(folder, shard_idx);
            let from = Self::runs_path(folder, shard_idx);
            copy_whole(&from, &to)?;
            FileRecord::of(&to, &mut |_| ())
        };
        (0..num_shards).map(keep).collect()
    }

    /// Removes the state of a preparation that is done.
    pub(super) fn remove(folder: &Path) -> Result<(), DataError> {
        let own = Self::folder(folder);
        match fs::remove_dir_all(&own) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(DataError::io(&own, "remove")(error)),
            _ => Ok(()),
        }
    }
}

/// Returns whether a file is an unfinished one of a shard: `00000.train.tokens.part`, `1of2-00000.test.index.part`.
fn is_own_part(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let parts: Vec<&str> = name.split('.').collect();
    matches!(parts[..], [_, split, "tokens" | "index" | "spans", "part"]
        if Split::ALL.iter().any(|known| known.name() == split))
}

/// Removes files that were not finished.
fn remove_parts(folder: &Path) -> Result<(), DataError> {
    for entry in fs::read_dir(folder).map_err(DataError::io(folder, "list"))? {
        let path = entry.map_err(DataError::io(folder, "list"))?.path();
        if is_own_part(&path) {
            fs::remove_file(&path).map_err(DataError::io(&path, "remove"))?;
        }
    }
    Ok(())
}
