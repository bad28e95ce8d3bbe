//! The shards that are being written.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    PrepareConfig,
    inputs::Inputs,
    near_copies::Run,
    split_rule::SplitRule,
    state::{Position, ShardState, State},
};
use crate::{
    Counts, DataError, Job, ShardRecord, Split, TokenizerError,
    shard::{ShardWriter, TokenizedPiece},
};

/// Writes documents to shards in the order of the inputs.
#[derive(Debug)]
pub(super) struct Output {
    folder: PathBuf,
    job: Option<Job>,
    has_spans: bool,
    shard_bytes: u64,
    split_rule: SplitRule,
    state: State,
    position: Position,
    /// Sizes of all shards, this one included.
    counts: Counts,
    shard: ShardInProgress,
    document: Option<DocumentInProgress>,
}

#[derive(Debug, Default)]
struct ShardInProgress {
    writers: BTreeMap<Split, ShardWriter>,
    num_bytes: u64,
    num_documents: u64,
    runs: Vec<Run>,
    skipped: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct DocumentInProgress {
    name: String,
    group: String,
    split: Split,
    counts: Counts,
    runs: Vec<u64>,
    /// Number of different runs when they were last counted.
    num_runs: usize,
    /// Whether the tokenizer cannot read it.
    is_refused: bool,
}

/// Number of runs below which they are not counted.
const MIN_RUNS: usize = 1 << 16;

/// Number of documents after which a shard ends, however short they are: its index is in memory.
const MAX_SHARD_DOCUMENTS: u64 = 1 << 20;

impl Output {
    /// Returns the output of a preparation, which goes on after its whole shards.
    pub(super) fn new(
        folder: &Path,
        config: &PrepareConfig,
        inputs: &Inputs,
        state: State,
    ) -> Result<Self, DataError> {
        let splits = state.shards.iter().flat_map(|shard| shard.record.splits.values());
        Ok(Self {
            folder: folder.to_path_buf(),
            job: config.job,
            has_spans: !config.tokenizer.kind().is_bytes(),
            shard_bytes: config.shard_bytes,
            split_rule: inputs.split_rule.clone(),
            position: state.next(),
            counts: splits.map(|split| split.counts).sum(),
            shard: ShardInProgress::default(),
            document: None,
            state,
        })
    }

    /// Returns where the inputs go on.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Returns the name of the document that is being written.
    pub(super) fn document_name(&self) -> &str {
        self.document.as_ref().map_or("", |document| &document.name)
    }

    /// Returns the sizes of what was written.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Begins a document; without a split its group decides.
    pub(super) fn begin(
        &mut self,
        name: String,
        group: String,
        split: Option<Split>,
    ) -> Result<(), DataError> {
        let split = split.unwrap_or_else(|| self.split_rule.split(&group));
        if !self.shard.writers.contains_key(&split) {
            let name = self.shard_name(split);
            self.shard.writers.insert(split, ShardWriter::new(&self.folder, &name, self.has_spans)?);
        }
        self.document = Some(DocumentInProgress {
            name,
            group,
            split,
            counts: Counts::default(),
            runs: vec![],
            num_runs: MIN_RUNS,
            is_refused: false,
        });
        Ok(())
    }

    /// Returns the name of the files of a split of this shard.
    fn shard_name(&self, split: Split) -> String {
        let part = self.job.map(|Job { idx, count }| format!("{idx}of{count}-")).unwrap_or_default();
        format!("{part}{:05}.{split}", self.state.shards.len())
    }

    /// Adds a piece to the document.
    pub(super) fn append(&mut self, piece: &TokenizedPiece) -> Result<(), DataError> {
        let Some(document) = &mut self.document else { return Ok(()) };
        document.runs.extend_from_slice(&piece.runs);
        if document.runs.len() > 2 * document.num_runs {
            document.runs.sort_unstable();
            document.runs.dedup(); // A text that repeats itself has few different runs.
            document.num_runs = document.runs.len().max(MIN_RUNS);
        }
        document.counts = document.counts
            + Counts {
                num_documents: 0,
                num_tokens: piece.num_tokens,
                num_bytes: piece.span.num_bytes,
                num_words: piece.span.num_words,
            };
        match self.shard.writers.get_mut(&document.split) {
            Some(writer) => writer.append(piece),
            None => Ok(()),
        }
    }

    /// Leaves the document out when it ends, for the tokenizer cannot read it.
    pub(super) fn refuse(&mut self, error: &TokenizerError) {
        if let Some(document) = &mut self.document {
            tracing::warn!("{}: left out: {error}", document.name);
            document.is_refused = true;
        }
    }

    /// Ends the document, and the shard where it is long enough.
    pub(super) fn end(&mut self) -> Result<(), DataError> {
        if self.document.as_ref().is_some_and(|document| document.is_refused) {
            return self.abandon("cannot be tokenised".into());
        }
        let Some(DocumentInProgress { name, group, split, counts, mut runs, .. }) = self.document.take()
        else {
            return Ok(());
        };
        self.position.num_done += 1;
        let Some(writer) = self.shard.writers.get_mut(&split) else { return Ok(()) };
        let document_idx = writer.num_documents() as u32;
        if !writer.end(&name, &group)? {
            *self.shard.skipped.entry("empty".into()).or_default() += 1;
            return Ok(());
        }
        runs.sort_unstable();
        runs.dedup();
        self.shard.runs.extend(runs.into_iter().map(|hash| Run { hash, document_idx, split }));
        self.counts = self.counts + Counts { num_documents: 1, ..counts };
        self.shard.num_bytes += counts.num_bytes;
        self.shard.num_documents += 1;
        match self.shard.num_bytes >= self.shard_bytes || self.shard.num_documents >= MAX_SHARD_DOCUMENTS {
            true => self.end_shard(),
            false => Ok(()),
        }
    }

    /// Forgets the document and counts it as left out.
    pub(super) fn abandon(&mut self, reason: String) -> Result<(), DataError> {
        let document = self.document.take();
        self.skip(reason);
        match document.and_then(|document| self.shard.writers.get_mut(&document.split)) {
            Some(writer) => writer.abandon(),
            None => Ok(()),
        }
    }

    /// Counts an input, or a part of the document, that was left out.
    pub(super) fn skip(&mut self, reason: String) {
        if self.document.is_none() {
            self.position.num_done += 1;
        }
        *self.shard.skipped.entry(reason).or_default() += 1;
    }

    /// Goes on with the next unit.
    pub(super) fn next_unit(&mut self) {
        self.position = Position { unit_idx: self.position.unit_idx + 1, num_done: 0 };
    }

    fn end_shard(&mut self) -> Result<(), DataError> {
        let ShardInProgress { writers, runs, skipped, .. } = std::mem::take(&mut self.shard);
        let mut record = ShardRecord::default();
        for (split, writer) in writers {
            let written = writer.finish()?;
            if written.counts.num_documents > 0 {
                record.splits.insert(split, written);
            } else {
                written.remove(&self.folder)?;
            }
        }
        self.state.push(ShardState { record, next: self.position, skipped }, &runs)
    }

    /// Ends the last shard and returns the records of all.
    pub(super) fn finish(mut self) -> Result<Vec<ShardState>, DataError> {
        if !self.shard.writers.is_empty() || !self.shard.skipped.is_empty() {
            self.end_shard()?;
        }
        Ok(self.state.shards)
    }
}
