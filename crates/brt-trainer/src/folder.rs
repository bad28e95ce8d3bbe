//! The folder of a run.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use brt_data::{Manifest, Tokenizer};
use brt_report::{MetricsLine, write_atomic};

use crate::{Resume, RunConfig, TrainError, trainer::check_vocabulary};

/// Makes the folder of a run, or checks that it holds this run, and takes its lock, which is free again when the file is
/// closed.
pub(crate) fn enter(out: &Path, config: &RunConfig, resume: Resume) -> Result<File, TrainError> {
    let (path, text) = (out.join("config.toml"), config.to_toml());
    if path.exists() {
        if resume == Resume::Never {
            return Err(TrainError::NotEmpty { path: out.into() });
        }
        let old = fs::read_to_string(&path).map_err(TrainError::io(&path, "read"))?;
        if let Some([it, this]) = first_difference(&old, &text) {
            let difference = format!("it has `{it}`, this run has `{this}`");
            return Err(TrainError::OtherRun { path, difference });
        }
        return lock(out);
    }
    fs::create_dir_all(out).map_err(TrainError::io(out, "make the folder"))?;
    let lock = lock(out)?;
    write_atomic(&path, text.as_bytes())?;
    Ok(lock)
}

/// Checks that the file system of a run's folder has room for some checkpoints of this size.
pub(crate) fn check_space(out: &Path, checkpoint_bytes: u64, num_checkpoints: u64) -> Result<(), TrainError> {
    let expected = checkpoint_bytes.saturating_mul(num_checkpoints);
    match brt_native::available_bytes(&existing(out)) {
        Some(got) if got < expected => Err(TrainError::Space { path: out.into(), expected, got }),
        _ => Ok(()),
    }
}

/// Returns a folder, or the first one above it that exists.
pub(crate) fn existing(folder: &Path) -> PathBuf {
    let found = folder.ancestors().find(|path| path.exists() && !path.as_os_str().is_empty());
    found.unwrap_or(Path::new(".")).to_path_buf()
}

/// Takes the lock of a run's folder: two processes in one folder would spoil each other's files.
fn lock(out: &Path) -> Result<File, TrainError> {
    let path = out.join("run.lock");
    let file = File::create(&path).map_err(TrainError::io(&path, "write"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainError::Locked { path }),
        Err(TryLockError::Error(error)) => Err(TrainError::io(&path, "lock")(error)),
    }
}

/// Checks that the corpus was made with the tokenizer of the run, and that the model has a row for each token.
///
/// # Errors
/// [`TrainError::Tokenizer`] with another one, [`TrainError::Vocabulary`] with too few rows.
pub fn check_tokenizer(run: &Path, corpus: &Manifest, config: &RunConfig) -> Result<(), TrainError> {
    let expected = load_tokenizer(run)?.sha256().to_owned();
    let got = corpus.tokenizer.sha256.clone();
    if expected != got {
        return Err(TrainError::Tokenizer { path: run.into(), expected, got });
    }
    check_vocabulary(corpus.tokenizer.vocab_size, config)
}

/// Writes the tokenizer into a new run's folder, or checks that the run has this one: with it the run reads and writes
/// text wherever it is taken.
pub(crate) fn keep_tokenizer(
    out: &Path,
    data: &Path,
    corpus: &Manifest,
    config: &RunConfig,
) -> Result<(), TrainError> {
    match load_tokenizer(out) {
        Ok(_) => check_tokenizer(out, corpus, config),
        Err(TrainError::NoTokenizer { .. }) => {
            let path = corpus.tokenizer_path(data);
            let tokenizer = Tokenizer::from_file(&path).map_err(brt_data::DataError::from)?;
            let (expected, got) = (corpus.tokenizer.sha256.clone(), tokenizer.sha256().to_owned());
            if expected != got {
                return Err(brt_data::DataError::Checksum { path, expected, got }.into());
            }
            write_tokenizer(out, &tokenizer)
        }
        Err(error) => Err(error),
    }
}

/// Writes the tokenizer into a run's folder.
pub(crate) fn write_tokenizer(out: &Path, tokenizer: &Tokenizer) -> Result<(), TrainError> {
    Ok(write_atomic(&out.join(tokenizer.file_name()), tokenizer.file_contents())?)
}

/// Returns the tokenizer of a run.
///
/// # Errors
/// [`TrainError::NoTokenizer`] without one, [`TrainError::Data`] where its file is damaged.
pub fn load_tokenizer(run: &Path) -> Result<Tokenizer, TrainError> {
    let file = Tokenizer::FILE_NAMES.iter().map(|name| run.join(name)).find(|path| path.exists());
    let file = file.ok_or_else(|| TrainError::NoTokenizer { path: run.into() })?;
    Ok(Tokenizer::from_file(&file).map_err(brt_data::DataError::from)?)
}

/// Returns the lines of `metrics.jsonl` up to a step, without what a crash left half-written.
pub(crate) fn read_metrics(out: &Path, num_steps: u64) -> Result<Vec<MetricsLine>, TrainError> {
    let path = metrics(out);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.map_err(TrainError::io(&path, "read"))?,
    };
    let mut curve: Vec<MetricsLine> = vec![];
    for line in text.lines() {
        // Lines are appended: only the last can be cut short, and what follows the checkpoint is made again.
        match serde_json::from_str::<MetricsLine>(line) {
            Ok(line) if line.step <= num_steps => curve.push(line),
            _ => break,
        }
    }
    Ok(curve)
}

/// Returns the path of a run's metrics.
pub(crate) fn metrics(out: &Path) -> PathBuf {
    out.join("metrics.jsonl")
}

/// Returns the first lines in which two texts differ.
pub(crate) fn first_difference(a: &str, b: &str) -> Option<[String; 2]> {
    let (mut a, mut b) = (a.lines(), b.lines());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return None,
            (a, b) if a == b => (),
            (a, b) => return Some([a, b].map(|line| line.unwrap_or("nothing").to_owned())),
        }
    }
}
