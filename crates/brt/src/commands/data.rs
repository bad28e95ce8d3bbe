//! `brt data`: corpora.

use anyhow::Result;
use brt_data::{Manifest, prepare};

use crate::{
    arguments::DataCommand,
    output::{count, result},
};

pub(super) fn run(command: DataCommand) -> Result<()> {
    let manifest = match command {
        DataCommand::Prepare { corpus, out } => prepare(&corpus, &out)?,
        DataCommand::Inspect { folder } => Manifest::read(&folder)?,
    };
    print(&manifest);
    Ok(())
}

fn print(manifest: &Manifest) {
    result(format!("source     {}", manifest.source));
    result(format!("licence    {}", manifest.licence));
    result(format!("tokenizer  {} ({} rows)", manifest.tokenizer, manifest.vocab_size));
    result("split        documents    tokens     bytes");
    for (split, entry) in &manifest.splits {
        let (tokens, bytes) = (count(entry.num_tokens), count(entry.num_bytes));
        result(format!("{:<12} {:>9} {tokens:>9} {bytes:>9}", split.to_string(), entry.num_documents));
    }
    for copy in &manifest.near_copies {
        result(format!("near copy  {copy:?}"));
    }
    for skipped in &manifest.skipped {
        result(format!("skipped    {} ({})", skipped.count, skipped.reason));
    }
}
