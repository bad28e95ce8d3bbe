//! Weights from and to the official code.

use std::path::Path;

use brt_data::Tokenizer;
use brt_lm::LanguageModel;
use brt_ops::checkpoint::{self, CheckpointError};
use tch::Device;

use crate::{
    Resume, RunConfig, TrainError, World,
    checkpoint::{FORMAT, Keep, TrainerRecord, load_model, model_file, write},
    folder,
    meters::Totals,
    trainer::check_vocabulary,
};

/// Makes a run of a file of official weights: it can be evaluated, generate, and be trained further with `--resume`.
///
/// # Errors
/// A folder that is not empty, a file that is not safetensors, or weights of another model: then every difference is
/// listed, and nothing is written.
pub fn import_weights(
    weights: &Path,
    config: &RunConfig,
    tokenizer: &Tokenizer,
    out: &Path,
) -> Result<(), TrainError> {
    check_vocabulary(tokenizer.vocab_size(), config)?;
    let model = LanguageModel::new(config.model.clone(), 1, Device::Cpu)?;
    let tensors = checkpoint::load(weights, Device::Cpu)?;
    model
        .load_official(&tensors)
        .map_err(|differences| CheckpointError::Mismatch { path: weights.into(), differences })?;
    let _lock = folder::enter(out, config, Resume::Never)?;
    folder::write_tokenizer(out, tokenizer)?;
    let record = TrainerRecord {
        format: FORMAT,
        num_steps: 0,
        num_updates: 0,
        seed: 1,
        world_size: 1,
        cursor: None,
        validation_cursor: None,
        totals: Totals::default(),
        sha256: Default::default(),
    };
    write(&World::alone(), out, &[model_file(&model)], record, Keep::default())?;
    Ok(())
}

/// Writes the weights of a run's last checkpoint under their official names, each behind `prefix`.
///
/// # Errors
/// As [`load_model`]; a file that cannot be written.
pub fn export_weights(run: &Path, prefix: &str, out: &Path) -> Result<(), TrainError> {
    let (model, _) = load_model(run, Device::Cpu)?;
    let official = model.official_parameters();
    let tensors: Vec<_> =
        official.into_iter().map(|(path, tensor)| (format!("{prefix}{path}"), tensor)).collect();
    Ok(checkpoint::save(out, &tensors)?)
}
