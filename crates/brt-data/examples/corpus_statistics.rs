//! Prepares a corpus, prints its sizes and the first lines of a training batch.
//!
//! ```sh
//! cargo run --release -p brt-data --example corpus_statistics -- books /tmp/books
//! ```

use std::{env, error::Error, path::PathBuf, sync::Arc};

use brt_data::{
    ByteTokenizer, CorpusSource, Manifest, Split, StreamConfig, TargetRule, TokenSet, TrainStream, prepare,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let source: CorpusSource = args.next().as_deref().unwrap_or("books").parse()?;
    let folder = args.next().map_or_else(|| env::temp_dir().join(format!("brt-{source}")), PathBuf::from);
    print_statistics(&prepare(&source, &folder)?);
    print_batch(TokenSet::open(&folder, Split::Train)?)
}

#[expect(clippy::print_stdout, reason = "an example that prints")]
fn print_statistics(manifest: &Manifest) {
    for (split, record) in &manifest.splits {
        println!("{split}: {} documents, {} bytes", record.num_documents, record.num_bytes);
        for document in &record.documents {
            println!("  {:>10}  {:<20} {}", document.num_bytes, document.group, document.name);
        }
    }
    for skipped in &manifest.skipped {
        println!("left out: {:>6}  {}", skipped.count, skipped.reason);
    }
    for copy in &manifest.near_copies {
        println!(
            "near copy: {} in {} shares {:.2} with {}",
            copy.name, copy.split, copy.shared, copy.train_document
        );
    }
}

#[expect(clippy::print_stdout, reason = "an example that prints")]
fn print_batch(set: TokenSet) -> Result<(), Box<dyn Error>> {
    let set = Arc::new(set);
    let config = StreamConfig {
        batch: 4,
        segment_len: 64,
        target_rule: TargetRule::AcrossSegments,
        max_document_len: None,
    };
    let batch = TrainStream::new(Arc::clone(&set), config, 0)?.next_batch();
    for (row_idx, row) in batch.tokens.chunks(batch.segment_len).enumerate() {
        let name = batch.document_idx[row_idx].map_or("idle", |document_idx| set.document(document_idx).name);
        let tokens: Vec<u16> = row.iter().map(|&token| token as u16).collect();
        println!("{name}: {:?}", String::from_utf8_lossy(&ByteTokenizer.decode(&tokens)));
    }
    println!("{} of {} tokens are scored", batch.num_scored, batch.tokens.len());
    Ok(())
}
