//! Brings the rows of a group together, in bounded memory: every row is written to the bucket that the hash of its
//! group chooses. The buckets and their order depend on the source alone, not on the number of jobs.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    BytesRead, OnError, Plan, SkipCounts, SourceConfig, SourceError, Unit, bucket, columns::Row,
    decompress::Packing, unit::Kind, walk::FileEntry,
};
use crate::Split;

/// Number of bytes that a bucket should have.
const BUCKET_BYTES: u64 = 64 << 20;

/// Most buckets: with more of them each write would be small.
const MAX_BUCKETS: u64 = 4096;

/// By how much packed text may grow.
const UNPACKED_RATIO: u64 = 5;

/// Number of bytes that are kept before they are written.
const BUFFER_BYTES: usize = 64 << 20;

/// Name of the file that says that a spill is whole.
const MARKER: &str = "spill.json";

/// Format of the buckets.
const VERSION: u32 = 1;

/// Rows that were brought together.
#[derive(Debug)]
pub(crate) struct Spill {
    /// One unit per bucket that has rows.
    pub(crate) units: Vec<Unit>,
    /// Rows that were left out, by reason.
    pub(crate) skipped: SkipCounts,
}

/// What is written last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    version: u32,
    source_sha256: String,
    bucket_bytes: BTreeMap<u64, u64>, // by index of the bucket
    skipped: SkipCounts,
}

/// Which buckets are kept, of how many.
#[derive(Debug, Clone, Copy)]
struct Share {
    job_idx: u64,
    num_jobs: u64,
    num_buckets: u64,
}

/// Writes the rows of a plan into buckets in `folder`; a whole spill of the same source that is there is used as it
/// is. Of `(i, n)` jobs, job `i` keeps every n-th bucket, and reports every n-th file's rows that are left out.
/// `on_skip` gets the reason and the place of each of them.
///
/// # Errors
/// As reading the rows, and what the operating system refuses.
pub(crate) fn spill(
    plan: &Plan,
    config: &SourceConfig,
    folder: &Path,
    job: (usize, usize),
    bytes_read: &BytesRead,
    on_skip: &mut dyn FnMut(&str, &str),
) -> Result<Spill, SourceError> {
    let share =
        Share { job_idx: job.0 as u64, num_jobs: job.1.max(1) as u64, num_buckets: num_buckets(&plan.units) };
    let source_sha256 = fingerprint(plan, config, share);
    if let Some(spill) = read_whole(folder, &source_sha256) {
        return Ok(spill);
    }
    clear(folder)?;
    let mut buckets =
        Buckets { folder, share, waiting: BTreeMap::new(), num_waiting: 0, written: BTreeMap::new() };
    let mut skipped = SkipCounts::new();
    for (unit_idx, unit) in plan.units.iter().enumerate() {
        let mut on_unit_skip = |reason: &str, place: &str| {
            if unit_idx as u64 % share.num_jobs == share.job_idx {
                *skipped.entry(reason.to_owned()).or_default() += 1;
                on_skip(reason, place);
            }
        };
        spill_unit(unit, config, bytes_read, &mut buckets, &mut on_unit_skip)?;
    }
    buckets.write()?;
    buckets.sync()?;
    let marker = Marker { version: VERSION, source_sha256, bucket_bytes: buckets.written, skipped };
    write_marker(&marker, &folder.join(MARKER))?;
    Ok(Spill { units: units(folder, &marker.bucket_bytes), skipped: marker.skipped })
}

/// Creates the folder, and deletes what another spill has left in it: the marker first.
fn clear(folder: &Path) -> Result<(), SourceError> {
    fs::create_dir_all(folder).map_err(SourceError::io_at(folder, "create"))?;
    let buckets = (0..MAX_BUCKETS).map(|idx| bucket_path(folder, idx));
    for path in std::iter::once(folder.join(MARKER)).chain(buckets).filter(|path| path.exists()) {
        fs::remove_file(&path).map_err(SourceError::io_at(&path, "delete"))?;
    }
    Ok(())
}

/// Brings the rows of one file into the buckets.
fn spill_unit(
    unit: &Unit,
    config: &SourceConfig,
    bytes_read: &BytesRead,
    buckets: &mut Buckets<'_>,
    on_skip: &mut dyn FnMut(&str, &str),
) -> Result<(), SourceError> {
    let Some(mut rows) = unit.rows(config, 0, bytes_read) else { return Ok(()) };
    let mut is_first = true;
    loop {
        match rows.next_row() {
            Ok(Some(row)) if row.text.is_empty() => on_skip("empty", &row.place.name()),
            Ok(Some(row)) => buckets.add(&row, unit.split)?,
            Ok(None) => {
                if is_first {
                    on_skip("empty", &unit.name);
                }
                return Ok(());
            }
            Err(error) if config.on_error == OnError::Skip => on_skip(&error.reason(), &error.place()),
            Err(error) => return Err(error),
        }
        is_first = false;
    }
}

/// Buckets that are being written.
struct Buckets<'a> {
    folder: &'a Path,
    share: Share,
    waiting: BTreeMap<u64, Vec<u8>>,
    num_waiting: usize,
    written: BTreeMap<u64, u64>,
}

