//! A long text in small segments: the state is a value that you carry, save, or throw away.
#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use brt_lm::{CellLayout, Gate, LanguageModel, Mode, ModelConfig, RecurrenceConfig};
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), brt_lm::ConfigError> {
    let config = ModelConfig {
        vocab_size: 260,
        model_dim: 64,
        num_layers: 3,
        num_heads: 4,
        head_dim: 16,
        ffn_dim: 256,
        window_len: 16,
        dropout: 0.,
        attention_dropout: 0.,
        recurrence: Some(RecurrenceConfig::new(vec![-2], Gate::Fixed, CellLayout::Skip, 16)),
        ..ModelConfig::paper()
    };
    let model = LanguageModel::new(config, 1, Device::Cpu)?;
    println!("{}: {} parameters", model.config().description(), model.params().num_parameters());

    let mut state = model.initial_state(1);
    for segment in 0..4 {
        let tokens = Tensor::randint(256, [1, 64], (Kind::Int64, Device::Cpu));
        let (logits, next) = tch::no_grad(|| model.forward(&tokens, &state, Mode::Eval));
        println!("segment {segment}: logits {:?}, state of {} tensors", logits.size(), next.named().len());
        state = next;
    }
    Ok(())
}
