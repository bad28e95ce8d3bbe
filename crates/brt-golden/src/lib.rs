//! Checks brt against the numbers of the paper's official code.
//!
//! A golden file is a pair `NAME.safetensors`, `NAME.json`: inputs, parameters and what the official code made of them,
//! with a tolerance for each tensor. A file is checked as its sidecar says; a new file of a known kind needs no new code.
#![deny(missing_docs)]

mod config;
mod golden;
mod models;
mod training;
mod units;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use anyhow::{Context, Result, anyhow, bail};

pub use golden::Deviation;
use golden::Golden;
use tch::Device;

/// What came of one file.
#[derive(Debug)]
pub struct FileReport {
    /// Name of the file, without ending.
    pub name: String,
    /// Every comparison that was made, or why none could be.
    pub outcome: Result<Vec<Deviation>>,
}

impl FileReport {
    /// Returns the comparison that comes closest to its tolerance or exceeds it most.
    pub fn worst(&self) -> Option<&Deviation> {
        self.outcome.as_ref().ok()?.iter().max_by(|a, b| a.share().total_cmp(&b.share()))
    }

    /// Returns what is wrong, one line each; nothing where the file passes.
    pub fn failures(&self) -> Vec<String> {
        match &self.outcome {
            Err(error) => vec![format!("{error:#}")],
            Ok(deviations) => deviations
                .iter()
                .filter(|deviation| !deviation.is_within())
                .map(|d| format!("{}: off by {:.3e}, tolerance {:.3e}", d.tensor, d.difference, d.tolerance))
                .collect(),
        }
    }
}

/// Returns the names of the golden files of a folder, sorted.
///
/// # Errors
/// A folder that cannot be read or holds no golden file.
pub fn list(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{}: cannot read", folder.display()))?;
    let name = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let is_tensors = path.extension().is_some_and(|extension| extension == "safetensors");
        is_tensors.then(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned())).flatten()
    };
    let mut names: Vec<String> = entries.filter_map(|entry| name(entry.ok()?)).collect();
    names.sort_unstable();
    if names.is_empty() {
        bail!("{}: expected golden files (NAME.safetensors and NAME.json), got none", folder.display());
    }
    Ok(names)
}

/// Checks one file; everything is computed on `device`.
pub fn check(folder: &Path, name: &str, device: Device) -> FileReport {
    // libtorch's complaints about shapes come as panics.
    let outcome = catch_unwind(AssertUnwindSafe(|| check_file(folder, name, device)));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Err(anyhow!("{}", text.lines().next().unwrap_or_default()))
    });
    FileReport { name: name.into(), outcome }
}

fn check_file(folder: &Path, name: &str, device: Device) -> Result<Vec<Deviation>> {
    let golden = Golden::open(folder, name, device)?;
    match name.split_once('_') {
        Some(("unit", kind)) => units::check(&golden, kind)?,
        Some(("layer", _)) => models::check_layer(&golden)?,
        Some(("model", _)) => models::check_model(&golden)?,
        Some(("train", _)) => training::check_trajectory(&golden)?,
        Some(("optim", "schedules")) => training::check_schedules(&golden)?,
        Some(("optim", _)) => training::check_optimizer(&golden)?,
        _ => bail!("{name}: expected a name that starts with unit_, layer_, model_, train_ or optim_"),
    }
    golden.finish()
}
