//! Checkpoints: a folder that is whole or not there, with a digest of each file.

mod keep;
mod rows;
mod write;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use brt_data::{StreamCursor, TokenSet};
use brt_lm::{LanguageModel, ModelState};
use brt_ops::checkpoint::load_into;
use brt_report::{FileError, read_json};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

pub(crate) use self::{keep::Keep, write::write};
use crate::{RunConfig, TrainError, Trainer, meters::Totals, moving_sample::MovingSample};

/// Layout of a checkpoint; another one is refused.
pub(crate) const FORMAT: u32 = 4;

/// The part of a checkpoint that is not tensors: `trainer.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainerRecord {
    pub(crate) format: u32,
    pub(crate) num_steps: u64,
    /// Number of updates of the optimiser: steps but for those that were skipped.
    pub(crate) num_updates: u64,
    pub(crate) seed: u64,
    /// Number of processes that wrote it, each a file of the states of its rows.
    pub(crate) world_size: usize,
    /// Place in the data; `None` for imported weights, which come without optimiser and state.
    pub(crate) cursor: Option<StreamCursor>,
    /// Place in the validation documents, where each evaluation goes on behind the one before.
    pub(crate) validation_cursor: Option<StreamCursor>,
    pub(crate) totals: Totals,
    /// SHA-256 of each file of tensors.
    pub(crate) sha256: BTreeMap<String, String>,
}

/// A file of tensors, by name.
pub(crate) type TensorFile = (String, Vec<(String, Tensor)>);

/// The file of [`TrainerRecord`], and that of its SHA-256.
const RECORD_FILE: &str = "trainer.json";
const RECORD_DIGEST_FILE: &str = "trainer.sha256";
const MODEL_FILE: &str = "model.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// Files of what rows carry, one of each process: those of the training, and of a moving validation.
const STATE: &str = "state";
const VALIDATION: &str = "validation";

/// The file of a model's parameters, which share storage with it.
pub(crate) fn model_file(model: &LanguageModel) -> TensorFile {
    (MODEL_FILE.into(), model.params().named())
}

/// The files that a process writes of its run, whose tensors share storage with it.
pub(crate) fn files(trainer: &Trainer, moving: Option<&MovingSample>) -> Vec<TensorFile> {
    let share = trainer.world.share();
    let of_rows = |kind, state: &ModelState| (rows::file_name(kind, share), state.named());
    let mut files = vec![of_rows(STATE, &trainer.state())];
    files.extend(moving.map(|moving| of_rows(VALIDATION, &moving.state)));
    if trainer.world.is_main() {
        files.extend([
            model_file(trainer.model()),
            (OPTIMIZER_FILE.into(), trainer.learner.optimizer.named()),
        ]);
    }
    files
}

/// Puts a moving validation where the checkpoint was taken.
pub(crate) fn read_validation(
    checkpoint: &Path,
    record: &TrainerRecord,
    trainer: &Trainer,
    moving: &mut MovingSample,
) -> Result<(), TrainError> {
    let Some(cursor) = record.validation_cursor.clone() else { return Ok(()) };
    let config = trainer.config();
    let whose = (trainer.model(), config.evaluation.batch, &trainer.world);
    let state = rows::read(checkpoint, record, VALIDATION, whose);
    moving.state = state.map_err(|error| broken(checkpoint, error))?;
    moving.seek(config, cursor)
}

/// Returns the number of bytes of a checkpoint, with the states of all processes.
pub(crate) fn checkpoint_bytes(trainer: &Trainer) -> u64 {
    let states = [(String::new(), trainer.state().named())];
    num_bytes(&files(trainer, None)) + (trainer.world.size() as u64 - 1) * num_bytes(&states)
}

/// Returns the number of bytes of tensors in files.
fn num_bytes(files: &[TensorFile]) -> u64 {
    let tensors = files.iter().flat_map(|(_, tensors)| tensors);
    tensors.map(|(_, tensor)| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum()
}

/// Returns the folder of a run's last whole checkpoint; `None` where the run has none yet.
///
/// # Errors
/// [`TrainError::Io`] where the folder cannot be read.
pub fn latest_checkpoint(run: &Path) -> Result<Option<PathBuf>, TrainError> {
    let folder = run.join("checkpoints");
    Ok(steps(&folder)?.last().map(|step| folder.join(format!("step-{step}"))))
}

/// Returns the number of a run's whole checkpoints.
pub(crate) fn count(run: &Path) -> Result<u64, TrainError> {
    Ok(steps(&run.join("checkpoints"))?.len() as u64)
}

/// Returns the steps of all whole checkpoints, sorted. Unfinished ones end in `.part`.
fn steps(folder: &Path) -> Result<Vec<u64>, TrainError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(TrainError::io(folder, "read"))?,
    };
    let step = |entry: std::io::Result<fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.strip_prefix("step-")?.parse::<u64>().ok()
    };
    let mut steps: Vec<u64> = entries.filter_map(step).collect();
    steps.sort_unstable();
    Ok(steps)
}

