//! One split of a prepared corpus, open for reading.

use std::{ops::Range, path::Path};

use sha2::{Digest, Sha256};

use crate::{
    DataError, Document, Manifest, ShardRecord, Span, Split, Tokenizer, TokenizerKind, Tokens,
    manifest::{hex, manifest_sha256, sha256_hex},
    shard::{IndexBuilder, Shard, Width},
    words::{count_words, word_starts_within},
};

/// The documents of one split. Tokens stay on the disk until they are read; opening looks at no document.
#[derive(Debug)]
pub struct TokenSet {
    shards: Vec<Shard>,
    /// Number of documents of the shards up to and with each.
    document_ends: Vec<usize>,
    num_tokens: u64,
    tokenizer: TokenizerKind,
    vocab_size: usize,
    manifest_sha256: String,
}

/// One document of a [`TokenSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentTokens<'a> {
    /// Name; unique in the corpus unless it was read from a column.
    pub name: &'a str,
    /// Author, family of crates, …: what is never split over two splits.
    pub group: &'a str,
    /// All tokens.
    pub tokens: Tokens<'a>,
    /// The text that the tokens stand for.
    pub span: Span,
}

impl TokenSet {
    /// Opens a split of a prepared corpus and checks the lengths of its files; [`crate::verify`] reads them, too.
    ///
    /// The files are mapped into memory. Nobody may change or cut one while it is read, as nobody does in a folder that
    /// was prepared: the reader would get other numbers or a bus error. A merged corpus shares the files of its parts.
    ///
    /// # Errors
    /// As [`Manifest::read`]; [`DataError::Io`] where a file cannot be read; [`DataError::Length`] and
    /// [`DataError::Index`] where one is not what was written; [`DataError::EmptySplit`] without documents.
    pub fn open(folder: &Path, split: Split) -> Result<Self, DataError> {
        let manifest = Manifest::read(folder)?;
        let Manifest { shards, tokenizer, .. } = &manifest;
        let width = Width::of(tokenizer.vocab_size);
        let records = shards.iter().filter_map(|ShardRecord { splits, .. }| splits.get(&split));
        let shards =
            records.map(|record| Shard::open(folder, record, width)).collect::<Result<Vec<_>, _>>()?;
        let empty = || DataError::EmptySplit { name: folder.display().to_string(), split };
        let set = Self::of(shards, tokenizer.kind, tokenizer.vocab_size, manifest_sha256(folder)?);
        set.ok_or_else(empty)
    }

    /// Makes a set of byte tokens ([`Tokenizer::t5_bytes`]) of documents in memory; its checksum is one of their names
    /// and texts.
    ///
    /// # Errors
    /// [`DataError::EmptySplit`] without documents, [`DataError::TooSmall`] for a document without text.
    pub fn from_documents(documents: &[Document]) -> Result<Self, DataError> {
        let mut hash = Sha256::new();
        let (mut tokens, mut index) = (Vec::new(), IndexBuilder::default());
        let (kind, vocab_size) = (TokenizerKind::T5Bytes, Tokenizer::t5_bytes().vocab_size());
        for Document { name, group, text } in documents {
            if text.is_empty() {
                return Err(DataError::TooSmall { name: "document text", expected: 1, got: 0 });
            }
            tokens.extend(text.iter().map(|&byte| u16::from(byte) + first_byte(kind)));
            let num_words = count_words(text, false);
            index.push(name, group, tokens.len() as u64, Span { num_bytes: text.len() as u64, num_words });
            hash.update(sha256_hex(name.as_bytes()));
            hash.update(sha256_hex(text));
        }
        let empty = || DataError::EmptySplit { name: "documents".into(), split: Split::Train };
        let shard = Shard::in_memory(tokens, &index).map_err(|_| empty())?;
        Self::of(vec![shard], kind, vocab_size, hex(&hash.finalize())).ok_or_else(empty)
    }

