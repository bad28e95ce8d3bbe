//! What is checked before the first step: corpus, disk, and that several processes train the same in the same folder.

use std::{fs, path::Path, sync::Arc, time::SystemTime};

use brt_data::{Manifest, Split, TokenSet};
use brt_report::MetricsLine;

use super::RunOptions;
use crate::{HeldOut, RunConfig, TrainError, Trainer, World, checkpoint, folder, trainer};

/// Size up to which the files of a corpus are read and checked before the first step: some seconds. For larger ones
/// there is `brt data verify`.
const MAX_VERIFIED_BYTES: u64 = 1 << 30;

/// What a run stands on, opened and checked.
pub(super) struct Corpus {
    pub(super) manifest: Manifest,
    pub(super) training_set: Arc<TokenSet>,
    pub(super) validation: HeldOut,
    pub(super) test: HeldOut,
}

impl Corpus {
    pub(super) fn open(config: &RunConfig, options: &RunOptions, world: &World) -> Result<Self, TrainError> {
        let manifest = Manifest::read(&options.data)?;
        if manifest.file_bytes() <= MAX_VERIFIED_BYTES {
            brt_data::verify(&options.data, &mut |_, _| ())?;
        }
        let training_set = Arc::new(TokenSet::open(&options.data, Split::Train)?);
        let validation = HeldOut::open(&options.data, Split::Validation)?;
        let test = HeldOut::open(&options.data, Split::Test)?;
        validation.check(config)?;
        test.check(config)?;
        trainer::check(config, &training_set, world)?;
        Ok(Self { manifest, training_set, validation, test })
    }
}

/// Returns what must be the same on all processes, by name.
pub(super) fn facts(config: &RunConfig, options: &RunOptions, corpus: &Corpus) -> Vec<(String, String)> {
    let build = &options.build;
    let facts = [
        ("version of brt", format!("{} of commit {}", build.brt_version, build.commit)),
        ("libtorch", build.libtorch_version.clone()),
        ("configuration", config.to_toml()),
        ("corpus", format!("SHA-256 {}", corpus.training_set.manifest_sha256())),
        ("seed", options.seed.to_string()),
        ("vector instructions", brt_native::cpu_capability()),
        ("library for products (BRT_PRODUCTS)", format!("{:?}", brt_native::ProductLibrary::chosen())),
        ("number of threads (--threads)", tch::get_num_threads().to_string()),
        ("output folder", options.out.display().to_string()),
        ("way to treat a run that is there (--resume)", format!("{:?}", options.resume)),
    ];
    facts.map(|(name, value)| (name.into(), value)).into()
}

/// Returns what must be the same on all processes when they have entered the run's folder.
pub(super) fn seen(trainer: &Trainer, curve: &[MetricsLine], options: &RunOptions) -> Vec<(String, String)> {
    let is_there = options.out.join("result.json").exists();
    let seen = [
        ("last checkpoint", format!("step {}", trainer.num_steps())),
        ("file of metrics", format!("{} lines", curve.len())),
        ("result", if is_there { "there".into() } else { "not there".into() }),
    ];
    seen.map(|(name, value)| (name.into(), value)).into()
}

/// Checks that this process sees in the run's folder what rank 0 writes there: hosts must share it.
pub(super) fn check_shared(world: &World, out: &Path) -> Result<(), TrainError> {
    if world.size() == 1 {
        return Ok(());
    }
    let token = format!("{:?}", SystemTime::now());
    let path = out.join("shared.part");
    world.on_main(|| fs::write(&path, &token).map_err(TrainError::io(&path, "write")))?;
    let tokens = world.exchange(token)?;
    let found = match fs::read_to_string(&path) {
        Ok(text) if text == tokens[0] => Ok(()),
        _ => Err(TrainError::NotShared { path: out.into() }),
    };
    world.agree(found)?;
    world.on_main(|| fs::remove_file(&path).map_err(TrainError::io(&path, "remove")))
}

/// Checks that all processes, by rank, have the facts of rank 0.
pub(super) fn check_same(all: &[Vec<(String, String)>]) -> Result<(), TrainError> {
    for (rank, facts) in all.iter().enumerate() {
        for ((what, expected), (_, got)) in all[0].iter().zip(facts) {
            if let Some([first, own]) = folder::first_difference(expected, got) {
                let difference = format!("rank 0 has `{first}`, rank {rank} has `{own}`");
                return Err(TrainError::Differs { rank, what: what.clone(), difference });
            }
        }
    }
    Ok(())
}

/// Checks that there is room for the checkpoints that a run keeps, beside those that it has.
pub(super) fn check_space(trainer: &Trainer, options: &RunOptions) -> Result<(), TrainError> {
    if options.out.join("result.json").exists() {
        return Ok(());
    }
    let checkpoints = checkpoint::count(&options.out)?;
    let num_checkpoints = trainer.config().train.num_kept().saturating_sub(checkpoints).max(1);
    let checkpoint_bytes = checkpoint::checkpoint_bytes(trainer);
    folder::check_space(&options.out, checkpoint_bytes, num_checkpoints)
}
