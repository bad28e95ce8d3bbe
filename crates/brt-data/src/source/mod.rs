//! Reads documents from every layout that people have: folders of files, trees of sources, one raw file, JSON lines
//! and parquet, plain or packed.
//!
//! [`plan`] lists the units of a source; [`Unit::open`] reads one as [`Event`]s, in pieces, so that memory stays
//! bounded whatever the length of a document. Rows that belong together are brought together by [`spill`] first.

mod bucket;
mod columns;
mod config;
mod decompress;
mod error;
mod event;
mod files;
mod json_row;
mod jsonl;
mod lines;
mod memory;
mod names;
mod parquet;
mod parquet_column;
mod pieces;
mod plan;
mod raw;
mod rows;
mod spill;
mod tree;
mod unit;
mod utf8;
mod walk;

#[cfg(test)]
mod tests;

pub use self::{
    config::{InvalidUtf8, OnError, SourceConfig, SourceFormat},
    error::{Place, SourceError},
};
pub(crate) use self::{
    decompress::BytesRead,
    event::{Event, Events},
    memory::document_events,
    plan::{Plan, plan},
    spill::spill,
    unit::Unit,
};

/// How often something was left out, by reason.
pub(crate) type SkipCounts = std::collections::BTreeMap<String, u64>;