/// Puts a trainer where the checkpoint was taken; imported weights leave the rest of it as it is.
pub(crate) fn read(
    checkpoint: &Path,
    trainer: &mut Trainer,
    set: &Arc<TokenSet>,
) -> Result<TrainerRecord, TrainError> {
    let record = read_record(checkpoint)?;
    read_tensors(checkpoint, record, trainer, set).map_err(|error| broken(checkpoint, error))
}

fn read_tensors(
    checkpoint: &Path,
    record: TrainerRecord,
    trainer: &mut Trainer,
    set: &Arc<TokenSet>,
) -> Result<TrainerRecord, TrainError> {
    let mut files = vec![model_file(trainer.model())];
    if record.cursor.is_some() {
        files.push((OPTIMIZER_FILE.into(), trainer.learner.optimizer.named()));
    }
    for (file, tensors) in files {
        verify(checkpoint, &file, &record)?;
        load_into(&checkpoint.join(file), &tensors)?;
    }
    let num_rows = trainer.config().data.batch;
    let state = match record.cursor.clone() {
        Some(cursor) => {
            trainer.learner.resume(record.num_steps, record.num_updates);
            trainer.seek(Arc::clone(set), cursor)?;
            rows::read(checkpoint, &record, STATE, (trainer.model(), num_rows, &trainer.world))?
        }
        // Imported weights: documents start from the state that belongs to them.
        None => trainer.model().initial_state(trainer.world.share().rows(num_rows).len() as i64).detach(),
    };
    trainer.set_state(&state);
    Ok(record)
}

/// Returns the model of a run as its last checkpoint holds it, with the run's configuration.
///
/// # Errors
/// No checkpoint, a damaged one, or one of another shape.
pub fn load_model(run: &Path, device: Device) -> Result<(LanguageModel, RunConfig), TrainError> {
    let checkpoint = latest_checkpoint(run)?.ok_or_else(|| TrainError::NoCheckpoint { path: run.into() })?;
    let config = RunConfig::load(&run.join("config.toml"), &[])?;
    let record = read_record(&checkpoint)?;
    let whole = verify(&checkpoint, MODEL_FILE, &record);
    whole.map_err(|error| broken(&checkpoint, error))?;
    let model = LanguageModel::new(config.model.clone(), record.seed, device)?;
    load_into(&checkpoint.join(MODEL_FILE), &model.params().named())?;
    Ok((model, config))
}

fn read_record(checkpoint: &Path) -> Result<TrainerRecord, TrainError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let path = checkpoint.join(RECORD_FILE);
    let read = || {
        let Version { format } = read_json(&path, "the record of a checkpoint")?;
        if format != FORMAT {
            return Err(TrainError::Format { path: path.clone(), expected: FORMAT, got: format });
        }
        let digest_path = checkpoint.join(RECORD_DIGEST_FILE);
        let expected = fs::read_to_string(&digest_path).map_err(TrainError::io(&digest_path, "read"))?;
        check_digest(&path, expected.trim())?;
        Ok(read_json(&path, "the record of a checkpoint")?)
    };
    read().map_err(|error| broken(checkpoint, error))
}

/// Checks a file of tensors.
fn verify(checkpoint: &Path, file: &str, record: &TrainerRecord) -> Result<(), TrainError> {
    check_digest(&checkpoint.join(file), record.sha256.get(file).map_or("", String::as_str))
}

fn check_digest(path: &Path, expected: &str) -> Result<(), TrainError> {
    let (got, expected) = (digest(path)?, expected.to_owned());
    match got == expected {
        true => Ok(()),
        false => Err(TrainError::Damaged { path: path.into(), expected, got }),
    }
}

/// Returns what is wrong with a checkpoint with the advice to go on from the one before; an error that has nothing to do
/// with damage stays as it is.
fn broken(checkpoint: &Path, error: TrainError) -> TrainError {
    let is_gone =
        |source: &std::io::Error| matches!(source.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof);
    let is_damage = match &error {
        TrainError::Damaged { .. } | TrainError::Record(FileError::Format { .. }) => true,
        TrainError::Io { source, .. } | TrainError::Record(FileError::Io { source, .. }) => is_gone(source),
        _ => false,
    };
    if !is_damage {
        return error;
    }
    let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
    let step: u64 = name.strip_prefix("step-").and_then(|step| step.parse().ok()).unwrap_or(0);
    let all = checkpoint.parent().and_then(|folder| steps(folder).ok()).unwrap_or_default();
    let advice = match all.into_iter().rev().find(|older| *older < step) {
        Some(older) => format!("remove the folder {} to go on from step {older}", checkpoint.display()),
        None => "there is no older one: start the run anew".into(),
    };
    TrainError::Checkpoint { advice, source: Box::new(error) }
}

fn digest(path: &Path) -> Result<String, TrainError> {
    let mut hasher = Sha256::new();
    File::open(path)
        .and_then(|mut file| std::io::copy(&mut file, &mut hasher))
        .map_err(TrainError::io(path, "read"))?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
