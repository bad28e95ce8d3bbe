//! One split of a shard, open for reading.

use std::{ops::Range, path::Path};

use super::{Bytes, Index, IndexBuilder, SpanCode, Width, map};
use crate::{DataError, Span, SplitShard, Tokens};

/// The tokens of a split of a shard and where its documents are.
#[derive(Debug)]
pub(crate) struct Shard {
    tokens: TokenStore,
    spans: Option<Bytes>,
    index: Index,
}

#[derive(Debug)]
enum TokenStore {
    File(Bytes, Width),
    Memory(Vec<u16>),
}

impl Shard {
    /// Opens the files of a split of a shard and checks their lengths; [`crate::verify`] checks what is in them.
    pub(crate) fn open(folder: &Path, record: &SplitShard, width: Width) -> Result<Self, DataError> {
        let file = |kind| record.path(folder, kind);
        let tokens = Bytes::Mapped(map(&file("tokens"), &record.tokens)?);
        let index_path = file("index");
        let contradiction = |got: String| DataError::Index { path: index_path.clone(), got };
        let index = Index::new(Bytes::Mapped(map(&index_path, &record.index)?)).map_err(contradiction)?;
        let spans = record.spans.as_ref().map(|spans| map(&file("spans"), spans)).transpose()?;
        let num_tokens = index.num_tokens();
        let lens = (
            tokens.len() as u64,
            spans.as_ref().map_or(num_tokens.saturating_mul(2), |spans| spans.len() as u64),
        );
        if lens != (num_tokens.saturating_mul(width as u64), num_tokens.saturating_mul(2)) {
            return Err(contradiction(format!("{num_tokens} tokens, which are not the files'")));
        }
        if index.num_documents() as u64 != record.counts.num_documents {
            return Err(contradiction(format!("{} documents", index.num_documents())));
        }
        let tokens = TokenStore::File(tokens, width);
        Ok(Self { tokens, spans: spans.map(Bytes::Mapped), index })
    }

    /// Returns a shard of byte tokens in memory.
    pub(crate) fn in_memory(tokens: Vec<u16>, index: &IndexBuilder) -> Result<Self, String> {
        let index = Index::new(Bytes::Memory(index.build()))?;
        Ok(Self { tokens: TokenStore::Memory(tokens), spans: None, index })
    }

    /// Returns the tokens of all documents.
    pub(crate) fn tokens(&self) -> Tokens<'_> {
        match &self.tokens {
            TokenStore::File(bytes, Width::Narrow) => Tokens::Narrow(bytemuck::cast_slice(bytes)),
            TokenStore::File(bytes, Width::Wide) => Tokens::Wide(bytemuck::cast_slice(bytes)),
            TokenStore::Memory(tokens) => Tokens::Narrow(tokens),
        }
    }

    /// Returns the index.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Returns the span of each of the tokens; `None` where tokens are bytes and spans are not kept.
    pub(crate) fn spans(&self, tokens: Range<usize>) -> Option<Vec<Span>> {
        let codes: &[u16] = bytemuck::cast_slice(self.spans.as_deref()?);
        let span = |idx: usize| self.index.span(idx, SpanCode(codes[idx]));
        Some(tokens.map(span).collect())
    }
}

#[cfg(target_endian = "big")]
compile_error!("shards are little endian and are read where they lie");
