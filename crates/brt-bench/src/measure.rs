//! Things that are measured in turn.

use std::time::Instant;

use brt_report::{BenchEntry, BenchResult};
use brt_trainer::{RunConfig, TrainError, load_average, machine_facts};
use tch::{Device, Kind};

use crate::{
    ceilings, decode,
    item::{Item, synchronise},
    parts, steps,
};

/// Shortest time of one measurement in seconds: what is faster is done several times.
const MIN_SECS: f64 = 0.02;

/// What is measured, and how often.
#[derive(Debug, Clone)]
pub struct BenchPlan {
    /// Kinds of matrix products: float32, bfloat16.
    pub kinds: Vec<Kind>,
    /// How much of a step is looked at.
    pub extent: Extent,
    /// How often everything is measured.
    pub num_rounds: usize,
}

/// How much of a training step is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Its parts, at the sizes of the first configuration, and the whole.
    All,
    /// The whole.
    Steps,
    /// Reading and writing texts alone.
    Decoding,
}

/// Measures ceilings, the parts of a training step of the first configuration, and steps of all of them, everything once in
/// each round. `commit` is what the program was built from.
///
/// # Errors
/// As a step of each configuration.
pub fn bench(
    configs: &[(String, RunConfig)],
    plan: &BenchPlan,
    device: Device,
    commit: &str,
) -> Result<BenchResult, TrainError> {
    let load_average = load_average();
    let mut items = items(configs, plan, device)?;
    let mut entries = items.iter().map(entry).collect::<Vec<_>>();
    let mut repeats = vec![];
    for item in &mut items {
        (item.work)()?; // Allocations and page faults of the first time.
        let secs = time(item, 1, device)?.0;
        repeats.push((MIN_SECS / secs).ceil().clamp(1., 1e4) as usize);
    }
    for _ in 0..plan.num_rounds {
        for ((item, entry), &repeats) in items.iter_mut().zip(&mut entries).zip(&repeats) {
            let (wall, cpu) = time(item, repeats, device)?;
            entry.wall_secs.push(wall);
            entry.cpu_secs.push(cpu);
        }
    }
    Ok(BenchResult {
        entries,
        load_average,
        peak_resident_bytes: brt_native::peak_resident_bytes(),
        peak_device_bytes: brt_native::peak_device_bytes(device),
        machine: machine_facts(device),
        build: brt_trainer::build_facts(commit),
    })
}

/// Returns all that is measured.
fn items(configs: &[(String, RunConfig)], plan: &BenchPlan, device: Device) -> Result<Vec<Item>, TrainError> {
    let kinds = plan.kinds.as_slice();
    let mut items = ceilings::items(kinds, device);
    if let (Some((_, config)), Extent::All) = (configs.first(), plan.extent) {
        items.extend(parts::items(config, kinds, device)?);
    }
    for (name, config) in configs {
        if plan.extent != Extent::Steps {
            items.extend(decode::items(name, config, kinds, device)?);
        }
        if plan.extent == Extent::Decoding {
            continue;
        }
        items.extend(steps::items(name, config, kinds, device)?);
    }
    Ok(items)
}

fn entry(item: &Item) -> BenchEntry {
    BenchEntry {
        group: item.group,
        name: item.name.clone(),
        kind: if item.kind == Kind::BFloat16 { "bf16" } else { "f32" }.into(),
        flops: item.flops,
        bytes: item.bytes,
        wall_secs: vec![],
        cpu_secs: vec![],
    }
}

/// Returns wall and processor time of doing something once, in seconds.
fn time(item: &mut Item, repeats: usize, device: Device) -> Result<(f64, f64), TrainError> {
    synchronise(device);
    let (start, cpu) = (Instant::now(), brt_native::cpu_secs());
    for _ in 0..repeats {
        (item.work)()?;
    }
    synchronise(device);
    let each = |secs: f64| secs / repeats as f64;
    Ok((each(start.elapsed().as_secs_f64()), each(brt_native::cpu_secs() - cpu)))
}
