//! `brt generate`: continues a text, token by token.

use std::{
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, bail};
use brt_data::Tokenizer;
use brt_lm::{Decoder, SampleConfig, TextState};
use brt_serve::{FinishReason, Generation, GenerationConfig};
use serde::Serialize;

use super::text;
use crate::{arguments::GenerateArguments, interrupt, output};

/// One continuation.
struct Sample {
    state: TextState,
    generation: Generation,
    record: Record,
}

/// What `--json` prints of a continuation.
#[derive(Serialize)]
struct Record {
    sample: u16,
    seed: u64,
    text: String,
    tokens: Vec<i64>,
    /// In nats, by the model alone.
    log_probabilities: Vec<f32>,
    /// Absent where it was interrupted.
    finish_reason: Option<FinishReason>,
    num_prompt_tokens: usize,
    /// Tokens since the text began, in all.
    num_tokens: u64,
}

pub(super) fn run(arguments: &GenerateArguments) -> Result<ExitCode> {
    check(arguments)?;
    let sample = sample_config(arguments);
    sample.validate()?;
    let (model, tokenizer) = text::load(&arguments.model)?;
    let decoder = Decoder::new(&model);
    let mut state = text::start(&decoder, &model, arguments.load_state.as_deref())?;
    let prompt = read_prompt(arguments)?;
    let tokens = text::encode(&tokenizer, &prompt, &state, "prompt")?.tokens;
    if tokens.is_empty() && state.num_tokens() == 0 {
        bail!("--prompt: expected at least one token, got a text that has none");
    }
    let stop = interrupt::listen("stopping; a second signal ends at once")?;
    text::feed(&decoder, &mut state, &tokens, &stop.flag);
    if !arguments.json && arguments.samples == 1 {
        output::text(shown_prompt(arguments));
    }
    let mut samples: Vec<Sample> = (0..arguments.samples)
        .map(|idx| Sample::new(idx, &state, (arguments, &tokenizer, sample), tokens.len()))
        .collect();
    drop(state);
    draw(&decoder, &mut samples, arguments, &stop.flag);
    let state = finish(samples, arguments);
    if let Some(path) = &arguments.save_state {
        state.save(path, &model)?;
        output::line(format!(
            "{}: the state after {} tokens",
            path.display(),
            output::exact(state.num_tokens())
        ));
    }
    Ok(match stop.flag.load(Ordering::Relaxed) {
        true => ExitCode::from(stop.exit_code()),
        false => ExitCode::SUCCESS,
    })
}

/// Checks what can be checked before anything is read.
fn check(arguments: &GenerateArguments) -> Result<()> {
    if let Some(path) = &arguments.save_state {
        text::check_writable("--save-state", path)?;
        if arguments.samples > 1 {
            bail!("--save-state: expected one sample, got {}", arguments.samples);
        }
    }
    let has_prompt = arguments.prompt.is_some() || arguments.prompt_file.is_some();
    if !has_prompt && arguments.load_state.is_none() {
        bail!("--prompt: expected a text to continue (--prompt, --prompt-file or --load-state), got none");
    }
    if arguments.prompt.as_deref() == Some("") {
        bail!("--prompt: expected a text to continue, got none");
    }
    if arguments.stop.iter().any(String::is_empty) {
        bail!("--stop: expected a text, got none");
    }
    Ok(())
}

fn sample_config(arguments: &GenerateArguments) -> SampleConfig {
    let GenerateArguments { temperature, top_k, top_p, min_p, repetition_penalty, .. } = *arguments;
    let temperature = if arguments.greedy { 0. } else { temperature };
    SampleConfig { repetition_penalty, temperature, top_k, top_p, min_p }
}

/// Returns what stands before the generated text where it is shown.
fn shown_prompt(arguments: &GenerateArguments) -> &str {
    arguments.prompt.as_deref().filter(|prompt| *prompt != "-").unwrap_or_default()
}

