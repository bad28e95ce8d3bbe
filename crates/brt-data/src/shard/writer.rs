//! One split of a shard while it is written: document after document, each of which can still be taken back.

use std::{
    fs::{self, File},
    io::{BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{FileRecord, IndexBuilder};
use crate::{Counts, DataError, Span, SplitShard, manifest::hex};

/// Tokens of a piece of a document, as they are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenizedPiece {
    pub(crate) num_tokens: u64,
    pub(crate) tokens: Vec<u8>,
    /// Empty where tokens are bytes.
    pub(crate) spans: Vec<u8>,
    /// Spans that are too long for [`super::SpanCode`], with their token's place in the piece.
    pub(crate) long_spans: Vec<(u64, Span)>,
    /// Text of all tokens.
    pub(crate) span: Span,
    /// Hashes of the piece's runs of lines that are compared with other documents'.
    pub(crate) runs: Vec<u64>,
}

/// Writes one split of a shard.
#[derive(Debug)]
pub(crate) struct ShardWriter {
    folder: PathBuf,
    name: String,
    tokens: PartFile,
    spans: Option<PartFile>,
    index: IndexBuilder,
    /// Of all documents that are whole.
    counts: Counts,
    /// Of the document that is being written.
    open: Counts,
    num_long_spans: usize,
}

impl ShardWriter {
    /// Makes the files of a split of a shard under temporary names. `name` has the split in it.
    pub(crate) fn new(folder: &Path, name: &str, has_spans: bool) -> Result<Self, DataError> {
        let part = |kind: &str| PartFile::create(folder.join(format!("{name}.{kind}")));
        Ok(Self {
            tokens: part("tokens")?,
            spans: has_spans.then(|| part("spans")).transpose()?,
            folder: folder.to_path_buf(),
            name: name.to_owned(),
            index: IndexBuilder::default(),
            counts: Counts::default(),
            open: Counts::default(),
            num_long_spans: 0,
        })
    }

    /// Adds a piece to the document that is being written.
    pub(crate) fn append(&mut self, piece: &TokenizedPiece) -> Result<(), DataError> {
        let first_token = self.counts.num_tokens + self.open.num_tokens;
        for &(idx, span) in &piece.long_spans {
            self.index.push_long_span(first_token + idx, span);
        }
        self.tokens.write(&piece.tokens)?;
        if let Some(spans) = &mut self.spans {
            spans.write(&piece.spans)?;
        }
        self.open.num_tokens += piece.num_tokens;
        self.open.num_bytes += piece.span.num_bytes;
        self.open.num_words += piece.span.num_words;
        Ok(())
    }

    /// Ends the document; returns whether it had any tokens, else there is none.
    pub(crate) fn end(&mut self, name: &str, group: &str) -> Result<bool, DataError> {
        if self.open.num_tokens == 0 {
            self.abandon()?;
            return Ok(false);
        }
        let open = Counts { num_documents: 1, ..std::mem::take(&mut self.open) };
        self.counts = self.counts + open;
        let span = Span { num_bytes: open.num_bytes, num_words: open.num_words };
        self.index.push(name, group, self.counts.num_tokens, span);
        self.num_long_spans = self.index.num_long_spans();
        self.tokens.keep();
        self.spans.iter_mut().for_each(PartFile::keep);
        Ok(true)
    }

    /// Forgets the document that is being written.
    pub(crate) fn abandon(&mut self) -> Result<(), DataError> {
        self.open = Counts::default();
        self.index.truncate_long_spans(self.num_long_spans);
        self.tokens.take_back()?;
        self.spans.iter_mut().try_for_each(PartFile::take_back)
    }

    /// Returns the number of whole documents.
    pub(crate) fn num_documents(&self) -> u64 {
        self.index.num_documents()
    }

    /// Waits until everything is on the disk, gives the files their names and returns their record.
    pub(crate) fn finish(mut self) -> Result<SplitShard, DataError> {
        self.abandon()?;
        let mut index = PartFile::create(self.folder.join(format!("{}.index", self.name)))?;
        index.write(&self.index.build())?;
        Ok(SplitShard {
            name: self.name,
            counts: self.counts,
            tokens: self.tokens.finish()?,
            spans: self.spans.map(PartFile::finish).transpose()?,
            index: index.finish()?,
        })
    }
}

/// A file that is written from its start to its end, with a mark to which it can be taken back.
#[derive(Debug)]
struct PartFile {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    end: Mark,
    kept: Mark,
}

#[derive(Debug, Clone, Default)]
struct Mark {
    num_bytes: u64,
    hash: Sha256,
}

impl PartFile {
    fn create(path: PathBuf) -> Result<Self, DataError> {
        let part = path.with_added_extension("part");
        let file = File::create(&part).map_err(DataError::io(&part, "create"))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { path, part, file, end: Mark::default(), kept: Mark::default() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.end.num_bytes += bytes.len() as u64;
        self.end.hash.update(bytes);
        self.file.write_all(bytes).map_err(DataError::io(&self.part, "write"))
    }

    fn keep(&mut self) {
        self.kept = self.end.clone();
    }

    fn take_back(&mut self) -> Result<(), DataError> {
        if self.end.num_bytes == self.kept.num_bytes {
            return Ok(());
        }
        self.end = self.kept.clone();
        let len = self.end.num_bytes;
        let cut = self.file.seek(SeekFrom::Start(len)).and_then(|_| self.file.get_ref().set_len(len));
        cut.map_err(DataError::io(&self.part, "write"))
    }

    fn finish(mut self) -> Result<FileRecord, DataError> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(DataError::io(&self.part, "write"))?;
        fs::rename(&self.part, &self.path).map_err(DataError::io(&self.path, "rename to"))?;
        Ok(FileRecord { num_bytes: self.end.num_bytes, sha256: hex(&self.end.hash.finalize()) })
    }
}
