//! Prints what a run left: `cargo run --release --example read RUN/result.json`.
#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::path::Path;

use brt_report::{FileError, RunResult, read_json};

fn main() -> Result<(), FileError> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "result.json".into());
    let result: RunResult = read_json(Path::new(&path), "the result of a run")?;
    println!("{} (seed {}, commit {})", result.model.description, result.seed, result.build.commit);
    println!(
        "{:.4} bits/byte, mean of {} documents",
        result.test.mean_bits_per_byte(),
        result.test.documents.len()
    );
    for bucket in &result.test.by_position {
        println!(
            "{:8} .. {:8}  {:.3} bits/token",
            bucket.start_token,
            bucket.end_token,
            bucket.bits_per_token()
        );
    }
    Ok(())
}
