//! Tests of the readers, through plans, units and events.

mod bad_files;
mod bad_rows;
mod folders;
mod fuzz;
mod groups;
mod piece_properties;
mod resume;
mod samples;

use std::{fs, io::Write, path::Path};

use super::{
    BytesRead, Event, Events, OnError, SkipCounts, SourceConfig, SourceError, SourceFormat, Unit, plan,
};
use crate::Split;

/// A document, joined from its pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doc {
    name: String,
    group: String,
    split: Option<Split>,
    text: Vec<u8>,
}

/// Documents, and the reason and place of each skip.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    docs: Vec<Doc>,
    skips: Vec<(String, String)>,
    num_inputs: u64,
    /// Number of inputs up to the end of each document: a preparation goes on behind one of them.
    document_ends: Vec<u64>,
}

impl Read {
    /// Adds the events of a unit, and checks their order.
    fn add(&mut self, events: Events) -> Result<(), SourceError> {
        let mut current: Option<(Doc, bool)> = None; // and whether it ends inside a word
        for event in events {
            match (event?, &mut current) {
                (Event::Begin { name, group, split }, None) => {
                    current = Some((Doc { name, group, split, text: vec![] }, false));
                    self.num_inputs += 1;
                }
                (Event::Text { text, in_word }, Some((doc, ends_in_word))) => {
                    assert!((1..=4 << 20).contains(&text.len()));
                    let (first, last) = (text[0], text[text.len() - 1]);
                    assert_eq!(in_word, *ends_in_word && !first.is_ascii_whitespace());
                    *ends_in_word = !last.is_ascii_whitespace();
                    doc.text.extend(text);
                }
                (Event::End, Some(_)) => {
                    self.docs.extend(current.take().map(|(doc, _)| doc));
                    self.document_ends.push(self.num_inputs);
                }
                (Event::Abandon { reason, place }, Some(_)) => {
                    current = None;
                    self.skips.push((reason, place));
                }
                (Event::Skip { reason, place }, current) => {
                    self.num_inputs += u64::from(current.is_none());
                    self.skips.push((reason, place));
                }
                (event, current) => panic!("{event:?} after {current:?}"),
            }
        }
        assert!(current.is_none(), "{current:?} has no end");
        Ok(())
    }

    /// Returns name and text of each document.
    fn texts(&self) -> Vec<(&str, &str)> {
        self.docs.iter().map(|doc| (doc.name.as_str(), std::str::from_utf8(&doc.text).unwrap())).collect()
    }

    /// Returns reason and place of each skip.
    fn skips(&self) -> Vec<(&str, &str)> {
        self.skips.iter().map(|(reason, place)| (reason.as_str(), place.as_str())).collect()
    }
}

/// Reads units.
fn read_units(units: &[Unit], config: &SourceConfig) -> Result<Read, SourceError> {
    let mut read = Read::default();
    for unit in units {
        read.add(unit.open(config, 0, &BytesRead::default()))?;
    }
    Ok(read)
}

/// Reads a source.
fn read(config: &SourceConfig) -> Result<Read, SourceError> {
    read_units(&plan(config)?.units, config)
}

/// Returns the text of the error of reading a source.
fn error(config: &SourceConfig) -> String {
    read(config).unwrap_err().to_string()
}

/// Returns the configuration that reads a source in a format.
fn config(path: &Path, format: SourceFormat) -> SourceConfig {
    SourceConfig { format, ..SourceConfig::new(path) }
}

/// Returns the configuration that leaves out what cannot be read.
fn skipping(config: &SourceConfig) -> SourceConfig {
    SourceConfig { on_error: OnError::Skip, ..config.clone() }
}

/// Writes a file and the folders above it.
fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

/// Packs bytes as gzip.
fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Packs bytes as a zstd frame.
fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).unwrap()
}

/// Returns counts as they are expected.
fn counts<const N: usize>(counts: [(&str, u64); N]) -> SkipCounts {
    counts.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect()
}
