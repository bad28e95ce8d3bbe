//! `brt generate`: continues a text, token by token.

use std::{
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, anyhow, bail};
use brt_data::Tokenizer;
use brt_lm::{Decoder, SampleConfig, TextState, log_probability};
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
    /// `null` where it was interrupted.
    finish_reason: Option<FinishReason>,
    num_prompt_tokens: usize,
    /// Tokens since the text began, in all.
    num_tokens: u64,
}

pub(super) fn run(arguments: &GenerateArguments) -> Result<ExitCode> {
    check(arguments)?;
    let sample = sample_config(arguments)?;
    let (model, tokenizer) = text::load(&arguments.model)?;
    let decoder = Decoder::new(&model);
    let mut state = text::start(&decoder, &model, arguments.load_state.as_deref())?;
    let (name, prompt) = read_prompt(arguments)?;
    let tokens = text::encode(&tokenizer, &prompt, &state, &name)?.tokens;
    if tokens.is_empty() && state.num_tokens() == 0 {
        bail!("{name}: expected at least one token, got a text that has none");
    }
    let stop = interrupt::listen("stopping; a second signal ends at once")?;
    let num_read = text::feed(&decoder, &mut state, &tokens, &stop.flag);
    if num_read < tokens.len() {
        let [num_read, all] = [num_read, tokens.len()].map(|num| output::exact(num as u64));
        output::line(format!("stopped after {num_read} of {all} tokens of the prompt"));
    }
    let mut samples: Vec<Sample> = (0..arguments.samples)
        .map(|idx| Sample::new(idx, &state, (arguments, &tokenizer, sample), num_read))
        .collect();
    drop(state);
    if num_read == tokens.len() {
        draw(&decoder, &mut samples, arguments, &stop.flag)?;
    }
    if let (Some(path), Some(sample)) = (&arguments.save_state, samples.first()) {
        sample.state.save(path, &model)?;
        let num_tokens = output::exact(sample.state.num_tokens());
        output::line(format!("{}: the state after {num_tokens} tokens", path.display()));
    }
    finish(samples, arguments);
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

fn sample_config(arguments: &GenerateArguments) -> Result<SampleConfig> {
    let GenerateArguments { temperature, top_k, top_p, min_p, repetition_penalty, .. } = *arguments;
    let temperature = if arguments.greedy { 0. } else { temperature };
    let config = SampleConfig { repetition_penalty, temperature, top_k, top_p, min_p };
    config.validate().map_err(|error| {
        let (option, brt_lm::ConfigError { expected, got, .. }) = (error.key.replace('_', "-"), error);
        anyhow!("--{option}: expected {expected}, got {got}")
    })?;
    Ok(config)
}

/// Returns what stands before the generated text where it is shown.
fn shown_prompt(arguments: &GenerateArguments) -> &str {
    arguments.prompt.as_deref().filter(|prompt| *prompt != "-").unwrap_or_default()
}

/// Returns the prompt and the option that it is of; nothing where a state goes on without one.
fn read_prompt(arguments: &GenerateArguments) -> Result<(String, Vec<u8>)> {
    let (name, bytes) = match (&arguments.prompt, &arguments.prompt_file) {
        (Some(prompt), _) if prompt == "-" => ("--prompt -".into(), text::bytes(Path::new("-"))?),
        (Some(prompt), _) => ("--prompt".to_owned(), prompt.clone().into_bytes()),
        (None, Some(path)) => (format!("--prompt-file {}", path.display()), text::bytes(path)?),
        (None, None) => return Ok(("--load-state".to_owned(), vec![])),
    };
    if bytes.is_empty() {
        bail!("{name}: expected a text to continue, got none");
    }
    Ok((name, bytes))
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

    /// Draws a token and returns it with the text that is certain. `keeps`: whether the record is wanted.
    fn draw(&mut self, keeps: Keep) -> Result<(i64, String)> {
        let logits =
            self.state.next_logits().context("the state: expected one that has read a token, got none")?;
        let logits = Vec::<f32>::try_from(logits)?;
        if !logits.iter().all(|logit| logit.is_finite()) {
            bail!("the model's logits: expected finite numbers, got others; has its training diverged?");
        }
        let drawn = self.generation.draw(&logits, &self.state.recent());
        if keeps == Keep::Everything {
            self.record.tokens.push(drawn.token);
            self.record.log_probabilities.push(log_probability(&logits, drawn.token));
            self.record.text += &drawn.text;
        }
        Ok((drawn.token, drawn.text))
    }
}

/// What is kept of what is drawn: an endless text must not fill the memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// All of it: it is printed in the end.
    Everything,
    /// Nothing: it is printed as it comes.
    Nothing,
}

/// Draws until all samples have ended, all of them side by side; the text of a single one is printed as it comes.
fn draw(
    decoder: &Decoder,
    samples: &mut [Sample],
    arguments: &GenerateArguments,
    stop: &AtomicBool,
) -> Result<()> {
    let keep = if arguments.json || samples.len() > 1 { Keep::Everything } else { Keep::Nothing };
    let print = |text: &str| {
        if keep == Keep::Nothing && !output::text(text) {
            // The reader has gone; a state that is to be saved still is.
            stop.store(true, Ordering::Relaxed);
        }
    };
    print(shown_prompt(arguments));
    while !stop.load(Ordering::Relaxed) {
        let mut running: Vec<&mut Sample> =
            samples.iter_mut().filter(|sample| sample.generation.finish_reason().is_none()).collect();
        if running.is_empty() {
            break;
        }
        let mut tokens = vec![];
        for sample in &mut running {
            let (token, text) = sample.draw(keep)?;
            tokens.push(token);
            print(&text);
        }
        let mut states: Vec<&mut TextState> = running.iter_mut().map(|sample| &mut sample.state).collect();
        let _ = decoder.step(&mut states, &tokens);
    }
    Ok(())
}

/// Prints what is left to print.
fn finish(samples: Vec<Sample>, arguments: &GenerateArguments) {
    let is_single = samples.len() == 1;
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
            let _ = output::text(&format!("{rest}{}", if is_shown { "\n" } else { "" }));
        } else {
            let (Record { sample, seed, text, .. }, prompt) = (&record, shown_prompt(arguments));
            output::result(format!("--- sample {sample}, seed {seed}\n{prompt}{text}"));
        }
    }
}
