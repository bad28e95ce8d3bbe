//! Forward and backward pass of whole models at the sizes of the laptop comparison, and decoding; one thread.
#![expect(missing_docs, reason = "criterion's macros make undocumented functions")]

use brt_lm::{CellLayout, Decoder, Gate, LanguageModel, Mode, ModelConfig, RecurrenceConfig};
use criterion::{Criterion, criterion_group, criterion_main};
use tch::{Device, Kind, Tensor};

fn config(num_layers: i64, recurrence: Option<RecurrenceConfig>) -> ModelConfig {
    ModelConfig {
        vocab_size: 260,
        model_dim: 128,
        num_layers,
        num_heads: 4,
        head_dim: 32,
        ffn_dim: 512,
        window_len: 32,
        dropout: 0.,
        attention_dropout: 0.,
        recurrence,
        ..ModelConfig::paper()
    }
}

fn models(criterion: &mut Criterion) {
    tch::set_num_threads(1);
    let recurrence = RecurrenceConfig::new(vec![-2], Gate::Fixed, CellLayout::Skip, 32);
    let contestants =
        [("slide, 5 layers", config(5, None)), ("rec:fixed:skip, 4 layers", config(4, Some(recurrence)))];
    let tokens = Tensor::randint(256, [16, 256], (Kind::Int64, Device::Cpu));
    for (name, config) in contestants {
        let model = LanguageModel::new(config, 1, Device::Cpu).expect("a valid configuration");
        let state = model.initial_state(16).detach();
        criterion.bench_function(&format!("forward and backward of 4096 tokens, {name}"), |bencher| {
            bencher.iter(|| model.forward(&tokens, &state, Mode::Train).0.sum(Kind::Float).backward());
        });
        let decoder = Decoder::new(&model);
        let mut text = decoder.start();
        criterion.bench_function(&format!("decode one token, {name}"), |bencher| {
            bencher.iter(|| decoder.step(&mut [&mut text], &[65]));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = models
}
criterion_main!(benches);
