//! Files that are either whole or not there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// What can go wrong with a record's file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{path}: cannot {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, for example `write`.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is not what the reader expects.
    #[error("{path}: expected {expected}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The record that should be in it.
        expected: &'static str,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
}

/// Writes a file so that a crash leaves the old one or the new one, never a part: temporary name, fsync, rename.
///
/// # Errors
/// [`FileError::Io`] where the system refuses; the temporary file is then removed and the old one stays.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let part = part_path(path);
    let io_error = |action| {
        let path = path.to_path_buf();
        move |source| FileError::Io { path, action, source }
    };
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(source) = written {
        let _ = fs::remove_file(&part);
        return Err(io_error("write")(source));
    }
    if let Err(source) = fs::rename(&part, path) {
        let _ = fs::remove_file(&part);
        return Err(io_error("rename to")(source));
    }
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(io_error("sync the folder of"))?;
    }
    Ok(())
}

/// Writes a record as indented JSON, whole or not at all.
///
/// # Errors
/// [`FileError::Io`] as [`write_atomic`]; [`FileError::Format`] for a record that does not read back, which is what
/// becomes of a number that is not finite.
pub fn write_json<T: Serialize + DeserializeOwned>(path: &Path, record: &T) -> Result<(), FileError> {
    let format = |source| FileError::Format {
        path: path.to_path_buf(),
        expected: "a record that JSON can hold (finite numbers)",
        source,
    };
    let mut bytes = serde_json::to_vec_pretty(record).map_err(format)?;
    serde_json::from_slice::<T>(&bytes).map_err(format)?;
    bytes.push(b'\n');
    write_atomic(path, &bytes)
}

/// Reads a record from JSON; `expected` says what it is, for the error.
///
/// # Errors
/// [`FileError::Io`] where the file cannot be read, [`FileError::Format`] where it is not an `expected`.
pub fn read_json<T: DeserializeOwned>(path: &Path, expected: &'static str) -> Result<T, FileError> {
    let bytes = fs::read(path).map_err(|source| FileError::Io {
        path: path.to_path_buf(),
        action: "read",
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| FileError::Format {
        path: path.to_path_buf(),
        expected,
        source,
    })
}

/// Returns the name under which a file is written before it is whole.
fn part_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_names_the_path_in_errors() {
        let folder = std::env::temp_dir().join(format!("brt-report-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("numbers.json");
        write_json(&path, &vec![1, 2]).unwrap();
        write_json(&path, &vec![3]).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path, "numbers").unwrap(), vec![3]);
        assert!(!part_path(&path).exists());

        let error = read_json::<String>(&path, "a sentence").unwrap_err();
        assert_eq!(error.to_string(), format!("{}: expected a sentence", path.display()));
        let error = write_json(&path, &vec![f64::NAN]).unwrap_err();
        assert!(
            error.to_string().contains("expected a record that JSON can hold (finite numbers)"),
            "{error}"
        );
        assert_eq!(read_json::<Vec<u32>>(&path, "numbers").unwrap(), vec![3]);
        let error = write_json(&folder.join("missing/x.json"), &1).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: cannot write", folder.join("missing/x.json").display()));
        fs::remove_dir_all(&folder).unwrap();
    }
}
