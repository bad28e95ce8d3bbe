//! Lists the files of a folder, in the same order on every machine.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{OnError, Place, SkipCounts, SourceError};
use crate::Split;

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileEntry {
    pub(super) path: PathBuf,
    /// Path in the source, with `/` on every system.
    pub(super) name: String,
    pub(super) num_bytes: u64,
}

impl FileEntry {
    /// Returns the file's place.
    pub(super) fn place(&self) -> Place {
        Place::file(&self.path, &self.name)
    }
}

/// The files of a folder and what was left out.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) files: Vec<FileEntry>,
    pub(super) skipped: SkipCounts,
}

impl Listing {
    /// Lists the files under `folder`, sorted by name. Links to files are followed; links to folders are not, they
    /// could lead back, but for those of the splits directly in `folder`.
    pub(super) fn new(folder: &Path, on_error: OnError) -> Result<Self, SourceError> {
        let mut listing = Self::default();
        let mut folders = vec![(folder.to_path_buf(), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            match (listing.add_folder(&folder, &prefix, on_error, &mut folders), on_error) {
                // Without its first folder a source has nothing to skip to.
                (Err(_), OnError::Skip) if !prefix.is_empty() => listing.skip("cannot list a folder"),
                (result, _) => result?,
            }
        }
        listing.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listing)
    }

    /// Lists one file as if it were alone in a folder.
    pub(super) fn of_file(path: &Path) -> Result<Self, SourceError> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let num_bytes = fs::metadata(path).map_err(SourceError::io_at(path, "read"))?.len();
        Ok(Self { files: vec![FileEntry { path: path.to_path_buf(), name, num_bytes }], ..Self::default() })
    }

    /// Counts something that is left out.
    pub(super) fn skip(&mut self, reason: &str) {
        *self.skipped.entry(reason.to_owned()).or_default() += 1;
    }

    /// Keeps the files whose names are accepted, and counts the others.
    pub(super) fn retain(&mut self, reason: &str, mut accept: impl FnMut(&FileEntry) -> bool) {
        for file in std::mem::take(&mut self.files) {
            if accept(&file) {
                self.files.push(file);
            } else {
                self.skip(reason);
            }
        }
    }

    /// Adds the files of one folder, and its folders to `folders`.
    fn add_folder(
        &mut self,
        folder: &Path,
        prefix: &str,
        on_error: OnError,
        folders: &mut Vec<(PathBuf, String)>,
    ) -> Result<(), SourceError> {
        for entry in fs::read_dir(folder).map_err(SourceError::io_at(folder, "list"))? {
            let entry = entry.map_err(SourceError::io_at(folder, "list"))?;
            let (path, name) = (entry.path(), format!("{prefix}{}", entry.file_name().to_string_lossy()));
            let kind = entry.file_type().map_err(SourceError::io_at(&path, "read"))?;
            if kind.is_dir() {
                folders.push((path, format!("{name}/")));
                continue;
            }
            let metadata = fs::metadata(&path);
            let is_hidden = name.split('/').any(|part| part.starts_with('.'));
            match metadata {
                _ if is_hidden => self.skip("hidden"),
                Ok(metadata) if metadata.is_file() => {
                    self.files.push(FileEntry { path, name, num_bytes: metadata.len() });
                }
                Ok(metadata) if metadata.is_dir() && prefix.is_empty() && split_named(&name).is_some() => {
                    folders.push((path, format!("{name}/")));
                }
                Ok(metadata) if metadata.is_dir() => self.skip("link to a folder"),
                Ok(_) => self.skip("not a file"),
                Err(error) if kind.is_symlink() && error.kind() != ErrorKind::PermissionDenied => {
                    self.skip("broken link");
                }
                Err(_) if on_error == OnError::Skip => self.skip("cannot read"),
                Err(error) => return Err(SourceError::io_at(&path, "read")(error)),
            }
        }
        Ok(())
    }
}

/// Returns the split of this name; validation has several names.
fn split_named(name: &str) -> Option<Split> {
    match name {
        "train" => Some(Split::Train),
        "validation" | "valid" | "val" | "dev" => Some(Split::Validation),
        "test" => Some(Split::Test),
        _ => None,
    }
}

/// Returns the split that a folder of the path or the start of the file's name says, the innermost one.
pub(super) fn split_of_path(name: &str) -> Option<Split> {
    let (folders, file) = name.rsplit_once('/').unwrap_or(("", name));
    let start = file.split(['-', '.', '_']).next().unwrap_or_default();
    split_named(start).or_else(|| folders.rsplit('/').find_map(split_named))
}

/// Returns the split of the path's first folder.
pub(super) fn split_of_folder(name: &str) -> Option<Split> {
    name.split_once('/').and_then(|(folder, _)| split_named(folder))
}

/// Returns the splits that the folders directly in a folder are named for.
pub(super) fn splits_of_folders(folder: &Path) -> Vec<Split> {
    let names = ["train", "validation", "valid", "val", "dev", "test"];
    names.into_iter().filter(|name| folder.join(name).is_dir()).filter_map(split_named).collect()
}
