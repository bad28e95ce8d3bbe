//! `.libtorch` as a folder of links into a libtorch that the user has.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use brt_report::write_json;

use super::{Choice, Source};
use crate::failure::{Context, Result, fail};

/// Links `.libtorch` to a checked libtorch and records the choice.
///
/// The library that cargo links as `torch` must be libtorch_cpu.so, and libtorch_cuda.so must not be beside it:
/// torch-sys would link it, and every program would then need all of CUDA. A program that wants the GPU loads
/// libtorch_cuda.so from the recorded path when it starts.
pub(super) fn link(root: &Path, choice: Choice) -> Result<Choice> {
    let part = root.join(".libtorch.part");
    link_into(&part, &choice)
        .context(|| format!("linking {} to {}", part.display(), choice.path.display()))?;
    if let Err(failure) = check_dependencies(&part.join("lib/libtorch_cpu.so")) {
        let _ = remove(&part);
        return Err(failure);
    }
    write_json(&part.join("brt-setup.json"), &choice)?;
    replace(root, ".libtorch")?;
    Ok(choice)
}

/// Puts the finished folder `NAME.part` in the place of `NAME`.
pub(super) fn replace(root: &Path, name: &str) -> Result {
    let folder = root.join(name);
    remove(&folder)
        .and_then(|()| fs::rename(root.join(format!("{name}.part")), &folder))
        .context(|| format!("replacing {}", folder.display()))
}

/// Removes a folder or a link to one, where it exists.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::symlink_metadata(folder) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(folder),
        Ok(_) => fs::remove_file(folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn link_into(part: &Path, choice: &Choice) -> io::Result<()> {
    remove(part)?;
    fs::create_dir_all(part.join("lib"))?;
    symlink(choice.path.join("include"), part.join("include"))?;
    fs::write(part.join("build-version"), &choice.version)?;
    // libtorch_cpu.so looks for its dependencies relative to the name that it was loaded by, which is now the link:
    // they are linked beside it. PyTorch's CUDA packages lie beside the folder of torch.
    let mut libraries = libraries_of(&choice.path.join("lib"))?;
    if choice.source == Source::Python {
        for package in entries(&choice.path.with_file_name("nvidia")) {
            libraries.extend(libraries_of(&package.join("lib")).unwrap_or_default());
        }
    }
    for library in libraries {
        let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let link = part.join("lib").join(&name);
        if name != "libtorch.so" && !name.starts_with("libtorch_cuda") && !link.exists() {
            symlink(&library, link)?;
        }
    }
    symlink("libtorch_cpu.so", part.join("lib/libtorch.so"))
}

/// Returns the shared libraries in a folder.
fn libraries_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_library =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"));
    Ok(fs::read_dir(folder)?.filter_map(|entry| entry.ok().map(|e| e.path())).filter(is_library).collect())
}

/// Returns what is in a folder, nothing where it does not exist.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok().map(|e| e.path())).collect()
}

/// Fails where the loader would not find what a library needs; says nothing where `ldd` is missing.
fn check_dependencies(library: &Path) -> Result {
    let Ok(output) = Command::new("ldd").arg(library).output() else { return Ok(()) };
    let text = String::from_utf8_lossy(&output.stdout);
    let missing: Vec<_> =
        text.lines().filter_map(|line| line.split_once(" => not found")).map(|(n, _)| n.trim()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    fail(format!(
        "libtorch_cpu.so needs {}, which the loader does not find: install the missing packages, or unset \
         LIBTORCH and LIBTORCH_USE_PYTORCH so that setup downloads a whole libtorch",
        missing.join(", ")
    ))
}
