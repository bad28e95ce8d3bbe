//! Which libtorch the user already has.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    failure::{Context, Result, fail},
    tools,
};

/// Prints the folder of the module `torch` without importing it: an import takes seconds and may fail.
const FIND_TORCH: &str = "\
import importlib.util, os
spec = importlib.util.find_spec('torch')
print(os.path.dirname(spec.origin) if spec and spec.origin else '')";

/// What the environment says about libtorch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// LIBTORCH names this folder.
    Folder(PathBuf),
    /// LIBTORCH_USE_PYTORCH is set.
    Python,
    /// Nothing.
    Nothing,
}

/// Reads the user's wish from the environment.
pub(super) fn wish(root: &Path) -> Result<Wish> {
    // As in torch-sys, LIBTORCH_USE_PYTORCH comes first and its value does not matter.
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return Ok(Wish::Python);
    }
    let Some(path) = env::var_os("LIBTORCH").filter(|path| !path.is_empty()).map(PathBuf::from) else {
        return Ok(Wish::Nothing);
    };
    // Cargo's own configuration sets LIBTORCH to `.libtorch` for xtask: that is not the user's word.
    let ours = root.join(".libtorch");
    if path == ours
        || path.canonicalize().is_ok_and(|path| ours.canonicalize().is_ok_and(|ours| ours == path))
    {
        return Ok(Wish::Nothing);
    }
    let path = std::path::absolute(&path).context(|| format!("LIBTORCH={}", path.display()))?;
    Ok(Wish::Folder(path))
}

/// Returns the folder of the active python3's `torch`, or nothing where it has none.
pub(super) fn python_torch() -> Result<Option<PathBuf>> {
    let Some(folder) = tools::output_of(Command::new("python3").args(["-c", FIND_TORCH])) else {
        return fail("python3 is missing or does not start: install Python 3 or put it on PATH");
    };
    Ok((!folder.is_empty()).then(|| folder.into()))
}
