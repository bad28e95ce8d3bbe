//! The worker without HTTP: completions of an untrained model from your own program, with a session that remembers.
#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use brt_data::Tokenizer;
use brt_lm::{CellLayout, Gate, LanguageModel, ModelConfig, RecurrenceConfig};
use brt_serve::{CompletionRequest, Worker};
use tch::Device;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let recurrence = RecurrenceConfig::new(vec![-1], Gate::Fixed, CellLayout::Skip, 8);
    let config = ModelConfig {
        vocab_size: 260,
        model_dim: 32,
        num_layers: 2,
        num_heads: 2,
        head_dim: 16,
        ffn_dim: 64,
        window_len: 16,
        dropout: 0.,
        attention_dropout: 0.,
        recurrence: Some(recurrence),
        ..ModelConfig::paper()
    };
    let worker = Worker::start(LanguageModel::new(config, 1, Device::Cpu)?, Tokenizer::t5_bytes());
    for prompt in ["Once upon a time ", "and then "] {
        let request = CompletionRequest {
            prompt: prompt.into(),
            max_tokens: 16,
            temperature: 0.7,
            top_k: Some(40),
            seed: 1,
            session: Some("story".into()),
        };
        let response = worker.complete(request).await?;
        println!("{prompt}{:?} ({} tokens read so far)", response.text, response.num_tokens);
    }
    Ok(())
}
