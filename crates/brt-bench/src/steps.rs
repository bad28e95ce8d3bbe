//! Whole training steps.

use brt_report::BenchGroup;
use brt_trainer::{Precision, RunConfig, TrainError};
use tch::{Device, Kind};

use crate::{
    contestant::{Contestant, noise},
    measure::Item,
};

/// Returns the steps of a configuration in float32 and in bfloat16, on noise.
pub(crate) fn items(name: &str, config: &RunConfig, device: Device) -> Result<Vec<Item>, TrainError> {
    let step = |(precision, kind): (Precision, Kind)| {
        let mut config = config.clone();
        config.train.precision = precision;
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
    [(Precision::F32, Kind::Float), (Precision::Bf16, Kind::BFloat16)].into_iter().map(step).collect()
}
