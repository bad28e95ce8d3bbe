//! `cargo xtask setup`: one libtorch at `.libtorch`, where cargo looks for it.

mod check;
mod download;
mod find;
mod link;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use brt_report::{read_json, write_json};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Context, Result, fail},
    ui,
};
use find::Wish;

/// The only version that tch 0.24 accepts.
const VERSION: &str = "2.11.0";
/// How the versions of libtorch end whose CUDA is that of the headers in xtask/nccl.txt.
const NCCL_BUILD: &str = "+cu130";

/// Where the libtorch at `.libtorch` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// The folder that LIBTORCH named.
    Environment,
    /// The PyTorch of the active python3.
    Python,
    /// Downloaded by `cargo xtask setup`.
    Download,
    /// Was there before.
    Existing,
}

/// `.libtorch/brt-setup.json`: what setup decided.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Choice {
    source: Source,
    /// Folder of the libtorch that `.libtorch` holds or links to.
    path: PathBuf,
    /// For example `2.11.0+cu130`.
    version: String,
}

impl Choice {
    fn describe(&self) -> String {
        let path = self.path.display();
        match self.source {
            Source::Environment => format!("libtorch {} at {path} (from LIBTORCH)", self.version),
            Source::Python => format!("libtorch {} at {path} (from python3's PyTorch)", self.version),
            Source::Download => format!("libtorch {} at {path} (downloaded)", self.version),
            Source::Existing => format!("libtorch {} at {path}", self.version),
        }
    }
}

/// Makes sure that `.libtorch` is whole and says what it is.
pub(crate) fn run(root: &Path, force: bool) -> Result {
    ensure(root, force).map(drop)
}

fn ensure(root: &Path, force: bool) -> Result<Choice> {
    if cfg!(not(all(target_os = "linux", target_env = "gnu"))) {
        return fail("brt builds on Linux with glibc only: use such a machine or a container on it");
    }
    let _lock = lock(root)?;
    let choice = match current(root, &find::wish(root)?) {
        Some(choice) if !force => choice,
        _ => install(root)?,
    };
    ui::line(&choice.describe());
    Ok(choice)
}

/// As [`run`], and makes sure that `.nccl` has the headers that brt is built with for several GPUs; it is them that `force`
/// downloads again.
pub(crate) fn run_with_nccl(root: &Path, force: bool) -> Result {
    let choice = ensure(root, false)?;
    if !choice.version.ends_with(NCCL_BUILD) {
        let version = &choice.version;
        return fail(format!(
            "--nccl has the headers of libtorch {VERSION}{NCCL_BUILD}, got libtorch {version}: set LIBTORCH to that one, \
             or BRT_CUDA_INCLUDE to the headers of yours (docs/scaling.md)"
        ));
    }
    let _lock = lock(root)?;
    if force || !download::has_nccl(root) {
        download::download_nccl(root)?;
    }
    ui::line("headers of CUDA and NCCL at .nccl: the next build is one for several GPUs");
    Ok(())
}

/// Waits for another setup: two at once would write over each other. A file system without locks is no reason to stop.
fn lock(root: &Path) -> Result<File> {
    let lock = File::open(root).context(|| format!("opening {}", root.display()))?;
    let _ = lock.lock();
    Ok(lock)
}

/// Returns the choice behind `.libtorch`, where it is whole and still what the user wishes.
fn current(root: &Path, wish: &Wish) -> Option<Choice> {
    let folder = root.join(".libtorch");
    let version = check::check(&folder).ok()?;
    let record = folder.join("brt-setup.json");
    let mut choice = read_json::<Choice>(&record, "a record of setup").unwrap_or(Choice {
        source: Source::Existing,
        path: folder.clone(),
        version: version.clone(),
    });
    match choice.source {
        // The checkout may have been moved since.
        Source::Download | Source::Existing => choice.path = folder,
        // What the links lead to may have been replaced since.
        Source::Environment | Source::Python => choice.version = check::check(&choice.path).ok()?,
    }
    let wished = match wish {
        Wish::Folder(path) => choice.source == Source::Environment && choice.path == *path,
        Wish::Python => choice.source == Source::Python,
        Wish::Nothing => true,
    };
    if !wished || choice.version != version {
        return None;
    }
    if !record.exists() {
        // A folder that cannot be written to is as good.
        let _ = write_json(&record, &choice);
    }
    Some(choice)
}

/// Links or downloads the libtorch that the user wishes.
fn install(root: &Path) -> Result<Choice> {
    match find::wish(root)? {
        Wish::Folder(path) => {
            let version = check::check(&path).or_else(|why| {
                fail(format!("LIBTORCH={}: {why}; set it to libtorch {VERSION} or unset it", path.display()))
            })?;
            link::link(root, Choice { source: Source::Environment, path, version })
        }
        Wish::Python => match find::python_torch()? {
            Some(path) => link_python(root, path),
            None => fail(
                "LIBTORCH_USE_PYTORCH is set, but python3 has no torch: \
                 run `python3 -m pip install torch==2.11.0` or unset it",
            ),
        },
        Wish::Nothing => {
            let found = find::python_torch().ok().flatten();
            match found.filter(|path| check::check(path).is_ok()).map(|path| link_python(root, path)) {
                Some(Ok(choice)) => Ok(choice),
                Some(Err(failure)) => {
                    ui::line(&format!("python3's PyTorch is left aside: {}", failure.message));
                    download::download(root)
                }
                None => {
                    if let Some(other) = find::python_torch().ok().flatten() {
                        let why = check::check(&other).err().unwrap_or_default();
                        ui::line(&format!("python3's torch at {} is left aside: {why}", other.display()));
                    }
                    download::download(root)
                }
            }
        }
    }
}

fn link_python(root: &Path, path: PathBuf) -> Result<Choice> {
    let version = check::check(&path).or_else(|why| {
        fail(format!(
            "python3's torch at {}: {why}; run `python3 -m pip install torch=={VERSION}` or unset LIBTORCH_USE_PYTORCH",
            path.display()
        ))
    })?;
    link::link(root, Choice { source: Source::Python, path, version })
}

#[cfg(test)]
mod tests;
