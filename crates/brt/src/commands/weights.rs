//! `brt import` and `brt export`: weights from and to the official code.

use anyhow::Result;
use brt_data::Tokenizer;
use brt_trainer::{Override, RunConfig, export_weights, import_weights};

use crate::{
    arguments::{ExportArguments, ImportArguments},
    output,
};

pub(super) fn import(arguments: &ImportArguments, overrides: &[Override]) -> Result<()> {
    let config = RunConfig::load(&arguments.config, overrides)?;
    let tokenizer = Tokenizer::open(&arguments.tokenizer)?;
    import_weights(&arguments.weights, &config, &tokenizer, &arguments.out)?;
    let out = arguments.out.display();
    output::line(format!(
        "{out} is a run now: brt eval, generate, serve; brt train --resume trains it further"
    ));
    Ok(())
}

pub(super) fn export(arguments: &ExportArguments) -> Result<()> {
    super::check_run(&arguments.run)?;
    Ok(export_weights(&arguments.run, &arguments.prefix, &arguments.out)?)
}
