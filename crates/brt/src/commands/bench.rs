//! `brt bench`: what the machine can do, and how much of it models reach.

use anyhow::Result;
use brt_bench::{BenchPlan, Extent};
use brt_report::{BenchEntry, BenchResult};
use brt_trainer::{Override, RunConfig};
use tch::Kind;

use crate::{arguments::BenchArguments, output::result};

pub(super) fn run(arguments: &BenchArguments, overrides: &[Override]) -> Result<()> {
    let device = super::start_device(arguments.device)?;
    let configs = arguments
        .configs
        .iter()
        .map(|path| Ok((super::name(path)?, RunConfig::load(path, overrides)?)))
        .collect::<Result<Vec<_>>>()?;
    let kinds = match arguments.kind.as_deref() {
        Some("f32") => vec![Kind::Float],
        Some(_) => vec![Kind::BFloat16],
        None => vec![Kind::Float, Kind::BFloat16],
    };
    let extent = if arguments.steps_only { Extent::Steps } else { Extent::All };
    let plan = BenchPlan { kinds, extent, num_rounds: arguments.rounds as usize };
    let measured = brt_bench::bench(&configs, &plan, device, env!("BRT_COMMIT"))?;
    print(&measured);
    brt_report::write_json(&arguments.out, &measured)?;
    Ok(())
}

fn print(measured: &BenchResult) {
    result(format!(
        "{:<40} {:>5} {:>10} {:>10} {:>9} {:>6} {:>8} {:>6}",
        "", "kind", "wall", "processor", "GFLOP/s", "share", "GB/s", "share"
    ));
    for entry in &measured.entries {
        result(line(entry, measured.flops_share(entry), measured.bytes_share(entry)));
    }
    let machine = &measured.machine;
    result(format!(
        "{}, {} thread(s), load {:.2} before; medians of {} rounds in turn",
        machine.cpu,
        machine.num_threads,
        measured.load_average,
        measured.entries.first().map_or(0, |entry| entry.wall_secs.len()),
    ));
}

fn line(entry: &BenchEntry, flops_share: Option<f64>, bytes_share: Option<f64>) -> String {
    let rate = |share: Option<f64>, per_sec: f64| {
        let giga = |_| format!("{:.1}", per_sec / 1e9);
        let percent = |share: f64| format!("{:.0} %", share * 100.);
        [share.map_or(String::new(), giga), share.map_or(String::new(), percent)]
    };
    let [flops, of_flops] = rate(flops_share, entry.flops_per_sec());
    let [bytes, of_bytes] = rate(bytes_share, entry.bytes_per_sec());
    format!(
        "{:<40} {:>5} {:>7.2} ms {:>7.2} ms {flops:>9} {of_flops:>6} {bytes:>8} {of_bytes:>6}",
        entry.name,
        entry.kind,
        entry.median_wall_secs() * 1e3,
        entry.median_cpu_secs() * 1e3,
    )
}
