//! Whole training steps.

use brt_report::BenchGroup;
use brt_trainer::{Precision, RunConfig, TrainError};
use tch::{Device, Kind};

use crate::{
    contestant::{Contestant, noise},
    item::Item,
};

/// Returns the steps of a configuration with products of each kind, on noise.
pub(crate) fn items(
    name: &str,
    config: &RunConfig,
    kinds: &[Kind],
    device: Device,
) -> Result<Vec<Item>, TrainError> {
    let step = |&kind: &Kind| {
        let mut config = config.clone();
        config.train.precision = if kind == Kind::BFloat16 { Precision::Bf16 } else { Precision::F32 };
        let tokens_per_step = config.data.tokens_per_step();
        let flops = (config.model.training_flops_per_token() * tokens_per_step) as f64;
        let text = noise(4 * tokens_per_step as usize, config.model.vocab_size);
        let mut contestant = Contestant::new(config, text, device)?;
        Ok(Item {
            group: BenchGroup::Step,
            name: format!("step of {name}, {tokens_per_step} tokens"),
            kind,
            flops,
            bytes: 0.,
            work: Box::new(move || contestant.train().map(|_| ())),
        })
    };
    kinds.iter().map(step).collect()
}
