//! Documents, tokens and segment batches for models that read long documents.
//!
//! A [`CorpusSource`] (files in any common layout, or a named corpus) is prepared once, by [`prepare`], into a folder of
//! token shards with a [`Manifest`]; a [`TokenSet`] is one split of it, read where it lies on the disk; [`TrainStream`]
//! and [`EvaluationStream`] cut it into [`SegmentBatch`]es.
//!
//! ```no_run
//! use std::{path::Path, sync::Arc};
//! use brt_data::{CorpusSource, Pack, PrepareConfig, Rank, Split, StreamConfig, TargetRule, TokenSet, TrainStream, prepare};
//!
//! # fn main() -> Result<(), brt_data::DataError> {
//! let folder = Path::new("corpora/books");
//! prepare(&PrepareConfig::new(CorpusSource::Books), folder)?;
//! let set = Arc::new(TokenSet::open(folder, Split::Train)?);
//! let config = StreamConfig {
//!     batch: 8,
//!     segment_len: 512,
//!     target_rule: TargetRule::AcrossSegments,
//!     pack: Pack::RestartAnywhere,
//!     rank: Rank::ALONE,
//!     max_document_len: None,
//! };
//! let mut stream = TrainStream::new(set, config, 0)?;
//! let batch = stream.next_batch()?;
//! assert_eq!(batch.tokens.len(), 8 * 512);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod batch;
mod corpus;
mod counts;
mod document;
mod error;
mod evaluation_stream;
mod files;
mod inspect;
mod manifest;
mod prepare;
mod shard;
mod source;
mod stream_config;
mod token_set;
mod tokenizer;
mod tokens;
mod train_stream;
mod verify;
mod words;

pub use batch::SegmentBatch;
pub use corpus::CorpusSource;
pub use counts::Counts;
pub use document::{Document, Split};
pub use error::DataError;
pub use evaluation_stream::EvaluationStream;
pub use inspect::{Excerpt, SplitStatistics};
pub use manifest::{
    Job, Manifest, NearCopy, Options, ShardRecord, Skipped, SplitShard, TokenizerRecord, Work,
    manifest_sha256,
};
pub use prepare::{PrepareConfig, PrepareProgress, merge, prepare, prepare_with, train_tokenizer};
pub use shard::FileRecord;
pub use source::{InvalidUtf8, OnError, Place, SourceConfig, SourceError, SourceFormat};
pub use stream_config::{Pack, Rank, StreamConfig, TargetRule};
pub use token_set::{DocumentTokens, TokenSet};
pub use tokenizer::{Encoding, TextDecoder, TextPlace, Tokenizer, TokenizerError, TokenizerKind, train_bpe};
pub use tokens::{Span, Tokens};
pub use train_stream::{Prefetch, RowCursor, StreamCursor, TrainStream};
pub use verify::verify;
