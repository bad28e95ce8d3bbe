//! Step times of several models, taken in turn in one process.

use std::{fs, sync::Arc, time::Instant};

use brt_data::TokenSet;
use brt_report::{ContestantTiming, TimingResult};
use tch::Device;

use crate::{RunConfig, TrainError, Trainer, checkpoint, machine_facts};

/// Runs one training step of each configuration in turn, `num_rounds` times after `num_warmup_rounds`, and returns the
/// wall time of each. A machine that slows down for a while slows all contestants alike.
///
/// With `num_parts` above 1 the steps have only that part of the batch rows, at least one, where whole ones are too
/// much for the machine: the same share for all, whatever their segments.
///
/// # Errors
/// As a step of each trainer.
pub fn time_in_turn(
    configs: Vec<(String, RunConfig)>,
    set: &Arc<TokenSet>,
    device: Device,
    num_parts: u64,
    num_warmup_rounds: u64,
    num_rounds: u64,
) -> Result<TimingResult, TrainError> {
    let load_average = load_average();
    let mut trainers = vec![];
    let mut contestants = vec![];
    for (name, mut config) in configs {
        let num_steps = config.train.num_steps;
        let num_tokens = num_steps * config.data.tokens_per_step();
        config.data.batch = (config.data.batch / num_parts as usize).max(1);
        let tokens_per_step = config.data.tokens_per_step();
        let trainer = Trainer::new(config, Arc::clone(set), 1, device)?;
        let disk_bytes = checkpoint::checkpoint_bytes(&trainer) * trainer.config().train.num_kept();
        contestants.push(ContestantTiming {
            name,
            tokens_per_step,
            num_steps,
            num_tokens,
            disk_bytes,
            step_secs: vec![],
        });
        trainers.push(trainer);
    }
    for round in 0..num_warmup_rounds + num_rounds {
        for (trainer, timing) in trainers.iter_mut().zip(&mut contestants) {
            let start = Instant::now();
            trainer.step()?; // Reads the loss, so the device is done.
            if round >= num_warmup_rounds {
                timing.step_secs.push(start.elapsed().as_secs_f64());
            }
        }
    }
    Ok(TimingResult { contestants, num_warmup_rounds, load_average, machine: machine_facts(device) })
}

/// Returns the number of running processes, averaged over the last minute; 0 where the system does not say.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.)
}
