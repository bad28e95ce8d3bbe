//! `brt contestant`: trains and generates on command, a line of JSON for each line on standard input. Its peers in Python
//! speak the same: `benchmarks/peers/README.md`.

use std::io::BufRead;

use anyhow::{Context, Result};
use brt_bench::{Contestant, ContestantOptions};
use brt_trainer::{Override, RunConfig};
use serde_json::{Value, json};
use tch::Device;

use crate::{arguments::ContestantArguments, output::result};

pub(super) fn run(arguments: &ContestantArguments, overrides: &[Override]) -> Result<()> {
    let device = super::start_device(arguments.device)?;
    let config = RunConfig::load(&arguments.config, overrides)?;
    let mut contestant = Contestant::open(config, &arguments.tokens, device)?;
    let options = ContestantOptions { prompt_len: arguments.prompt_len, num_tokens: arguments.generate };
    result(json!({
        "name": "brt",
        "num_parameters": contestant.num_parameters(),
        "machine": brt_trainer::machine_facts(device),
        "version": format!("brt {} on libtorch {}", env!("BRT_COMMIT"), brt_native::torch_version()),
    }));
    for line in std::io::stdin().lock().lines() {
        let line = line.context("reading standard input")?;
        result(answer(line.trim(), &mut contestant, options, device)?);
        if line.trim() == "quit" {
            break;
        }
    }
    Ok(())
}

fn answer(
    command: &str,
    contestant: &mut Contestant,
    options: ContestantOptions,
    device: Device,
) -> Result<Value> {
    Ok(match command {
        "step" => serde_json::to_value(contestant.step()?)?,
        "generate" => serde_json::to_value(contestant.generate(options)?)?,
        "quit" => json!({
            "peak_bytes": brt_native::peak_resident_bytes(),
            "peak_device_bytes": brt_native::peak_device_bytes(device),
        }),
        other => json!({ "error": format!("expected step, generate or quit, got {other}") }),
    })
}
