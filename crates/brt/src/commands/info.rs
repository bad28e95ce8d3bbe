//! `brt info`: what a model is made of, and what a token costs.

use anyhow::{Result, bail};
use brt_lm::{LanguageModel, ModuleSize};
use brt_trainer::{Override, RunConfig, model_facts};

use crate::{
    arguments::InfoArguments,
    output::{exact, result},
};

pub(super) fn run(arguments: &InfoArguments, overrides: &[Override]) -> Result<()> {
    let config = if arguments.path.is_dir() {
        if !overrides.is_empty() {
            bail!("--{}: expected a configuration file to change, got a run", overrides[0].key);
        }
        super::run_config(&arguments.path)?
    } else {
        RunConfig::load(&arguments.path, overrides)?
    };
    if arguments.tensors {
        let model = LanguageModel::outline(config.model.clone())?;
        for (name, tensor) in model.params().named() {
            result(format!(
                "{:>13}  {:<18} {name}",
                exact(tensor.numel() as u64),
                format!("{:?}", tensor.size())
            ));
        }
    }
    let modules = config.model.module_sizes()?;
    result(format!("{:<22} {:<34} {:>13} {:>15}", "layers", "module", "each", "parameters"));
    for module in &modules {
        let ModuleSize { layers, module: name, num_each, .. } = module;
        let total = exact(module.num_parameters());
        result(format!("{layers:<22} {name:<34} {:>13} {total:>15}", exact(*num_each)));
    }
    let total = modules.iter().map(ModuleSize::num_parameters).sum();
    let facts = model_facts(&config, total);
    let model = &config.model;
    result(format!(
        "{}\n{} parameters; {} without the embedding; {} in the paper's count, matrices and states of the layers",
        facts.description,
        exact(total),
        exact(facts.num_parameters_without_embedding),
        exact(model.num_layer_parameters()?),
    ));
    result(format!(
        "{} FLOPs per token forward, {} per training token; segments of {} tokens, {} tokens per step",
        exact(model.forward_flops_per_token()),
        exact(facts.training_flops_per_token),
        facts.segment_len,
        exact(config.data.tokens_per_step()),
    ));
    Ok(())
}
