//! The worker without HTTP: completions of an untrained model from your own program, with a session that remembers.
#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use brt_data::Tokenizer;
use brt_lm::{CellLayout, Gate, LanguageModel, ModelConfig, RecurrenceConfig, SampleConfig};
use brt_serve::{CompletionRequest, Limits, Worker, WorkerConfig};
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
    let model = LanguageModel::new(config, 1, Device::Cpu)?;
    let config = WorkerConfig { name: "example".into(), limits: Limits::default(), sessions: None };
    let worker = Worker::start(model, Tokenizer::t5_bytes(), config)?;
    for prompt in ["Once upon a time ", "and then "] {
        let request = CompletionRequest {
            sample: SampleConfig { temperature: 0.7, top_k: Some(40), ..SampleConfig::default() },
            seed: Some(1),
            session: Some("story".into()),
            ..CompletionRequest::new(prompt)
        };
        let answer = worker.complete(request).await?;
        let read = answer.session_tokens.unwrap_or_default();
        println!("{prompt}{:?} ({read} tokens read so far)", answer.choices[0].text);
    }
    worker.stop()?;
    Ok(())
}
