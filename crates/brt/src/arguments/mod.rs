//! The command line.

mod bench;
mod data;
mod serve;
mod text;
mod train;

use std::path::PathBuf;

use brt_data::Split;
use brt_trainer::Override;
use clap::{Args, Parser, Subcommand};

pub(crate) use self::{
    bench::{BenchArguments, ContestantArguments},
    data::{DataCommand, JobArgument, PrepareArguments, SourceArguments, TrainTokenizerArguments},
    serve::ServeArguments,
    text::{GenerateArguments, ScoreArguments, StateCommand, TextModelArguments, TextPrecision},
    train::{LaunchArguments, TrainArguments},
};

/// Trains, evaluates and runs Block-Recurrent Transformers and their baselines.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prepare or look at a corpus.
    #[command(subcommand)]
    Data(Box<DataCommand>),
    /// Train a model. Any key of the configuration can be set: --train.num_steps 100
    Train(TrainArguments),
    /// Start several processes of brt train on this machine, which train one model together.
    Launch(LaunchArguments),
    /// Score held-out documents with the model of a run.
    Eval(EvalArguments),
    /// Draw the learning curves of one or several runs.
    Plot(PlotArguments),
    /// Continue a text with the model of a run.
    Generate(Box<GenerateArguments>),
    /// Score texts with the model of a run, with and without its state.
    Score(ScoreArguments),
    /// Look at files of states.
    #[command(subcommand)]
    State(StateCommand),
    /// Print size, shape and parameters of the model of a run or a configuration.
    Info(InfoArguments),
    /// Make a run of weights of the official code (safetensors).
    Import(ImportArguments),
    /// Write the weights of a run for the official code (safetensors).
    Export(ExportArguments),
    /// Time training steps of several configurations in turn.
    Time(TimeArguments),
    /// Measure what this machine can do, and how much of it the parts of training steps and whole steps reach.
    Bench(BenchArguments),
    /// Train and generate on command: a line of JSON for each line on standard input (`cargo xtask peers`).
    #[command(hide = true)]
    Contestant(ContestantArguments),
    /// Print what this program runs on: libtorch, device, threads, processor.
    Doctor,
    /// Serve completions from the model of a run over HTTP, in the protocol of OpenAI.
    Serve(Box<ServeArguments>),
}

/// Where tensors are computed, and by how many threads.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DeviceArguments {
    /// cpu, cuda or cuda:N; default: the first GPU where there is one
    #[arg(long)]
    pub(crate) device: Option<DeviceName>,
    /// Threads of tensor operations; default: one per core
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=1024))]
    pub(crate) threads: Option<i32>,
}

/// A device; `None` for the GPU of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceName(pub(crate) Option<tch::Device>);

impl std::str::FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("cpu", _) => Ok(Self(Some(tch::Device::Cpu))),
            ("cuda", _) => Ok(Self(None)),
            (_, Some(Ok(idx))) => Ok(Self(Some(tch::Device::Cuda(idx)))),
            _ => Err(format!("expected cpu, cuda or cuda:N, got {text}")),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct EvalArguments {
    /// Folder of the run.
    pub(crate) run: PathBuf,
    /// Folder of the prepared corpus.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// train, validation or test
    #[arg(long, default_value = "test")]
    pub(crate) split: Split,
    /// Rows; each reads a document [default: that of the run]
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// Score the first so many batches only (the official code: 400), 0 for all [default: that of the run, or all]
    #[arg(long)]
    pub(crate) num_batches: Option<usize>,
    /// Score the first so many tokens of each document, 0 for all [default: that of the run]
    #[arg(long)]
    pub(crate) max_document_len: Option<usize>,
    /// Score with the recurrent state carried only, not reset as well.
    #[arg(long)]
    pub(crate) carried_only: bool,
    /// Write everything, as JSON, too.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PlotArguments {
    /// Folders of runs, also of such that go on.
    #[arg(required = true)]
    pub(crate) runs: Vec<PathBuf>,
    /// File to write, .svg or .png
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArguments {
    /// Folder of a run, or a configuration file.
    pub(crate) path: PathBuf,
    /// List every tensor, too.
    #[arg(long)]
    pub(crate) tensors: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// File of weights under their official names, transformer0/tbase/_kvq/keys_layer/kernel; `.` for `/`, and
    /// params/ or decoder/ in front, are fine.
    pub(crate) weights: PathBuf,
    /// Configuration of the model.
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// Tokenizer that the weights were trained with: t5-bytes, bytes, or a tokenizer.json or .model file.
    #[arg(long, default_value = "t5-bytes")]
    pub(crate) tokenizer: String,
    /// Folder of the run to make.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// Folder of the run.
    pub(crate) run: PathBuf,
    /// File to write.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// What stands in front of each name; the 2025 release has nothing there
    #[arg(long, default_value = "decoder/")]
    pub(crate) prefix: String,
}

#[derive(Debug, Args)]
pub(crate) struct TimeArguments {
    /// Configuration files.
    #[arg(required = true)]
    pub(crate) configs: Vec<PathBuf>,
    /// Folder of the prepared corpus.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Measured steps of each configuration.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: u64,
    /// Measure steps with one of so many parts of each configuration's batch rows.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) parts: u64,
    /// File to write, as JSON.
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

/// Takes `--section.key value` and `--section.key=value` out of the arguments: keys of the configuration.
pub(crate) fn split_overrides(arguments: Vec<String>) -> Result<(Vec<String>, Vec<Override>), String> {
    let (mut rest, mut overrides) = (vec![], vec![]);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let name = argument.strip_prefix("--").map(|n| n.split('=').next().unwrap_or(n).to_string());
        match name {
            Some(key) if is_key(&key) => {
                let value = argument.split_once('=').map(|(_, value)| value.to_string());
                let value = value.or_else(|| arguments.next());
                let value = value.ok_or_else(|| format!("--{key}: expected a value, got nothing"))?;
                overrides.push(Override { key, value });
            }
            _ => rest.push(argument),
        }
    }
    Ok((rest, overrides))
}

/// Returns whether an option is a key of the configuration: words with dots between them.
fn is_key(name: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    name.contains('.') && name.split('.').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_taken_out() {
        let arguments =
            ["brt", "train", "a.toml", "--model.window_len", "64", "--resume", "--train.num_steps=5"];
        let (rest, overrides) = split_overrides(arguments.map(String::from).to_vec()).unwrap();
        assert_eq!(rest, ["brt", "train", "a.toml", "--resume"]);
        let pairs: Vec<_> = overrides.iter().map(|o| (o.key.as_str(), o.value.as_str())).collect();
        assert_eq!(pairs, [("model.window_len", "64"), ("train.num_steps", "5")]);
        assert!(split_overrides(vec!["--a.b".into()]).is_err());
        // A text that begins with hyphens is none.
        let text = ["brt", "generate", "--stop", "--- 1.", "--prompt", "-- a.b c"].map(String::from).to_vec();
        assert_eq!(
            split_overrides(text.clone()).map(|(rest, overrides)| (rest, overrides.len())),
            Ok((text, 0))
        );
    }

    #[test]
    fn devices() {
        let device = |text: &str| text.parse::<DeviceName>().map(|name| name.0);
        assert_eq!(device("cpu"), Ok(Some(tch::Device::Cpu)));
        assert_eq!(device("cuda"), Ok(None));
        assert_eq!(device("cuda:3"), Ok(Some(tch::Device::Cuda(3))));
        for wrong in ["cuda3", "cuda:", "cudafoo", "gpu"] {
            assert_eq!(device(wrong), Err(format!("expected cpu, cuda or cuda:N, got {wrong}")));
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