impl Buckets<'_> {
    /// Adds a row to its bucket if that is kept.
    fn add(&mut self, row: &Row, split: Option<Split>) -> Result<(), SourceError> {
        let hash = Sha256::digest(row.group.as_deref().unwrap_or_default());
        let head = hash.iter().take(8).fold(0, |head, &byte| head << 8 | u64::from(byte));
        let bucket_idx = head % self.share.num_buckets;
        // Jobs get consecutive buckets, so that their documents, one job after another, are those of one.
        let job_idx =
            u128::from(bucket_idx) * u128::from(self.share.num_jobs) / u128::from(self.share.num_buckets);
        if job_idx != u128::from(self.share.job_idx) {
            return Ok(());
        }
        let bucket = self.waiting.entry(bucket_idx).or_default();
        let len_before = bucket.len();
        bucket::write(row, split, bucket);
        self.num_waiting += bucket.len() - len_before;
        if self.num_waiting >= BUFFER_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes what waits.
    fn write(&mut self) -> Result<(), SourceError> {
        for (idx, records) in std::mem::take(&mut self.waiting) {
            let path = bucket_path(self.folder, idx);
            let num_written = self.written.entry(idx).or_default();
            // Buckets are opened for each write: there may be more of them than files may be open. The first write
            // removes what an interrupted run has left.
            let mut options = OpenOptions::new();
            if *num_written == 0 {
                options.write(true).truncate(true)
            } else {
                options.append(true)
            };
            let mut file = options.create(true).open(&path).map_err(SourceError::io_at(&path, "create"))?;
            file.write_all(&records).map_err(SourceError::io_at(&path, "write"))?;
            *num_written += records.len() as u64;
        }
        self.num_waiting = 0;
        Ok(())
    }

    /// Waits until all buckets are on the disk.
    fn sync(&self) -> Result<(), SourceError> {
        self.written.keys().try_for_each(|&idx| {
            let path = bucket_path(self.folder, idx);
            File::open(&path).and_then(|file| file.sync_all()).map_err(SourceError::io_at(&path, "sync"))
        })
    }
}

/// Returns the number of buckets for the rows of these units.
fn num_buckets(units: &[Unit]) -> u64 {
    let unpacked_bytes = |unit: &Unit| {
        let is_packed =
            matches!(unit.kind, Kind::Parquet { .. }) || Packing::of(&unit.name).0 != Packing::Plain;
        unit.num_bytes.saturating_mul(if is_packed { UNPACKED_RATIO } else { 1 })
    };
    let num_bytes = units.iter().map(unpacked_bytes).fold(0, u64::saturating_add);
    num_bytes.div_ceil(BUCKET_BYTES).clamp(1, MAX_BUCKETS)
}

/// Returns a hash of everything on which the buckets depend.
fn fingerprint(plan: &Plan, config: &SourceConfig, share: Share) -> String {
    // `Debug` writes every option and every bit of a path.
    let mut text = format!("{VERSION} {config:?} {share:?}\n");
    for unit in &plan.units {
        let (name, len, split, modified) = (&unit.name, unit.num_bytes, unit.split, unit.modified());
        text.push_str(&format!("{name:?} {len} {split:?} {modified:?}\n"));
    }
    crate::manifest::sha256_hex(text.as_bytes())
}

/// Returns the spill of this source that is in the folder, if there is one and it is whole.
fn read_whole(folder: &Path, source_sha256: &str) -> Option<Spill> {
    let marker: Marker = serde_json::from_slice(&fs::read(folder.join(MARKER)).ok()?).ok()?;
    let is_same = marker.version == VERSION && marker.source_sha256 == source_sha256;
    let has_len = |(&idx, &len): (&u64, &u64)| {
        fs::metadata(bucket_path(folder, idx)).is_ok_and(|metadata| metadata.len() == len)
    };
    let is_whole = is_same && marker.bucket_bytes.iter().all(has_len);
    is_whole.then(|| Spill { units: units(folder, &marker.bucket_bytes), skipped: marker.skipped })
}

/// Writes the marker so that it is there whole or not at all.
fn write_marker(marker: &Marker, path: &Path) -> Result<(), SourceError> {
    let part = path.with_extension("json.part");
    let text = serde_json::to_vec_pretty(marker).map_err(std::io::Error::other);
    let text = text.map_err(SourceError::io_at(path, "write"))?;
    fs::write(&part, text).map_err(SourceError::io_at(&part, "write"))?;
    fs::rename(&part, path).map_err(SourceError::io_at(path, "create"))
}

/// Returns one unit per bucket.
fn units(folder: &Path, bucket_bytes: &BTreeMap<u64, u64>) -> Vec<Unit> {
    let unit = |(&idx, &num_bytes): (&u64, &u64)| {
        let (path, name) = (bucket_path(folder, idx), bucket_name(idx));
        let file = FileEntry { path, name: name.clone(), num_bytes };
        Unit { name, num_bytes, split: None, kind: Kind::Bucket { file } }
    };
    bucket_bytes.iter().map(unit).collect()
}

/// Returns the name of a bucket.
fn bucket_name(idx: u64) -> String {
    format!("bucket-{idx:04}")
}

/// Returns the path of a bucket.
fn bucket_path(folder: &Path, idx: u64) -> PathBuf {
    folder.join(format!("{}.rows", bucket_name(idx)))
}
