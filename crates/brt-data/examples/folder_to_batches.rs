//! Turns a folder of texts into batches of segments.
//!
//! ```sh
//! cargo run --release -p brt-data --example folder_to_batches -- MY_TEXTS /tmp/tokens
//! ```

use std::{env, error::Error, path::Path, sync::Arc};

use brt_data::{
    Pack, Prefetch, PrepareConfig, Rank, Split, StreamConfig, TargetRule, TokenSet, TrainStream, prepare,
};

#[expect(clippy::print_stdout, reason = "an example speaks to its reader")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, texts, tokens] = &arguments[..] else { return Err("expected two folders: texts, tokens".into()) };
    prepare(&PrepareConfig::new(texts.parse()?), Path::new(tokens))?;
    let set = Arc::new(TokenSet::open(Path::new(tokens), Split::Train)?);
    let config = StreamConfig {
        batch: 4,
        segment_len: 64,
        target_rule: TargetRule::AcrossSegments,
        pack: Pack::RestartAnywhere,
        rank: Rank::ALONE,
        max_document_len: None,
    };
    let mut batches = Prefetch::new(TrainStream::new(Arc::clone(&set), config, 0)?, 2);
    for _ in 0..3 {
        let batch = batches.next_batch()?;
        println!("{} of {} tokens are scored", batch.num_scored, batch.tokens.len());
    }
    Ok(())
}
