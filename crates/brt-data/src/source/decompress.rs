//! Opens files that may be packed, and counts what is read of them.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::bufread::MultiGzDecoder;

use super::{Place, SourceError};

/// Largest window of a zstd frame, as a power of 2 in bytes: 512 MiB. The format's own limit would take 2 GiB.
const MAX_WINDOW_LOG: u32 = 29;

/// Number of bytes that are read from the disk at once.
const READ_BYTES: usize = 256 << 10;

/// The number of bytes that were read from the disk, for a progress bar; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct BytesRead(Arc<AtomicU64>);

impl BytesRead {
    /// Returns the number of bytes.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds bytes.
    pub(crate) fn add(&self, num_bytes: u64) {
        self.0.fetch_add(num_bytes, Ordering::Relaxed);
    }
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// Returns the packing that a file's name tells, and the name without it.
    pub(super) fn of(name: &str) -> (Self, &str) {
        let endings = [(".gz", Self::Gzip), (".zst", Self::Zstd)];
        let found = endings.into_iter().find_map(|(ending, packing)| {
            let stem_len = name.len().checked_sub(ending.len())?;
            let (stem, got) = name.split_at_checked(stem_len)?;
            got.eq_ignore_ascii_case(ending).then_some((packing, stem))
        });
        found.unwrap_or((Self::Plain, name))
    }

    /// Returns the reader of the bytes of a packed file.
    fn unpack(self, file: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
        let buffered = |file| io::BufReader::with_capacity(READ_BYTES, file);
        Ok(match self {
            Self::Plain => Box::new(file),
            Self::Gzip => Box::new(MultiGzDecoder::new(buffered(file))),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(buffered(file))?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }

    /// Returns the name of the format.
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A file's bytes, unpacked.
pub(super) struct Unpacked {
    reader: Box<dyn Read + Send>,
    packing: Packing,
    place: Place,
}

/// A file whose bytes are counted.
struct Counted {
    file: File,
    bytes_read: BytesRead,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let num_bytes = self.file.read(buffer)?;
        self.bytes_read.add(num_bytes as u64);
        Ok(num_bytes)
    }
}

impl Unpacked {
    /// Opens a file; its name tells how it is packed.
    pub(super) fn open(path: &Path, place: &Place, bytes_read: &BytesRead) -> Result<Self, SourceError> {
        let file = File::open(path).map_err(SourceError::io(place, "open"))?;
        let file = Counted { file, bytes_read: bytes_read.clone() };
        let (packing, _) = Packing::of(&path.to_string_lossy());
        let reader = packing.unpack(file).map_err(SourceError::io(place, "read"))?;
        Ok(Self { reader, packing, place: place.clone() })
    }

    /// Opens a file that is not packed, at an offset.
    pub(super) fn open_plain_at(
        path: &Path,
        start: u64,
        place: &Place,
        bytes_read: &BytesRead,
    ) -> Result<Self, SourceError> {
        let mut file = File::open(path).map_err(SourceError::io(place, "open"))?;
        file.seek(SeekFrom::Start(start)).map_err(SourceError::io(place, "read"))?;
        let reader = Box::new(Counted { file, bytes_read: bytes_read.clone() });
        Ok(Self { reader, packing: Packing::Plain, place: place.clone() })
    }

    /// Reads into the buffer; 0 at the end of the file.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        loop {
            match self.reader.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(|error| self.error(error)),
            }
        }
    }

    /// Leaves out bytes; returns how many there were.
    pub(super) fn skip(&mut self, num_bytes: u64) -> Result<u64, SourceError> {
        let skipped = io::copy(&mut (&mut self.reader).take(num_bytes), &mut io::sink());
        skipped.map_err(|error| self.error(error))
    }

    /// Tells what the system says from what the unpacking finds.
    fn error(&self, error: io::Error) -> SourceError {
        if self.packing == Packing::Plain || error.raw_os_error().is_some() {
            return SourceError::io(&self.place, "read")(error);
        }
        let (place, format) = (self.place.clone(), self.packing.name());
        SourceError::Damaged { place, format, detail: error.to_string() }
    }
}
