//! The arguments of `brt train` and `brt launch`.

use std::path::PathBuf;

use clap::Args;

use super::DeviceArguments;

#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    /// Configuration file.
    pub(crate) config: PathBuf,
    /// Folder of the prepared corpus.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Folder of the run.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Seed of parameters, data order and dropout.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Number of steps; the same as --train.num_steps
    #[arg(long)]
    pub(crate) steps: Option<u64>,
    /// Go on from what the folder holds.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print sizes, memory, data and disk of the run, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Of several processes (torchrun, brt launch): seconds that they wait for each other.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) group_timeout: u64,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

#[derive(Debug, Args)]
pub(crate) struct LaunchArguments {
    /// Number of processes; with GPUs, one for each.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) nproc: u64,
    /// Start all anew, with --resume, up to so many times when one fails.
    #[arg(long, default_value_t = 0)]
    pub(crate) max_restarts: u64,
    /// Port of the master [default: a free one]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// What each process does: train and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(crate) command: Vec<String>,
}
