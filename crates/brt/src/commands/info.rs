//! `brt info`: size, shape and parameters of a model.

use anyhow::{Result, bail};
use brt_lm::LanguageModel;
use brt_trainer::{Override, RunConfig, model_facts};
use tch::Device;

use crate::{
    arguments::InfoArguments,
    output::{count, result},
};

pub(super) fn run(arguments: &InfoArguments, overrides: &[Override]) -> Result<()> {
    let config = if arguments.path.is_dir() {
        if !overrides.is_empty() {
            bail!("--{}: expected a configuration file to change, got a run", overrides[0].key);
        }
        super::load_model(&arguments.path, Device::Cpu)?.1
    } else {
        RunConfig::load(&arguments.path, overrides)?
    };
    let model = LanguageModel::new(config.model.clone(), 1, Device::Cpu)?;
    for (name, tensor) in model.params().named() {
        result(format!("{:>10}  {:<18} {name}", tensor.numel(), format!("{:?}", tensor.size())));
    }
    let facts = model_facts(&config, model.params().num_parameters());
    result(facts.description);
    result(format!(
        "{} parameters, {} without the embedding; {} FLOPs per training token; segments of {} tokens",
        count(facts.num_parameters),
        count(facts.num_parameters_without_embedding),
        count(facts.training_flops_per_token),
        facts.segment_len
    ));
    Ok(())
}
