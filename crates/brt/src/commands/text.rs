//! What the commands share that read and write texts.

use std::{
    io::Read,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use brt_data::{Encoding, TextPlace, Tokenizer};
use brt_lm::{Decoder, LanguageModel, TextState};

use crate::{
    arguments::{TextModelArguments, TextPrecision},
    output,
};

/// Tokens that are read between two looks at whether to stop.
const TOKENS_BETWEEN_LOOKS: usize = 16_384;

/// Time between two lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Returns the model and the tokenizer of a run.
pub(super) fn load(arguments: &TextModelArguments) -> Result<(LanguageModel, Tokenizer)> {
    let device = super::start_device(arguments.device)?;
    let (model, _) = super::load_model(&arguments.run, device)?;
    let tokenizer = brt_trainer::load_tokenizer(&arguments.run)?;
    let model = match arguments.precision {
        TextPrecision::F32 => model,
        TextPrecision::Bf16 => model.into_bfloat16(),
    };
    Ok((model, tokenizer))
}

/// Returns the state of a file, or that before the first token of a text.
pub(super) fn start(decoder: &Decoder, model: &LanguageModel, file: Option<&Path>) -> Result<TextState> {
    match file {
        Some(path) => Ok(TextState::load(path, model)?),
        None => Ok(decoder.start()),
    }
}

/// Returns a file's bytes; `-` stands for standard input.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = vec![];
        std::io::stdin().read_to_end(&mut bytes).context("reading standard input")?;
        return Ok(bytes);
    }
    std::fs::read(path).with_context(|| format!("{}: cannot read", path.display()))
}

/// Returns the tokens of a text that goes on where `state` stands.
pub(super) fn encode(tokenizer: &Tokenizer, bytes: &[u8], state: &TextState, name: &str) -> Result<Encoding> {
    let place = if state.num_tokens() == 0 { TextPlace::Start } else { TextPlace::Continuation };
    tokenizer.encode(bytes, place).with_context(|| name.to_owned())
}

/// Reads on in a text and returns how many tokens were read: less than all once `stop` is set.
pub(super) fn feed(decoder: &Decoder, state: &mut TextState, tokens: &[u32], stop: &AtomicBool) -> usize {
    let (mut num_read, mut last_line) = (0, Instant::now());
    for piece in tokens.chunks(TOKENS_BETWEEN_LOOKS).take_while(|_| !stop.load(Ordering::Relaxed)) {
        let _ = decoder.feed(state, &wide(piece));
        num_read += piece.len();
        if last_line.elapsed() >= LINE_EVERY && num_read < tokens.len() {
            let [read, all] = [num_read, tokens.len()].map(|num| output::exact(num as u64));
            output::line(format!("{read} of {all} tokens of the prompt"));
            last_line = Instant::now();
        }
    }
    num_read
}

/// Returns tokens as the model takes them.
pub(super) fn wide(tokens: &[u32]) -> Vec<i64> {
    tokens.iter().copied().map(i64::from).collect()
}

/// Checks that a file can be written before long work: its folder is there.
pub(super) fn check_writable(option: &str, path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("{option} {}: expected an existing folder, got none", path.display());
    }
    if path.is_dir() {
        bail!("{option} {}: expected a file, got a folder", path.display());
    }
    Ok(())
}
