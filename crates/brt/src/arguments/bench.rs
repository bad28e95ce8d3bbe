//! Arguments of what measures.

use std::path::PathBuf;

use clap::Args;

use super::DeviceArguments;

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// Configuration files; parts have the sizes of the first one.
    #[arg(required = true)]
    pub(crate) configs: Vec<PathBuf>,
    /// Number of times that everything is measured, in turn.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: u64,
    /// Measure whole steps alone, beside the ceilings.
    #[arg(long)]
    pub(crate) steps_only: bool,
    /// Measure reading and writing texts alone, beside the ceilings.
    #[arg(long, conflicts_with = "steps_only")]
    pub(crate) decoding_only: bool,
    /// Read a text of so many tokens, one by one, and measure time and memory on the way.
    #[arg(long, value_name = "TOKENS", conflicts_with_all = ["steps_only", "decoding_only"],
        value_parser = clap::value_parser!(u64).range(1000..))]
    pub(crate) stream: Option<u64>,
    /// Kind of matrix products to measure alone: f32 or bf16
    #[arg(long, value_parser = ["f32", "bf16"])]
    pub(crate) kind: Option<String>,
    /// File to write, as JSON.
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ContestantArguments {
    /// Configuration file.
    pub(crate) config: PathBuf,
    /// File of tokens, a byte each.
    pub(crate) tokens: PathBuf,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 1024)]
    pub(crate) prompt_len: usize,
    /// Tokens to generate.
    #[arg(long, default_value_t = 256)]
    pub(crate) generate: usize,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}
