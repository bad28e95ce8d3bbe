//! `brt generate`: continues a text, token by token.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use brt_data::ByteTokenizer;
use brt_lm::{Decoder, SampleConfig, sample};
use tch::Tensor;

use crate::arguments::GenerateArguments;

pub(super) fn run(arguments: &GenerateArguments) -> Result<()> {
    let config = SampleConfig { temperature: arguments.temperature, top_k: arguments.top_k };
    config.validate()?;
    let device = super::start_device(arguments.device)?;
    let (model, _) = super::load_model(&arguments.run, device)?;
    let prompt = read_prompt(&arguments.prompt)?;
    let tokens: Vec<i64> = ByteTokenizer.encode(&prompt).into_iter().map(i64::from).collect();

    tch::manual_seed(arguments.seed as i64);
    let mut out = std::io::stdout().lock();
    out.write_all(&prompt)?;
    let mut decoder = Decoder::new(&model, model.initial_state(1));
    let mut logits = decoder.feed(&tokens);
    for _ in 0..arguments.tokens {
        let token = sample(&logits, &config);
        out.write_all(&ByteTokenizer.decode(&[token as u16]))?;
        out.flush()?;
        logits = decoder.step(&Tensor::from_slice(&[token])).squeeze_dim(0);
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
