//! What a run will be, before it is: sizes, memory, data, disk.

use std::path::Path;

use brt_data::{Counts, Manifest, Split};
use brt_lm::LanguageModel;
use brt_report::ModelFacts;
use tch::Tensor;

use crate::{Memory, Optimizer, RunConfig, TrainError, folder, model_facts, trainer::check_vocabulary};

/// What a run will be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Size and shape of the model.
    pub model: ModelFacts,
    /// Floating-point operations of one step.
    pub step_flops: u64,
    /// Number of tokens that are read in a step.
    pub step_tokens: u64,
    /// Number of steps.
    pub num_steps: u64,
    /// Bytes of parameters and their gradients.
    pub parameter_bytes: u64,
    /// Bytes of the optimiser's moments.
    pub moment_bytes: u64,
    /// Bytes of caches, states and memories that the rows carry.
    pub state_bytes: u64,
    /// About how many bytes a step keeps for its backward pass.
    pub activation_bytes: u64,
    /// Bytes of one checkpoint.
    pub checkpoint_bytes: u64,
    /// Bytes that may be written to the disk of the run's folder, where the system says it.
    pub free_bytes: Option<u64>,
    /// Sizes of the training documents.
    pub train: Counts,
    /// Sizes of the validation documents.
    pub validation: Counts,
    /// Sizes of the test documents.
    pub test: Counts,
}

impl Plan {
    /// Returns the plan of a run. Nothing is written, and no weight is drawn.
    ///
    /// # Errors
    /// A configuration that no run can have, or a corpus that is not there or does not fit it.
    pub fn new(config: &RunConfig, data: &Path, out: &Path) -> Result<Self, TrainError> {
        config.validate()?;
        let manifest = Manifest::read(data)?;
        check_vocabulary(manifest.tokenizer.vocab_size, config)?;
        let outline = LanguageModel::outline(config.model.clone())?;
        let parameters = outline.params().named();
        let num_parameters = outline.params().num_parameters();
        let model = model_facts(config, num_parameters);
        let moments = Optimizer::moment_values(config.optimizer, &parameters);
        let step_tokens = config.data.tokens_per_step();
        let state_bytes = state_bytes(&outline, config.data.batch);
        let (parameter_bytes, moment_bytes) = (8 * num_parameters, 4 * moments);
        let counts = |split| manifest.splits.get(&split).copied().unwrap_or_default();
        let activations = match config.train.memory {
            Memory::Keep => config.model.activations_per_token(),
            Memory::Recompute => config.model.recomputed_activations_per_token(),
        };
        Ok(Self {
            step_flops: model.training_flops_per_token * step_tokens,
            model,
            step_tokens,
            num_steps: config.train.num_steps,
            parameter_bytes,
            moment_bytes,
            state_bytes,
            activation_bytes: 4 * activations * step_tokens / config.train.num_parts() as u64,
            checkpoint_bytes: parameter_bytes / 2 + moment_bytes + state_bytes,
            free_bytes: brt_native::available_bytes(&folder::existing(out)),
            train: counts(Split::Train),
            validation: counts(Split::Validation),
            test: counts(Split::Test),
        })
    }

    /// Returns how often the run reads its training documents.
    pub fn num_epochs(&self) -> f64 {
        (self.step_tokens * self.num_steps) as f64 / self.train.num_tokens.max(1) as f64
    }

    /// Returns about how many bytes a process needs beside libtorch itself.
    pub fn memory_bytes(&self) -> u64 {
        self.parameter_bytes + self.moment_bytes + self.state_bytes + self.activation_bytes
    }
}

/// Returns the bytes of what the rows carry: one row's, times the rows.
fn state_bytes(model: &LanguageModel, num_rows: usize) -> u64 {
    let bytes = |(_, tensor): &(String, Tensor)| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
    model.initial_state(1).named().iter().map(bytes).sum::<u64>() * num_rows as u64
}
