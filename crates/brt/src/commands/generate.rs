//! `brt generate`: continues a text, token by token.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use brt_data::TextPlace;
use brt_lm::{Decoder, SampleConfig, Sampler};

use crate::arguments::GenerateArguments;

pub(super) fn run(arguments: &GenerateArguments) -> Result<()> {
    let config = SampleConfig {
        temperature: arguments.temperature,
        top_k: arguments.top_k,
        ..SampleConfig::default()
    };
    config.validate()?;
    let device = super::start_device(arguments.device)?;
    let (model, _) = super::load_model(&arguments.run, device)?;
    let prompt = read_prompt(&arguments.prompt)?;
    let tokenizer = brt_trainer::load_tokenizer(&arguments.run)?;
    let mut context = tokenizer.encode(&prompt, TextPlace::Start).context("--prompt")?.tokens;
    if context.is_empty() {
        bail!("--prompt: expected at least one token, got a text that has none");
    }
    let tokens: Vec<i64> = context.iter().copied().map(i64::from).collect();

    let mut sampler = Sampler::new(config, arguments.seed);
    let mut out = std::io::stdout().lock();
    out.write_all(&prompt)?;
    let decoder = Decoder::new(&model);
    let mut text = decoder.start();
    let mut logits = decoder.feed(&mut text, &tokens);
    for _ in 0..arguments.tokens {
        let token = sampler.draw(&Vec::<f32>::try_from(&logits)?, &text.recent());
        out.write_all(&tokenizer.decode_after(&context, &[token as u32]))?;
        context.push(token as u32);
        out.flush()?;
        logits = decoder.step(&mut [&mut text], &[token]).squeeze_dim(0);
    }
    writeln!(out)?;
    Ok(())
}

fn read_prompt(prompt: &str) -> Result<Vec<u8>> {
    let mut bytes = prompt.as_bytes().to_vec();
    if prompt == "-" {
        bytes.clear();
        std::io::stdin().read_to_end(&mut bytes).context("reading the prompt from standard input")?;
    }
    if bytes.is_empty() {
        bail!("--prompt: expected a text to continue, got none");
    }
    Ok(bytes)
}
