//! `brt doctor`: what this program runs on.

use anyhow::Result;
use brt_native::ProductLibrary;
use brt_trainer::{build_facts, machine_facts};
use tch::Cuda;

use crate::{
    arguments::DeviceArguments,
    output::{count, result},
};

pub(super) fn run() -> Result<()> {
    let device = super::start_device(DeviceArguments { device: None, threads: None })?;
    let (machine, build) = (machine_facts(device), build_facts(env!("BRT_COMMIT")));
    let library = brt_native::loaded_library("libtorch_cpu.so").unwrap_or_default();
    let library = library.display();
    let cuda = match Cuda::device_count() {
        0 => match brt_native::load_cuda() {
            Ok(()) => "none that libtorch can use, though it has its CUDA part".to_string(),
            Err(reason) => format!("none: {reason}"),
        },
        n => format!("{n} (cuDNN: {})", Cuda::cudnn_is_available()),
    };
    let facts = [
        ("brt", format!("{} (commit {})", build.brt_version, build.commit)),
        ("libtorch", format!("{} at {library}", build.libtorch_version)),
        ("tch", build.tch_version),
        ("device", machine.device),
        ("GPUs", cuda),
        ("threads", machine.num_threads.to_string()),
        ("processor", format!("{} ({} of them)", machine.cpu, machine.num_cpus)),
        ("instructions", format!("{} in libtorch; {}", machine.cpu_capability, cpu_features())),
        ("products", format!("in float32 on the CPU: {}", product_library())),
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

fn product_library() -> &'static str {
    match ProductLibrary::chosen() {
        ProductLibrary::Gemm => "the crate gemm",
        ProductLibrary::Libtorch => "libtorch",
    }
}

/// Returns the features of the processor that matter for matrix products.
fn cpu_features() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags: Vec<_> = cpu.lines().find(|line| line.starts_with("flags")).unwrap_or("").split(' ').collect();
    let features = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"];
    let found: Vec<_> = features.into_iter().filter(|feature| flags.contains(feature)).collect();
    format!("processor has {}", found.join(" "))
}
