//! What a result stands on: the model, the machine, the build.

use std::fs;

use brt_report::{BuildFacts, MachineFacts, ModelFacts};
use tch::Device;

use crate::RunConfig;

/// Returns size and shape of a model.
pub fn model_facts(config: &RunConfig, num_parameters: u64) -> ModelFacts {
    let model = &config.model;
    ModelFacts {
        description: model.description(),
        num_parameters,
        num_parameters_without_embedding: num_parameters - (model.vocab_size * model.model_dim) as u64,
        window_len: model.window_len as u64,
        segment_len: config.data.segment_len as u64,
        training_flops_per_token: model.training_flops_per_token(),
    }
}

/// Returns what the operating system and libtorch say about this machine.
pub fn machine_facts(device: Device) -> MachineFacts {
    let line = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let value = text.lines().find(|l| l.starts_with(key)).and_then(|l| l.split_once([':', '=']));
        value.map(|(_, v)| v.trim().trim_matches('"').to_string()).unwrap_or_else(|| "unknown".into())
    };
    let memory_kib = line("/proc/meminfo", "MemTotal").split(' ').next().and_then(|n| n.parse::<u64>().ok());
    MachineFacts {
        cpu: line("/proc/cpuinfo", "model name"),
        num_cpus: std::thread::available_parallelism().map_or(0, |n| n.get() as u64),
        cpu_capability: brt_native::cpu_capability(),
        product_library: format!("{:?}", brt_native::ProductLibrary::chosen()).to_lowercase(),
        device: match device {
            Device::Cuda(idx) => format!("cuda:{idx}"),
            other => format!("{other:?}").to_lowercase(),
        },
        num_threads: tch::get_num_threads().unsigned_abs().into(),
        memory_bytes: memory_kib.unwrap_or(0) * 1024,
        os: line("/etc/os-release", "PRETTY_NAME"),
    }
}

/// Returns what this program was built from. `commit` is what the binary's build script found.
pub fn build_facts(commit: &str) -> BuildFacts {
    BuildFacts {
        brt_version: env!("CARGO_PKG_VERSION").into(),
        commit: commit.into(),
        libtorch_version: brt_native::torch_version(),
        tch_version: "0.24.0".into(),
    }
}
