//! `brt bench`: what the machine can do, and how much of it models reach.

use std::path::Path;

use anyhow::Result;
use brt_bench::{BenchPlan, Extent};
use brt_report::{BenchEntry, BenchResult};
use brt_trainer::{Override, RunConfig};
use tch::{Device, Kind};

use crate::{
    arguments::BenchArguments,
    output::{exact, line, result},
};

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
    if let Some(num_tokens) = arguments.stream {
        return stream(&configs, (num_tokens, &kinds), device, &arguments.out);
    }
    let extent = match (arguments.steps_only, arguments.decoding_only) {
        (true, _) => Extent::Steps,
        (_, true) => Extent::Decoding,
        _ => Extent::All,
    };
    let plan = BenchPlan { kinds, extent, num_rounds: arguments.rounds as usize };
    let measured = brt_bench::bench(&configs, &plan, device, env!("BRT_COMMIT"))?;
    print(&measured);
    brt_report::write_json(&arguments.out, &measured)?;
    Ok(())
}

/// Reads a long text token by token with each configuration; writes JSON, and beside it a plot.
fn stream(
    configs: &[(String, RunConfig)],
    (num_tokens, kinds): (u64, &[Kind]),
    device: Device,
    out: &Path,
) -> Result<()> {
    let mut results = vec![];
    for (name, config) in configs {
        for &kind in kinds {
            let measured = brt_bench::stream(name, config, (num_tokens, kind), device, env!("BRT_COMMIT"))?;
            for point in &measured.points {
                result(format!(
                    "{name:<24} {:>5} {:>12} tokens {:>8.3} ms/token {:>8.1} MB",
                    measured.kind,
                    exact(point.num_tokens),
                    point.cpu_secs_per_token * 1e3,
                    point.resident_bytes as f64 / 1e6
                ));
            }
            results.push(measured);
        }
    }
    brt_report::write_json(out, &results)?;
    let plot = out.with_extension("svg");
    brt_report::write_atomic(&plot, brt_report::stream_svg(&results).as_bytes())?;
    line(format!("{} and {} written", out.display(), plot.display()));
    Ok(())
}

fn print(measured: &BenchResult) {
    result(format!(
        "{:<40} {:>5} {:>10} {:>10} {:>9} {:>6} {:>8} {:>6}",
        "", "kind", "wall", "processor", "GFLOP/s", "share", "GB/s", "share"
    ));
    for entry in &measured.entries {
        result(row(entry, measured.flops_share(entry), measured.bytes_share(entry)));
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

fn row(entry: &BenchEntry, flops_share: Option<f64>, bytes_share: Option<f64>) -> String {
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