    fn of(
        shards: Vec<Shard>,
        tokenizer: TokenizerKind,
        vocab_size: usize,
        manifest_sha256: String,
    ) -> Option<Self> {
        let mut end = 0;
        let ends = shards.iter().map(|shard| {
            end += shard.index().num_documents();
            end
        });
        let document_ends: Vec<usize> = ends.collect();
        let num_tokens = shards.iter().map(|shard| shard.index().num_tokens()).sum();
        (end > 0).then_some(Self {
            shards,
            document_ends,
            num_tokens,
            tokenizer,
            vocab_size,
            manifest_sha256,
        })
    }

    /// Returns the number of documents, at least 1.
    pub fn num_documents(&self) -> usize {
        self.document_ends.last().copied().unwrap_or(0)
    }

    /// Returns the number of tokens of all documents.
    pub fn num_tokens(&self) -> u64 {
        self.num_tokens
    }

    /// Returns a document.
    ///
    /// # Errors
    /// [`DataError::DamagedDocument`] where the shard's index says nonsense about it.
    ///
    /// # Panics
    /// Where `document_idx` is not below [`TokenSet::num_documents`].
    pub fn document(&self, document_idx: usize) -> Result<DocumentTokens<'_>, DataError> {
        self.locate(document_idx).map(|(_, document, _)| document)
    }

    /// Returns how much text each token of a part of a document stands for.
    ///
    /// # Errors
    /// As [`TokenSet::document`].
    ///
    /// # Panics
    /// Where the document or its tokens are not there.
    pub fn spans(&self, document_idx: usize, tokens: Range<usize>) -> Result<Vec<Span>, DataError> {
        let (shard, document, first_token) = self.locate(document_idx)?;
        let Range { start, end } = tokens;
        assert!(start <= end && end <= document.tokens.len(), "expected tokens of the document");
        if let Some(spans) = shard.spans(first_token + start..first_token + end) {
            return Ok(spans);
        }
        // Tokens are bytes: the words are those of the text, of which a little is needed on both sides.
        let around = start.saturating_sub(16)..(end + 3).min(document.tokens.len());
        let before = start - around.start;
        let first_byte = u32::from(first_byte(self.tokenizer));
        let text = document.tokens.slice(around).to_vec();
        let text: Vec<u8> = text.into_iter().map(|token| token.wrapping_sub(first_byte) as u8).collect();
        let mut spans = vec![Span { num_bytes: 1, num_words: 0 }; end - start];
        word_starts_within(&text, before, before + spans.len(), |at| spans[at].num_words = 1);
        Ok(spans)
    }

    /// Returns the shard of a document, the document, and its first token in the shard.
    fn locate(&self, document_idx: usize) -> Result<(&Shard, DocumentTokens<'_>, usize), DataError> {
        let count = self.num_documents();
        assert!(document_idx < count, "expected a document below {count}, got {document_idx}");
        let shard_idx = self.document_ends.partition_point(|&end| end <= document_idx);
        let first = shard_idx.checked_sub(1).map_or(0, |before| self.document_ends[before]);
        let shard = &self.shards[shard_idx];
        let damaged = || DataError::DamagedDocument { document_idx };
        let entry = shard.index().entry(document_idx - first).ok_or_else(damaged)?;
        let end = entry.first_token.checked_add(entry.num_tokens);
        let end = end.filter(|&end| entry.first_token < end && end <= shard.tokens().len());
        let tokens = shard.tokens().slice(entry.first_token..end.ok_or_else(damaged)?);
        let (name, group, span) = (entry.name, entry.group, entry.span);
        Ok((shard, DocumentTokens { name, group, tokens, span }, entry.first_token))
    }

    /// Returns the number of rows that an embedding table of these tokens needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Returns the SHA-256 of the manifest that the split belongs to.
    pub fn manifest_sha256(&self) -> &str {
        &self.manifest_sha256
    }
}

/// Returns the token of byte 0.
fn first_byte(tokenizer: TokenizerKind) -> u16 {
    match tokenizer {
        TokenizerKind::T5Bytes => 3,
        _ => 0,
    }
}
