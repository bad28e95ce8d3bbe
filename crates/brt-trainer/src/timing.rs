//! Step times of several models, taken in turn in one process.

use std::{fs, sync::Arc, time::Instant};

use brt_data::TokenSet;
use brt_report::{ContestantTiming, TimingResult};
use tch::Device;

use crate::{RunConfig, TrainError, Trainer, machine_facts};

/// Runs one training step of each configuration in turn, `num_rounds` times after `num_warmup_rounds`, and returns the
/// wall time of each. A machine that slows down for a while slows all contestants alike.
///
/// # Errors
/// As a step of each trainer.
pub fn time_in_turn(
    configs: Vec<(String, RunConfig)>,
    set: &Arc<TokenSet>,
    device: Device,
    num_warmup_rounds: u64,
    num_rounds: u64,
) -> Result<TimingResult, TrainError> {
    let load_average = load_average();
    let mut trainers = vec![];
    let mut contestants = vec![];
    for (name, config) in configs {
        let (tokens_per_step, num_steps) = (config.data.tokens_per_step(), config.train.num_steps);
        trainers.push(Trainer::new(config, Arc::clone(set), 1, device)?);
        contestants.push(ContestantTiming { name, tokens_per_step, num_steps, step_secs: vec![] });
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
