//! Loads a checkpoint of a run on bytes, continues a text and saves its state:
//! `cargo run --release --example checkpoint runs/first/checkpoints/step-5000 "Call me "`.
use std::{error::Error, io::Write, path::Path};

use brt_lm::{Decoder, LanguageModel, ModelConfig, SampleConfig, Sampler};

/// The part of a run's configuration that is the model's.
#[derive(serde::Deserialize)]
struct Run {
    model: ModelConfig,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, checkpoint, prompt] = arguments.as_slice() else {
        return Err("expected a checkpoint and a text".into());
    };
    let checkpoint = Path::new(checkpoint);
    let config: Run = toml::from_str(&std::fs::read_to_string(checkpoint.join("../../config.toml"))?)?;
    let model = LanguageModel::new(config.model, 1, tch::Device::Cpu)?;
    brt_ops::checkpoint::load_into(&checkpoint.join("model.safetensors"), &model.params().named())?;

    let (decoder, mut sampler) = (Decoder::new(&model), Sampler::new(SampleConfig::default(), 1));
    let (mut text, mut out) = (decoder.start(), std::io::stdout().lock());
    let tokens: Vec<i64> = prompt.bytes().map(|byte| i64::from(byte) + 3).collect(); // The T5 byte layout.
    let mut logits = decoder.feed(&mut text, &tokens);
    for _ in 0..200 {
        let token = sampler.draw(&Vec::<f32>::try_from(&logits)?, &text.recent());
        out.write_all(&u8::try_from(token - 3).map_or(vec![], |byte| vec![byte]))?;
        out.flush()?;
        logits = decoder.step(&mut [&mut text], &[token]).squeeze_dim(0);
    }
    text.save(Path::new("text.brt"), &model)?;
    writeln!(out, "\n{} tokens; text.brt holds the state", text.num_tokens())?;
    Ok(())
}
