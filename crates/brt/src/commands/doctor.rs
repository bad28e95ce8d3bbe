//! `brt doctor`: what this program runs on.

use anyhow::Result;
use brt_trainer::{build_facts, machine_facts};
use tch::{Cuda, Device};

use crate::output::{count, result};

pub(super) fn run() -> Result<()> {
    let device = Device::cuda_if_available();
    let (machine, build) = (machine_facts(device), build_facts(env!("BRT_COMMIT")));
    let cuda = match Cuda::device_count() {
        0 => "none that libtorch can use".to_string(),
        n => format!("{n} (cuDNN: {})", Cuda::cudnn_is_available()),
    };
    let facts = [
        ("brt", format!("{} (commit {})", build.brt_version, build.commit)),
        ("libtorch", format!("{} at {}", build.libtorch_version, library_path())),
        ("tch", build.tch_version),
        ("device", machine.device),
        ("GPUs", cuda),
        ("threads", machine.num_threads.to_string()),
        ("processor", format!("{} ({} of them)", machine.cpu, machine.num_cpus)),
        ("instructions", format!("{} in libtorch; {}", machine.cpu_capability, cpu_features())),
        ("memory", format!("{}B", count(machine.memory_bytes))),
        ("system", machine.os),
    ];
    for (name, value) in facts {
        result(format!("{name:<13} {value}"));
    }
    let config = brt_native::build_info();
    for line in config.lines().filter(|line| ["MKL", "OpenMP", "DNN"].iter().any(|name| line.contains(name)))
    {
        result(format!("{:<13} {}", "", line.trim().trim_start_matches("- ")));
    }
    Ok(())
}

/// Returns the features of the processor that matter for matrix products.
fn cpu_features() -> String {
    let features = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    let found: Vec<_> = features.iter().filter(|(_, found)| *found).map(|(name, _)| *name).collect();
    format!("processor has {}", found.join(" "))
}

/// Returns the file of libtorch that this process has loaded.
fn library_path() -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let line = maps.lines().find(|line| line.contains("libtorch_cpu"));
    line.and_then(|line| line.split_whitespace().last()).unwrap_or("an unknown place").to_string()
}
