//! Writing a checkpoint, by all processes together.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use brt_ops::checkpoint::save;
use brt_report::{write_atomic, write_json};

use super::{Keep, RECORD_DIGEST_FILE, RECORD_FILE, TensorFile, TrainerRecord, digest, steps};
use crate::{TrainError, World};

/// Writes `checkpoints/step-N` beside the older ones, each process its files, then drops those that are not kept and what a
/// crash left unfinished. Returns the new folder. All processes write it, or none has.
pub(crate) fn write(
    world: &World,
    run: &Path,
    files: &[TensorFile],
    record: TrainerRecord,
    keep: Keep,
) -> Result<PathBuf, TrainError> {
    let folder = run.join("checkpoints");
    let whole = folder.join(format!("step-{}", record.num_steps));
    let part = whole.with_extension("part");
    let written = (|| {
        world.on_main(|| {
            remove_parts(&folder);
            fs::create_dir_all(&part).map_err(TrainError::io(&part, "make the folder"))
        })?;
        let digests = world.exchange(world.agree(write_files(&part, files))?)?;
        let record = TrainerRecord { sha256: digests.into_iter().flatten().collect(), ..record };
        world.on_main(|| finish(&part, &whole, &record))
    })();
    if let Err(error) = written {
        if world.is_main() {
            let _ = fs::remove_dir_all(&part); // A full disk: make room, keep what was there.
        }
        return Err(error);
    }
    tracing::info!(path = %whole.display(), "checkpoint written");
    let dropped = if world.is_main() { keep.dropped(&steps(&folder).unwrap_or_default()) } else { vec![] };
    for old in dropped {
        let old = folder.join(format!("step-{old}"));
        if let Err(error) = fs::remove_dir_all(&old) {
            tracing::warn!("{}: cannot remove this older checkpoint: {error}", old.display());
        }
    }
    Ok(whole)
}

/// Writes files of tensors, and returns the SHA-256 of each.
fn write_files(part: &Path, files: &[TensorFile]) -> Result<BTreeMap<String, String>, TrainError> {
    let write = |(file, tensors): &TensorFile| {
        save(&part.join(file), tensors)?;
        Ok((file.clone(), digest(&part.join(file))?))
    };
    files.iter().map(write).collect()
}

/// Writes the record, and gives the checkpoint its name. The files of other processes must be there: the folder is shared.
fn finish(part: &Path, whole: &Path, record: &TrainerRecord) -> Result<(), TrainError> {
    for file in record.sha256.keys() {
        let path = part.join(file);
        fs::metadata(&path).map_err(TrainError::io(&path, "find (do all hosts share this folder?)"))?;
    }
    write_json(&part.join(RECORD_FILE), record)?;
    let digest = digest(&part.join(RECORD_FILE))?;
    write_atomic(&part.join(RECORD_DIGEST_FILE), format!("{digest}\n").as_bytes())?;
    let _ = fs::remove_dir_all(whole);
    fs::rename(part, whole).map_err(TrainError::io(whole, "rename to"))?;
    let folder = whole.parent().unwrap_or(whole);
    File::open(folder).and_then(|f| f.sync_all()).map_err(TrainError::io(folder, "sync"))
}

/// Removes unfinished checkpoints. The run's lock says that nobody is writing one.
fn remove_parts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "part") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
