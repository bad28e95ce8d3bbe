//! Learns one sentence by heart and prints the loss: a whole training in your own program.
#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::sync::Arc;

use brt_data::{Document, Pack, TargetRule, TokenSet};
use brt_lm::{CellLayout, Gate, ModelConfig, RecurrenceConfig};
use brt_trainer::{
    AdafactorConfig, DataConfig, EvaluationConfig, Memory, NonFinite, OptimizerConfig, Precision, RunConfig,
    Schedule, ScheduleConfig, TrainConfig, Trainer,
};
use tch::Device;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = "The recurrent state carries what the window has lost. ".repeat(3);
    let document = Document { name: "sentence".into(), group: "sentence".into(), text: text.into_bytes() };
    let set = Arc::new(TokenSet::from_documents(&[document])?);
    let mut trainer = Trainer::new(config(), set, 1, Device::Cpu)?;
    for _ in 0..200 {
        let report = trainer.step()?;
        if report.step % 25 == 0 {
            println!(
                "step {:3}: {:.3} nats per token",
                report.step,
                report.loss_nats / report.num_scored as f64
            );
        }
    }
    Ok(())
}

fn config() -> RunConfig {
    let recurrence = RecurrenceConfig::new(vec![-1], Gate::Fixed, CellLayout::Skip, 8);
    RunConfig {
        model: ModelConfig {
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
        },
        data: DataConfig {
            batch: 1,
            segment_len: 64,
            target_rule: TargetRule::AcrossSegments,
            pack: Pack::RestartAnywhere,
            max_document_len: None,
        },
        optimizer: OptimizerConfig::Adafactor(AdafactorConfig::PAPER),
        schedule: ScheduleConfig {
            schedule: Schedule::Rsqrt { max_lr: None },
            num_warmup_steps: 20,
            multiplier: 0.3,
            num_scheduled_steps: None,
        },
        train: TrainConfig {
            num_steps: 200,
            precision: Precision::F32,
            memory: Memory::Keep,
            non_finite: NonFinite::Stop,
            max_gradient_norm: None,
            accumulate: None,
            log_every: 25,
            checkpoint_every: 200,
            validate_every: 0,
            statistics_every: 0,
            sinks: vec![],
            keep_last: 1,
            keep_every: None,
            keep_best: false,
        },
        evaluation: EvaluationConfig { batch: 1, max_document_len: None, num_batches: None, sample: None },
    }
}
