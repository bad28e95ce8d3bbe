//! One piece of work, and how it is read.

use super::{
    BytesRead, Events, SourceConfig, SourceFormat, bucket::BucketSteps, event::events, files::FileSteps,
    jsonl::JsonlRows, parquet::ParquetRows, raw::RawSteps, rows::RowSteps, rows::Rows, tree::TreeSteps,
    walk::FileEntry,
};
use crate::Split;

/// One piece of work: a file, a sub-folder or a bucket of grouped rows.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// Path in the source with `/` between its parts, or the bucket's name.
    pub(crate) name: String,
    /// Number of bytes on the disk.
    pub(crate) num_bytes: u64,
    /// The split that the path says, if it does.
    pub(crate) split: Option<Split>,
    pub(super) kind: Kind,
}

/// What a unit is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    File { file: FileEntry, group: Option<String> },
    Tree { files: Vec<FileEntry> },
    Raw { file: FileEntry },
    Jsonl { file: FileEntry },
    Parquet { file: FileEntry },
    Bucket { file: FileEntry },
}

impl Unit {
    /// Returns the unit of one file.
    pub(super) fn of_file(file: FileEntry, format: SourceFormat, split: Option<Split>) -> Self {
        let (name, num_bytes) = (file.name.clone(), file.num_bytes);
        let kind = match format {
            SourceFormat::Raw => Kind::Raw { file },
            SourceFormat::Jsonl => Kind::Jsonl { file },
            SourceFormat::Parquet => Kind::Parquet { file },
            SourceFormat::Auto | SourceFormat::Files | SourceFormat::Tree => Kind::File { file, group: None },
        };
        Self { name, num_bytes, split, kind }
    }

    /// Reads the unit, from behind the first `num_inputs_done` inputs: the documents begun, and the skips outside
    /// documents. Files are opened with the first event, so that what is wrong with them comes as an event too.
    pub(crate) fn open(&self, config: &SourceConfig, num_inputs_done: u64, bytes_read: &BytesRead) -> Events {
        let (on_error, bytes_read) = (config.on_error, bytes_read.clone());
        let one_left = num_inputs_done == 0; // of a unit that is one document
        match &self.kind {
            Kind::File { .. } | Kind::Tree { .. } if !one_left => Box::new(std::iter::empty()),
            Kind::File { file, group } => {
                let group = group.as_ref().unwrap_or(&self.name).clone();
                events(FileSteps::new(file.clone(), group, self.split, config, bytes_read), on_error)
            }
            Kind::Tree { files } => events(TreeSteps::new(self, files.clone(), config, bytes_read), on_error),
            Kind::Raw { file } => {
                events(RawSteps::new(file.clone(), config, num_inputs_done, bytes_read), on_error)
            }
            Kind::Jsonl { .. } | Kind::Parquet { .. } => {
                let rows = self.rows(config, num_inputs_done, &bytes_read);
                rows.map_or_else(
                    || Box::new(std::iter::empty()) as Events,
                    |rows| events(RowSteps::new(rows, self, config, num_inputs_done), on_error),
                )
            }
            Kind::Bucket { file } => {
                events(BucketSteps::new(file.clone(), config, num_inputs_done, bytes_read), on_error)
            }
        }
    }

    /// Returns the rows of a file of rows from behind the first `num_done`; `None` for other units.
    pub(super) fn rows(
        &self,
        config: &SourceConfig,
        num_done: u64,
        bytes_read: &BytesRead,
    ) -> Option<Box<dyn Rows>> {
        match &self.kind {
            Kind::Jsonl { file } => {
                Some(Box::new(JsonlRows::new(file.clone(), config, num_done, bytes_read.clone())))
            }
            Kind::Parquet { file } => {
                Some(Box::new(ParquetRows::new(file.clone(), config, num_done, bytes_read.clone())))
            }
            _ => None,
        }
    }

    /// Returns name and size of each file of a tree; nothing for other units, which are one file.
    pub(crate) fn tree_files(&self) -> impl Iterator<Item = (&str, u64)> {
        let files = match &self.kind {
            Kind::Tree { files } => &files[..],
            _ => &[],
        };
        files.iter().map(|file| (file.name.as_str(), file.num_bytes))
    }

    /// Returns when the unit's file was last changed, where the system says it.
    pub(super) fn modified(&self) -> Option<std::time::SystemTime> {
        match &self.kind {
            Kind::Tree { .. } => None,
            Kind::File { file, .. }
            | Kind::Raw { file }
            | Kind::Jsonl { file }
            | Kind::Parquet { file }
            | Kind::Bucket { file } => std::fs::metadata(&file.path).and_then(|file| file.modified()).ok(),
        }
    }
}
