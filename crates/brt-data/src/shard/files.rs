//! Files that are mapped into memory, and their checksums.

use std::{
    fs::{self, File},
    io::{self, Read},
    ops::Deref,
    path::Path,
};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{DataError, manifest::hex};

/// Bytes of a file, or in memory.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// A file, read by the operating system where it is looked at.
    Mapped(Mmap),
    /// In memory.
    Memory(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}

/// What a manifest says of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Length in bytes.
    pub num_bytes: u64,
    /// SHA-256 of the contents.
    pub sha256: String,
}

/// Maps a file into memory and checks its length.
pub(crate) fn map(path: &Path, record: &FileRecord) -> Result<Mmap, DataError> {
    let file = File::open(path).map_err(DataError::io(path, "read"))?;
    let got = file.metadata().map_err(DataError::io(path, "read"))?.len();
    if got != record.num_bytes {
        return Err(DataError::Length { path: path.to_path_buf(), expected: record.num_bytes, got });
    }
    #[expect(unsafe_code, reason = "a memory map cannot be had without")]
    // SAFETY: the files of a corpus are written under another name and never changed once they have theirs. Who changes
    // or cuts one while it is read gets other numbers or a bus error, as with every mapped file; `TokenSet::open` says so.
    let map = unsafe { Mmap::map(&file) };
    map.map_err(DataError::io(path, "map"))
}

/// Copies a file so that it is there whole or not at all: temporary name, fsync, rename.
pub(crate) fn copy_whole(from: &Path, to: &Path) -> Result<(), DataError> {
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let copied = fs::copy(from, &part).and_then(|_| File::open(&part)?.sync_all());
    copied.and_then(|()| fs::rename(&part, to)).map_err(DataError::io(to, "copy to"))
}

impl FileRecord {
    /// Reads a file and checks it against its record. `progress` gets the number of bytes read.
    pub(crate) fn verify(&self, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), DataError> {
        let got = Self::of(path, progress)?;
        let path = path.to_path_buf();
        if got.num_bytes != self.num_bytes {
            return Err(DataError::Length { path, expected: self.num_bytes, got: got.num_bytes });
        }
        if got.sha256 != self.sha256 {
            return Err(DataError::Checksum { path, expected: self.sha256.clone(), got: got.sha256 });
        }
        Ok(())
    }

    /// Returns the record of a file.
    pub(crate) fn of(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Self, DataError> {
        let mut file = File::open(path).map_err(DataError::io(path, "read"))?;
        let (mut hash, mut num_bytes) = (Sha256::new(), 0);
        let mut chunk = vec![0; 1 << 20];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(len) => {
                    hash.update(&chunk[..len]);
                    num_bytes += len as u64;
                    progress(len as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(DataError::io(path, "read")(error)),
            }
        }
        Ok(Self { num_bytes, sha256: hex(&hash.finalize()) })
    }
}
