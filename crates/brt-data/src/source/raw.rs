//! One raw file, cut into the three splits.

use super::{
    BytesRead, Event, Place, SourceConfig, SourceError,
    decompress::{Packing, Unpacked},
    event::{Next, Out, Steps},
    files::DocumentText,
    walk::FileEntry,
};
use crate::Split;

/// Where training and validation end, in parts of a hundred of the file.
const BORDERS: [u64; 2] = [90, 95];

/// Reads the three documents of a raw file.
pub(super) struct RawSteps {
    file: FileEntry,
    config: SourceConfig,
    bytes_read: BytesRead,
    borders: Option<[u64; 4]>,
    part_idx: usize, // of the next document
    text: Option<DocumentText>,
    is_over: bool,
}

impl RawSteps {
    /// Returns the reader of a file from behind its first `num_done` documents.
    pub(super) fn new(file: FileEntry, config: &SourceConfig, num_done: u64, bytes_read: BytesRead) -> Self {
        let part_idx = usize::try_from(num_done).unwrap_or(usize::MAX).min(Split::ALL.len());
        Self { file, config: config.clone(), bytes_read, borders: None, part_idx, text: None, is_over: false }
    }

    /// Opens the next document.
    fn open(&mut self, split: Split) -> Result<DocumentText, SourceError> {
        let borders = match self.borders {
            Some(borders) => borders,
            // Where the borders cannot be found there are no documents.
            None => borders(&self.file).inspect_err(|_| self.is_over = true)?,
        };
        self.borders = Some(borders);
        let (start, end) = (borders[self.part_idx], borders[self.part_idx + 1]);
        self.part_idx += 1;
        let name = format!("{}:{split}", self.file.name);
        let place = Place::file(&self.file.path, &name);
        let reader = open_at(&self.file, start, &self.bytes_read)?;
        let begin = Event::Begin { name: name.clone(), group: name, split: Some(split) };
        Ok(DocumentText::new(reader, place, begin, &self.config).part(start, end - start))
    }
}

impl Steps for RawSteps {
    fn step(&mut self, out: &mut Out) -> Result<Next, SourceError> {
        let split = Split::ALL.get(self.part_idx).filter(|_| !self.is_over);
        let mut text = match (self.text.take(), split) {
            (Some(text), _) => text,
            (None, Some(&split)) => self.open(split)?,
            (None, None) => return Ok(Next::Done),
        };
        if text.step(out)? == Next::More {
            self.text = Some(text);
        }
        Ok(Next::More)
    }
}

/// Opens a file at an offset of its text.
fn open_at(file: &FileEntry, start: u64, bytes_read: &BytesRead) -> Result<Unpacked, SourceError> {
    let place = file.place();
    if Packing::of(&file.name).0 == Packing::Plain {
        return Unpacked::open_plain_at(&file.path, start, &place, bytes_read);
    }
    let mut reader = Unpacked::open(&file.path, &place, bytes_read)?;
    reader.skip(start)?;
    Ok(reader)
}

/// Returns where the documents begin, and the length of the text.
fn borders(file: &FileEntry) -> Result<[u64; 4], SourceError> {
    let uncounted = BytesRead::default();
    let len = match Packing::of(&file.name) {
        (Packing::Plain, _) => {
            std::fs::metadata(&file.path).map_err(SourceError::io(&file.place(), "read"))?.len()
        }
        _ => Unpacked::open(&file.path, &file.place(), &uncounted)?.skip(u64::MAX)?,
    };
    let mut borders = [0, 0, 0, len];
    for (border, percent) in borders[1..].iter_mut().zip(BORDERS) {
        // Without overflow, as a file may be of any length.
        let target = (u128::from(len) * u128::from(percent) / 100) as u64;
        *border = (target + shift(file, target, &uncounted)?).min(len);
    }
    borders[2] = borders[2].max(borders[1]);
    Ok(borders)
}

/// Returns by how much a border moves: to the next start of a character.
fn shift(file: &FileEntry, target: u64, bytes_read: &BytesRead) -> Result<u64, SourceError> {
    if target == 0 {
        return Ok(0);
    }
    let mut reader = open_at(file, target, bytes_read)?;
    let mut text = [0; 3];
    let mut len = 0;
    while len < text.len() {
        match reader.read(&mut text[len..])? {
            0 => break,
            num_read => len += num_read,
        }
    }
    let is_inside_char = |byte: &&u8| matches!(**byte, 0x80..=0xbf);
    Ok(text[..len].iter().take_while(is_inside_char).count() as u64)
}
