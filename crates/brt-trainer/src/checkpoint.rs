//! Checkpoints: a folder that is whole or not there, with a digest of each file.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use brt_data::{StreamCursor, TokenSet};
use brt_lm::LanguageModel;
use brt_ops::checkpoint::{load_into, save};
use brt_report::{read_json, write_json};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use crate::{RunConfig, TrainError, Trainer, meters::Totals};

/// Layout of a checkpoint; another one is refused.
pub(crate) const FORMAT: u32 = 2;
/// Number of checkpoints that a run keeps.
const NUM_KEPT: usize = 2;

/// The part of a checkpoint that is not tensors: `trainer.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainerRecord {
    pub(crate) format: u32,
    pub(crate) num_steps: u64,
    pub(crate) seed: u64,
    /// Place in the data; `None` for imported weights, which come without optimiser and state.
    pub(crate) cursor: Option<StreamCursor>,
    pub(crate) totals: Totals,
    /// SHA-256 of each file of tensors.
    pub(crate) sha256: BTreeMap<String, String>,
}

/// A file of tensors, by name.
pub(crate) type TensorFile = (&'static str, Vec<(String, Tensor)>);

/// The file of a model's parameters, which share storage with it.
pub(crate) fn model_file(model: &LanguageModel) -> TensorFile {
    ("model.safetensors", model.params().named())
}

/// The files of a trainer, whose tensors share storage with it.
pub(crate) fn files(trainer: &Trainer) -> Vec<TensorFile> {
    vec![
        model_file(&trainer.model),
        ("optimizer.safetensors", trainer.optimizer.named()),
        ("state.safetensors", trainer.state.named()),
    ]
}

/// Writes `checkpoints/step-N` beside the older ones, then drops the oldest and what a crash left unfinished. Returns
/// the new folder.
pub(crate) fn write(
    run: &Path,
    files: &[TensorFile],
    mut record: TrainerRecord,
) -> Result<PathBuf, TrainError> {
    let folder = run.join("checkpoints");
    let name = format!("step-{}", record.num_steps);
    let part = folder.join(format!("{name}.part"));
    remove_parts(&folder);
    fs::create_dir_all(&part).map_err(TrainError::io(&part, "make the folder"))?;
    let written = (|| {
        for (file, tensors) in files {
            save(&part.join(file), tensors)?;
            record.sha256.insert((*file).into(), digest(&part.join(file))?);
        }
        Ok(write_json(&part.join("trainer.json"), &record)?)
    })();
    if let Err(error) = written {
        let _ = fs::remove_dir_all(&part); // A full disk: make room, keep what was there.
        return Err(error);
    }
    let whole = folder.join(&name);
    let _ = fs::remove_dir_all(&whole);
    fs::rename(&part, &whole).map_err(TrainError::io(&whole, "rename to"))?;
    File::open(&folder).and_then(|f| f.sync_all()).map_err(TrainError::io(&folder, "sync"))?;
    tracing::info!(path = %whole.display(), "checkpoint written");
    for old in steps(&folder)?.into_iter().rev().skip(NUM_KEPT) {
        let old = folder.join(format!("step-{old}"));
        fs::remove_dir_all(&old).map_err(TrainError::io(&old, "remove"))?;
    }
    Ok(whole)
}

/// Removes unfinished checkpoints. The run's lock says that nobody is writing one.
fn remove_parts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "part") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns the folder of a run's last whole checkpoint; `None` where the run has none yet.
///
/// # Errors
/// [`TrainError::Io`] where the folder cannot be read.
pub fn latest_checkpoint(run: &Path) -> Result<Option<PathBuf>, TrainError> {
    let folder = run.join("checkpoints");
    Ok(steps(&folder)?.last().map(|step| folder.join(format!("step-{step}"))))
}

/// Returns the steps of all whole checkpoints, sorted. Unfinished ones end in `.part`.
fn steps(folder: &Path) -> Result<Vec<u64>, TrainError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
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
    let imported = record.cursor.is_none();
    let files = if imported { vec![model_file(&trainer.model)] } else { files(trainer) };
    for (file, tensors) in files {
        verify(checkpoint, file, &record)?;
        load_into(&checkpoint.join(file), &tensors)?;
    }
    match record.cursor.clone() {
        Some(cursor) => {
            trainer.optimizer.set_num_steps(record.num_steps);
            trainer.seek(Arc::clone(set), cursor)?;
        }
        // Documents start from the state that belongs to the weights.
        None => trainer.state = trainer.model.initial_state(trainer.config().data.batch as i64).detach(),
    }
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
    verify(&checkpoint, "model.safetensors", &record)?;
    let model = LanguageModel::new(config.model.clone(), record.seed, device)?;
    load_into(&checkpoint.join("model.safetensors"), &model.params().named())?;
    Ok((model, config))
}

fn read_record(checkpoint: &Path) -> Result<TrainerRecord, TrainError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let path = checkpoint.join("trainer.json");
    let Version { format } = read_json(&path, "the record of a checkpoint")?;
    match format {
        FORMAT => Ok(read_json(&path, "the record of a checkpoint")?),
        got => Err(TrainError::Format { path, expected: FORMAT, got }),
    }
}

fn verify(checkpoint: &Path, file: &str, record: &TrainerRecord) -> Result<(), TrainError> {
    let path = checkpoint.join(file);
    let got = digest(&path)?;
    let expected = record.sha256.get(file).cloned().unwrap_or_default();
    if got == expected {
        return Ok(());
    }
    let older = checkpoint.parent().map(steps).transpose()?.unwrap_or_default();
    let advice = match older.into_iter().rev().find(|step| *step < record.num_steps) {
        Some(step) => {
            format!("remove the folder {} to go on from step {step}", checkpoint.display())
        }
        None => "there is no older one: start the run anew".into(),
    };
    Err(TrainError::Damaged { path, expected, got, advice })
}

fn digest(path: &Path) -> Result<String, TrainError> {
    let mut hasher = Sha256::new();
    File::open(path)
        .and_then(|mut file| std::io::copy(&mut file, &mut hasher))
        .map_err(TrainError::io(path, "read"))?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
