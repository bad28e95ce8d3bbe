//! `brt time`: training steps of several configurations in turn.

use std::sync::Arc;

use anyhow::Result;
use brt_data::{Split, TokenSet};
use brt_trainer::{Override, RunConfig, time_in_turn};

use crate::{arguments::TimeArguments, output::result};

/// Steps of each configuration before the measured ones: allocations and page faults of the first steps.
const NUM_WARMUP_ROUNDS: u64 = 2;

pub(super) fn run(arguments: &TimeArguments, overrides: &[Override]) -> Result<()> {
    let device = super::start_device(arguments.device)?;
    let configs = arguments
        .configs
        .iter()
        .map(|path| Ok((super::name(path)?, RunConfig::load(path, overrides)?)))
        .collect::<Result<Vec<_>>>()?;
    let set = Arc::new(TokenSet::open(&arguments.data, Split::Train)?);
    let timing = time_in_turn(configs, &set, device, arguments.parts, NUM_WARMUP_ROUNDS, arguments.rounds)?;
    for contestant in &timing.contestants {
        result(format!(
            "{:<24} {:>8.1} ms/step  {:>8.0} tokens/s  {:.2}x {}",
            contestant.name,
            contestant.median_step_secs() * 1e3,
            contestant.tokens_per_step as f64 / contestant.median_step_secs(),
            contestant.relative_to(&timing.contestants[0]),
            timing.contestants[0].name
        ));
    }
    brt_report::write_json(&arguments.out, &timing)?;
    Ok(())
}
