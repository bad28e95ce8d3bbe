//! Saved sessions: one file each in a folder.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use brt_lm::{LanguageModel, StateFileError, TextState};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::ServeError;

/// Before the key in a file's name.
const BEFORE: &str = "session-";
/// After the key in a file's name.
const AFTER: &str = ".safetensors";
/// After the key in the name of a file that is not whole yet.
const PART: &str = ".part";
/// Longest list of tensors in a file, in bytes.
const MAX_HEADER: u64 = 16 << 20;

/// Returns what a session is known by: any name gives one of 64 hexadecimal digits, which is safe as a part of a path.
pub(super) fn key(name: &str) -> String {
    format!("{:x}", Sha256::digest(name))
}

/// A folder of saved sessions, which no other server uses.
#[derive(Debug)]
pub(super) struct SessionFolder {
    path: PathBuf,
    max_files: usize,
    /// Keys of this model's files, the one that was written last at the end. Others are left alone.
    own: Vec<String>,
    _lock: File,
}

impl SessionFolder {
    /// Returns the folder, which is made where it is not there, for this user alone.
    pub(super) fn open(path: &Path, max_files: usize, model: &LanguageModel) -> Result<Self, ServeError> {
        let error = |source| ServeError::Sessions { path: path.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(error)?;
        let lock = File::create(path.join("sessions.lock")).map_err(error)?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => return Err(ServeError::SessionsInUse { path: path.into() }),
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
        let mut folder = Self { path: path.to_owned(), max_files, own: vec![], _lock: lock };
        folder.own = folder.find(model).map_err(error)?;
        Ok(folder)
    }

    /// Returns the keys of this model's sessions, the last written first.
    pub(super) fn keys(&self) -> Vec<String> {
        self.own.iter().rev().cloned().collect()
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.file(key).exists()
    }

    /// Returns a state that was saved; `None` if none was.
    pub(super) fn load(&self, key: &str, model: &LanguageModel) -> Result<Option<TextState>, StateFileError> {
        let file = self.file(key);
        if file.exists() { TextState::load(&file, model).map(Some) } else { Ok(None) }
    }

    /// Leaves a file alone that turned out to be damaged.
    pub(super) fn disown(&mut self, key: &str) {
        self.own.retain(|own| own != key);
    }

    /// Saves a state, for this user alone. Where there are too many then, the one goes that was written first.
    pub(super) fn save(&mut self, key: &str, text: &TextState, model: &LanguageModel) -> Result<(), String> {
        let (file, part) = (self.file(key), self.path.join(format!("{BEFORE}{key}{PART}")));
        // The writer of the state keeps the mode of what it writes over.
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        made.map_err(|error| format!("{}: {error}", part.display()))?;
        text.save(&file, model).map_err(|error| error.to_string())?;
        self.disown(key);
        self.own.push(key.to_owned());
        let num_surplus = self.own.len().saturating_sub(self.max_files);
        for oldest in self.own.drain(..num_surplus).collect::<Vec<_>>() {
            match fs::remove_file(self.file(&oldest)) {
                Ok(()) => tracing::info!("session {oldest}: removed, the folder holds {}", self.max_files),
                Err(error) => tracing::warn!("session {oldest}: cannot be removed: {error}"),
            }
        }
        Ok(())
    }

    fn file(&self, key: &str) -> PathBuf {
        self.path.join(format!("{BEFORE}{key}{AFTER}"))
    }

    /// Returns the keys of this model's files, the oldest first, and removes what a crash left half-written.
    fn find(&self, model: &LanguageModel) -> io::Result<Vec<String>> {
        let mut files: Vec<(SystemTime, String)> = vec![];
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_key(name.strip_prefix(BEFORE).and_then(|name| name.strip_suffix(PART))) {
                fs::remove_file(entry.path())?;
            }
            let key = name.strip_prefix(BEFORE).and_then(|name| name.strip_suffix(AFTER));
            if let Some(key) = key.filter(|key| is_key(Some(key))) {
                match is_of(&entry.path(), model) {
                    Some(()) => files.push((entry.metadata()?.modified()?, key.to_owned())),
                    None => tracing::warn!("session {key}: left alone, its file is no state of this model"),
                }
            }
        }
        files.sort();
        Ok(files.into_iter().map(|(_, key)| key).collect())
    }
}

fn is_key(name: Option<&str>) -> bool {
    name.is_some_and(|key| key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns whether a file is whole and its header names the model; the numbers are not read.
fn is_of(path: &Path, model: &LanguageModel) -> Option<()> {
    let mut file = File::open(path).ok()?;
    let mut len = [0; 8];
    file.read_exact(&mut len).ok()?;
    let len = Some(u64::from_le_bytes(len)).filter(|&len| len <= MAX_HEADER)?;
    let mut header = vec![0; len as usize];
    file.read_exact(&mut header).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    let header = header.as_object()?;
    let end = |tensor: &Value| tensor.get("data_offsets")?.get(1)?.as_u64();
    let data_len = header.values().filter_map(end).max()?;
    let is_whole = file.metadata().ok()?.len() == 8 + len + data_len;
    let is_own = header.get("__metadata__")?.to_string().contains(model.hash());
    (is_whole && is_own).then_some(())
}
