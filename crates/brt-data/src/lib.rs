//! Documents, tokens and segment batches for models that read long documents.
//!
//! A [`CorpusSource`] is prepared once into a folder of token files with a [`Manifest`]; a [`TokenSet`] is one split
//! of it, opened and checked; [`TrainStream`] and [`EvaluationStream`] cut it into [`SegmentBatch`]es.
//!
//! ```no_run
//! use std::{path::Path, sync::Arc};
//! use brt_data::{CorpusSource, Split, StreamConfig, TargetRule, TokenSet, TrainStream, prepare};
//!
//! # fn main() -> Result<(), brt_data::DataError> {
//! let folder = Path::new("corpora/books");
//! prepare(&CorpusSource::Books, folder)?;
//! let set = Arc::new(TokenSet::open(folder, Split::Train)?);
//! let config = StreamConfig {
//!     batch: 8,
//!     segment_len: 512,
//!     target_rule: TargetRule::AcrossSegments,
//!     max_document_len: None,
//! };
//! let mut stream = TrainStream::new(set, config, 0)?;
//! let batch = stream.next_batch();
//! assert_eq!(batch.tokens.len(), 8 * 512);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod batch;
mod corpus;
mod document;
mod error;
mod evaluation_stream;
mod manifest;
mod prepare;
mod token_set;
mod tokenizer;
mod train_stream;

pub use batch::{SegmentBatch, StreamConfig, TargetRule};
pub use corpus::CorpusSource;
pub use document::{Document, Split};
pub use error::DataError;
pub use evaluation_stream::EvaluationStream;
pub use manifest::{DocumentEntry, Manifest, NearCopy, Skipped, SplitManifest, manifest_sha256};
pub use prepare::prepare;
pub use token_set::{DocumentTokens, TokenSet};
pub use tokenizer::{ByteTokenizer, PAD_TOKEN};
pub use train_stream::{RowCursor, StreamCursor, TrainStream};
