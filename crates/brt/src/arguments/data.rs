//! The arguments of `brt data`.

use std::path::PathBuf;

use brt_data::{CorpusSource, InvalidUtf8, Job, OnError};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Turn documents into shards of tokens. What was interrupted goes on.
    Prepare(PrepareArguments),
    /// Join the parts that jobs prepared with --shard.
    Merge {
        /// Folders part-I-of-N, of all jobs.
        #[arg(required = true)]
        parts: Vec<PathBuf>,
        /// Folder to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Check every file of a prepared corpus against its manifest.
    Verify {
        /// Folder of the corpus.
        folder: PathBuf,
    },
    /// Print counts, lengths and excerpts of a prepared corpus.
    Inspect {
        /// Folder of the corpus.
        folder: PathBuf,
        /// Number of documents of each split whose beginning is shown.
        #[arg(long, default_value_t = 2)]
        excerpts: usize,
    },
    /// Train a byte-level BPE on the training documents of a corpus.
    TrainTokenizer(TrainTokenizerArguments),
}

/// Which documents, and how they are read.
#[derive(Debug, Args)]
pub(crate) struct SourceArguments {
    /// code, books, latex, pg19:FOLDER, a path, or files:, tree:, raw:, jsonl: or parquet: before a path
    #[arg(long)]
    pub(crate) corpus: CorpusSource,
    /// Column of the text [default: text, else content]; nested ones as meta.text
    #[arg(long)]
    pub(crate) text_column: Option<String>,
    /// Column of the documents' names [default: file and line or row]
    #[arg(long)]
    pub(crate) name_column: Option<String>,
    /// Column whose equal values join rows into one document, for example meta.repo_name
    #[arg(long)]
    pub(crate) group_by: Option<String>,
    /// Column that orders the rows of a group [default: path, meta.path or max_stars_repo_path]
    #[arg(long)]
    pub(crate) path_column: Option<String>,
    /// What happens to text that is not UTF-8: strict (an error), replace or bytes [default: strict]
    #[arg(long)]
    pub(crate) invalid_utf8: Option<InvalidUtf8>,
    /// What happens to input that cannot be read: stop or skip (counted and reported) [default: stop]
    #[arg(long)]
    pub(crate) on_error: Option<OnError>,
    /// Longest line, value or group of rows, in bytes [default: 268435456]
    #[arg(long)]
    pub(crate) max_record_bytes: Option<u64>,
    /// Part of the documents that goes to validation where the input has no splits [default: 0.05]
    #[arg(long)]
    pub(crate) validation: Option<f64>,
    /// Part of the documents that goes to test where the input has no splits [default: 0.05]
    #[arg(long)]
    pub(crate) test: Option<f64>,
    /// Licence of the texts, for the manifest [default: "the owner's"]
    #[arg(long)]
    pub(crate) licence: Option<String>,
    /// Where the texts were taken from, for the manifest [default: "files"]
    #[arg(long)]
    pub(crate) origin: Option<String>,
    /// Threads [default: one per processor]
    #[arg(long)]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct PrepareArguments {
    #[command(flatten)]
    pub(crate) source: SourceArguments,
    /// Folder to write.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// t5-bytes, bytes, or a tokenizer.json or SentencePiece .model file
    #[arg(long, default_value = "t5-bytes")]
    pub(crate) tokenizer: String,
    /// Prepare part I of N of the inputs, I/N with I from 1, into OUT/part-I-of-N.
    #[arg(long)]
    pub(crate) shard: Option<JobArgument>,
    /// Bytes of text after which a shard of tokens ends with the document.
    #[arg(long, default_value_t = 1 << 28)]
    pub(crate) shard_bytes: u64,
}

#[derive(Debug, Args)]
pub(crate) struct TrainTokenizerArguments {
    #[command(flatten)]
    pub(crate) source: SourceArguments,
    /// Number of tokens, the 256 bytes among them.
    #[arg(long)]
    pub(crate) vocab_size: usize,
    /// Bytes of text to train on, of documents chosen by their names.
    #[arg(long, default_value_t = 1_000_000_000)]
    pub(crate) max_bytes: u64,
    /// File to write, a tokenizer.json
    #[arg(long)]
    pub(crate) out: PathBuf,
}

/// A job's number and the number of jobs, written I/N.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobArgument(pub(crate) Job);

impl std::str::FromStr for JobArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(idx, count)| Some((idx.parse().ok()?, count.parse().ok()?)));
        match numbers {
            Some((idx, count)) if 1 <= idx && idx <= count => Ok(Self(Job { idx, count })),
            _ => Err(format!("expected I/N with I from 1 to N, got {text}")),
        }
    }
}
