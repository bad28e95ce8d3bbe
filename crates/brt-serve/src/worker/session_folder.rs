//! Saved sessions: one file each in a folder.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use brt_lm::{LanguageModel, StateFileError, TextState};
use sha2::{Digest, Sha256};

/// Before the key in a file's name.
const BEFORE: &str = "session-";
/// After the key in a file's name.
const AFTER: &str = ".safetensors";

/// Returns what a session is known by: any name gives one of 64 hexadecimal digits, which is safe as a part of a path.
pub(super) fn key(name: &str) -> String {
    format!("{:x}", Sha256::digest(name))
}

/// A folder of saved sessions.
#[derive(Debug)]
pub(super) struct SessionFolder {
    path: PathBuf,
    max_files: usize,
}

impl SessionFolder {
    /// Returns the folder, which is made where it is not there, for this user alone.
    pub(super) fn open(path: &Path, max_files: usize) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let folder = Self { path: path.to_owned(), max_files };
        folder.files()?;
        Ok(folder)
    }

    /// Returns the keys of all sessions, the last used first.
    pub(super) fn keys(&self) -> io::Result<Vec<String>> {
        let mut files = self.files()?;
        files.sort_by(|a, b| b.cmp(a));
        Ok(files.into_iter().map(|(_, key)| key).collect())
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.file(key).exists()
    }

    /// Returns a state that was saved; `None` if none was.
    pub(super) fn load(&self, key: &str, model: &LanguageModel) -> Result<Option<TextState>, StateFileError> {
        let file = self.file(key);
        if file.exists() { TextState::load(&file, model).map(Some) } else { Ok(None) }
    }

    /// Saves a state. Where there are too many, the one goes that was not used for longest.
    pub(super) fn save(&self, key: &str, text: &TextState, model: &LanguageModel) -> Result<(), String> {
        let mut others = self.keys().map_err(|error| format!("{}: {error}", self.path.display()))?;
        others.retain(|other| other != key);
        for oldest in others.iter().skip(self.max_files - 1) {
            fs::remove_file(self.file(oldest)).map_err(|error| format!("session {oldest}: {error}"))?;
        }
        text.save(&self.file(key), model).map_err(|error| error.to_string())
    }

    fn file(&self, key: &str) -> PathBuf {
        self.path.join(format!("{BEFORE}{key}{AFTER}"))
    }

    /// Returns when each was written, and its key.
    fn files(&self) -> io::Result<Vec<(SystemTime, String)>> {
        let mut files = vec![];
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let key = name.to_str().and_then(|name| name.strip_prefix(BEFORE)?.strip_suffix(AFTER));
            if let Some(key) = key.filter(|key| key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit()))
            {
                files.push((entry.metadata()?.modified()?, key.to_owned()));
            }
        }
        Ok(files)
    }
}
