//! Arguments of the commands that read and write texts: generate, score, state.

use std::path::PathBuf;

use brt_data::Split;
use clap::{Args, Subcommand, ValueEnum};

use super::DeviceArguments;

/// Which model, and in which numbers.
#[derive(Debug, Clone, Args)]
pub(crate) struct TextModelArguments {
    /// Folder of the run.
    pub(crate) run: PathBuf,
    /// bf16 takes half the memory, and less time for each token; f32 is exact
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) precision: TextPrecision,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextPrecision {
    F32,
    Bf16,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    #[command(flatten)]
    pub(crate) model: TextModelArguments,
    /// Text to continue, printed before what follows; - for standard input
    #[arg(long, allow_hyphen_values = true, conflicts_with = "prompt_file")]
    pub(crate) prompt: Option<String>,
    /// File to continue, of any length; not printed.
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// State to go on from: what the model has read before the prompt; the prompt may then be left out
    #[arg(long, value_name = "FILE")]
    pub(crate) load_state: Option<PathBuf>,
    /// Where to save the state after prompt and generated text, a stop string that is not printed included.
    #[arg(long, value_name = "FILE")]
    pub(crate) save_state: Option<PathBuf>,
    /// Most tokens to draw; 0 reads the prompt only
    #[arg(long, visible_alias = "tokens", default_value_t = 256)]
    pub(crate) max_tokens: usize,
    /// Take the likeliest token each time; the same as --temperature 0
    #[arg(long, conflicts_with = "temperature")]
    pub(crate) greedy: bool,
    /// Divides the logits; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.8)]
    pub(crate) temperature: f64,
    /// Draw from this many likeliest tokens only.
    #[arg(long)]
    pub(crate) top_k: Option<i64>,
    /// Draw from the likeliest tokens only that have this probability together.
    #[arg(long)]
    pub(crate) top_p: Option<f64>,
    /// Draw from tokens only that have this part of the probability of the likeliest.
    #[arg(long)]
    pub(crate) min_p: Option<f64>,
    /// Make the tokens of the last window less likely; above 1, for example 1.2
    #[arg(long, default_value_t = 1.)]
    pub(crate) repetition_penalty: f64,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) stop: Vec<String>,
    /// Seed of the draws; sample i of several has the seed + i
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Number of continuations, drawn side by side.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) samples: u16,
    /// Print a line of JSON for each sample: text, tokens, log-probabilities, why it ended.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScoreArguments {
    #[command(flatten)]
    pub(crate) model: TextModelArguments,
    /// Texts to score, each from its own beginning; - for standard input
    #[arg(required_unless_present = "data")]
    pub(crate) files: Vec<PathBuf>,
    /// Score the documents of a prepared corpus instead.
    #[arg(long, value_name = "FOLDER", conflicts_with = "files")]
    pub(crate) data: Option<PathBuf>,
    /// Which of its documents: train, validation or test
    #[arg(long, default_value = "test", requires = "data")]
    pub(crate) split: Split,
    /// Score the first so many tokens of each of its documents, 0 for all [default: all]
    #[arg(long, requires = "data")]
    pub(crate) max_document_len: Option<usize>,
    /// State before each text, in place of the beginning of a text.
    #[arg(long, value_name = "FILE")]
    pub(crate) load_state: Option<PathBuf>,
    /// Score with the recurrent state carried only, not reset in every block as well.
    #[arg(long)]
    pub(crate) carried_only: bool,
    /// Write the nats of each token, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    pub(crate) jsonl: Option<PathBuf>,
    /// Write a page that colours the texts by surprise.
    #[arg(long, value_name = "FILE")]
    pub(crate) heatmap: Option<PathBuf>,
}

/// Looks at files of states.
#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Print what a state holds: position, norms, how alike its vectors are, and with --run the gates.
    Show {
        /// File of a state.
        state: PathBuf,
        /// Folder of the run whose gates are printed, too.
        #[arg(long)]
        run: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print how two states of one model differ.
    Diff {
        /// File of a state.
        a: PathBuf,
        /// File of another one.
        b: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
