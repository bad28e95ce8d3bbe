//! What a number stands on: the model, the machine, the build.

use serde::{Deserialize, Serialize};

/// Size and shape of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// One line in the paper's words, for example `Rec:fixed:skip, 3 layers, W 32, S 32`.
    pub description: String,
    /// Number of trained parameters.
    pub num_parameters: u64,
    /// Number of trained parameters without the embedding table.
    pub num_parameters_without_embedding: u64,
    /// Window length W in tokens.
    pub window_len: u64,
    /// Segment length N in tokens: the horizon of the gradient.
    pub segment_len: u64,
    /// Multiplications and additions per token of one training step (forward and backward), counted from the shapes.
    pub training_flops_per_token: u64,
}

/// The machine that a run ran on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// Model name of the processor.
    pub cpu: String,
    /// Number of processors that the operating system offers.
    pub num_cpus: u64,
    /// Instruction set that libtorch uses, for example `AVX512`.
    pub cpu_capability: String,
    /// Who multiplied in float32 on the CPU, `gemm` or `libtorch`; nothing in records from before there was a choice.
    #[serde(default)]
    pub product_library: String,
    /// Device that the model ran on, for example `cpu` or `cuda:0`.
    pub device: String,
    /// Number of threads that tensor operations used.
    pub num_threads: u64,
    /// Size of the main memory in bytes.
    pub memory_bytes: u64,
    /// Operating system and its version.
    pub os: String,
}

impl MachineFacts {
    /// Returns who multiplied in float32 on the CPU, in words.
    pub fn product_library(&self) -> &str {
        if self.product_library.is_empty() { "not recorded" } else { &self.product_library }
    }
}

/// The program that a run ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildFacts {
    /// Version of brt.
    pub brt_version: String,
    /// Commit that it was built from, with `-dirty` where files differed from it; `unknown` outside a checkout.
    pub commit: String,
    /// Version of the libtorch in use.
    pub libtorch_version: String,
    /// Version of the tch crate.
    pub tch_version: String,
}