/// Returns the prompt; nothing where a state goes on without one.
fn read_prompt(arguments: &GenerateArguments) -> Result<Vec<u8>> {
    let (name, bytes) = match (&arguments.prompt, &arguments.prompt_file) {
        (Some(prompt), _) if prompt == "-" => ("--prompt -".into(), text::bytes(Path::new("-"))?),
        (Some(prompt), _) => ("--prompt".to_owned(), prompt.clone().into_bytes()),
        (None, Some(path)) => (format!("--prompt-file {}", path.display()), text::bytes(path)?),
        (None, None) => return Ok(vec![]),
    };
    if bytes.is_empty() {
        bail!("{name}: expected a text to continue, got none");
    }
    Ok(bytes)
}

impl Sample {
    fn new(
        idx: u16,
        state: &TextState,
        (arguments, tokenizer, sample): (&GenerateArguments, &Tokenizer, SampleConfig),
        num_prompt_tokens: usize,
    ) -> Self {
        let before: Vec<u32> = state.recent().iter().map(|&token| token as u32).collect();
        let seed = arguments.seed.wrapping_add(idx.into());
        let (max_tokens, stop) = (arguments.max_tokens, arguments.stop.clone());
        let config = GenerationConfig { sample, max_tokens, stop, seed };
        let record = Record {
            sample: idx,
            seed,
            text: String::new(),
            tokens: vec![],
            log_probabilities: vec![],
            finish_reason: None,
            num_prompt_tokens,
            num_tokens: 0,
        };
        Self { state: state.copy(), generation: Generation::new(tokenizer, &before, config), record }
    }

    /// Draws a token and returns the text that is certain.
    fn draw(&mut self) -> (i64, String) {
        let logits = self.state.next_logits().expect("there is a prompt");
        let logits = Vec::<f32>::try_from(logits).expect("a vector");
        let drawn = self.generation.draw(&logits, &self.state.recent());
        self.record.tokens.push(drawn.token);
        self.record.log_probabilities.push(drawn.log_probability);
        self.record.text += &drawn.text;
        (drawn.token, drawn.text)
    }
}

/// Draws until all samples have ended, all of them side by side; the text of a single one is printed as it comes.
fn draw(decoder: &Decoder, samples: &mut [Sample], arguments: &GenerateArguments, stop: &AtomicBool) {
    let prints = samples.len() == 1 && !arguments.json;
    while !stop.load(Ordering::Relaxed) {
        let mut running: Vec<&mut Sample> =
            samples.iter_mut().filter(|sample| sample.generation.finish_reason().is_none()).collect();
        if running.is_empty() {
            return;
        }
        let mut tokens = vec![];
        for sample in &mut running {
            let (token, piece) = sample.draw();
            tokens.push(token);
            if prints {
                output::text(&piece);
            }
        }
        let mut states: Vec<&mut TextState> = running.iter_mut().map(|sample| &mut sample.state).collect();
        let _ = decoder.step(&mut states, &tokens);
    }
}

/// Prints what is left to print, and returns the state of the first sample.
fn finish(samples: Vec<Sample>, arguments: &GenerateArguments) -> TextState {
    let is_single = samples.len() == 1;
    let mut first = None;
    for Sample { state, mut generation, mut record } in samples {
        record.finish_reason = generation.finish_reason();
        let rest = generation.finish();
        record.text += &rest;
        record.num_tokens = state.num_tokens();
        if arguments.json {
            output::result(serde_json::to_string(&record).expect("a record of plain values"));
        } else if is_single {
            // Nothing where a text was only read.
            let is_shown = arguments.max_tokens > 0 || !shown_prompt(arguments).is_empty();
            output::text(&format!("{rest}{}", if is_shown { "\n" } else { "" }));
        } else {
            let (Record { sample, seed, text, .. }, prompt) = (&record, shown_prompt(arguments));
            output::result(format!("--- sample {sample}, seed {seed}\n{prompt}{text}"));
        }
        first.get_or_insert(state);
    }
    first.expect("at least one sample")
}
