//! A language model in training: documents in, state carried from segment to segment, gradient stopped between them.

use std::sync::Arc;

use brt_data::{Prefetch, SegmentBatch, StreamConfig, StreamCursor, TokenSet, TrainStream};
use brt_lm::{LanguageModel, ModelState};
use brt_native::Segments;
use tch::{Device, Kind, Tensor};

use crate::{Learner, LearnerConfig, Memory, Model, Precision, RunConfig, StepReport, TrainError, World};

/// Number of batches that are read while the model is busy.
const NUM_BATCHES_AHEAD: usize = 2;

/// A language model and how it is computed in training.
#[derive(Debug)]
pub struct LanguageModelTraining {
    /// The model.
    pub model: LanguageModel,
    /// Kind of its matrix products.
    pub precision: Precision,
    /// What it keeps for the backward pass.
    pub memory: Memory,
}

impl Model for LanguageModelTraining {
    type Batch = SegmentBatch;
    type State = ModelState;

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.model.params().named()
    }

    fn num_scored(batch: &SegmentBatch) -> u64 {
        batch.num_scored
    }

    fn loss<'env>(
        &'env self,
        batch: &SegmentBatch,
        before: &ModelState,
        segments: &Segments<'env>,
    ) -> (Tensor, ModelState) {
        let tensors = BatchTensors::new(batch, self.model.params().device());
        let before = self.model.reset_rows(before, &tensors.start_of_sequence);
        let segments = (self.memory == Memory::Recompute).then_some(segments);
        let targets = [&tensors.targets, &tensors.mask];
        let loss = || self.model.loss(&tensors.tokens, targets, &before, segments);
        match self.precision {
            Precision::F32 => loss(),
            Precision::Bf16 => brt_native::in_bfloat16(&tensors.mask, loss),
        }
    }

    /// In float32, whatever the products were in: sums over many segments must not lose what is small. Caches are copies: they
    /// are the last blocks of segments, which would stay with them.
    fn detach(state: &ModelState) -> ModelState {
        state.detach().map(|x| match x.kind() {
            Kind::Float => x.copy(),
            _ if x.is_floating_point() => x.to_kind(Kind::Float),
            _ => x.shallow_clone(),
        })
    }

    fn skip(&self, batch: &SegmentBatch, before: &ModelState) -> ModelState {
        let starts = BatchTensors::new(batch, self.model.params().device()).start_of_sequence;
        Self::detach(&self.model.reset_rows(before, &starts))
    }

    fn state_tensors(state: &ModelState) -> Vec<(String, Tensor)> {
        state.named()
    }
}

/// A language model in training on a corpus: parameters, optimiser, place in the data, and the state that the rows carry.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) learner: Learner<LanguageModelTraining>,
    batches: Prefetch,
    config: RunConfig,
    seed: u64,
    pub(crate) world: World,
    /// Whether a document began in the last step: losses are high where nothing is remembered.
    pub(crate) began_documents: bool,
}

impl Trainer {
    /// Returns a trainer at step 0. `seed` decides parameters, data order and dropout.
    ///
    /// # Errors
    /// A configuration that no model can have, or a corpus that does not fit it.
    pub fn new(config: RunConfig, set: Arc<TokenSet>, seed: u64, device: Device) -> Result<Self, TrainError> {
        Self::in_world(config, set, seed, device, World::alone())
    }

    /// Returns a trainer at step 0 that trains together with those of other processes, on its rows of each batch.
    ///
    /// # Errors
    /// As [`Self::new`]; [`TrainError::Rows`] where the rows cannot be shared; [`TrainError::Group`].
    pub fn in_world(
        config: RunConfig,
        set: Arc<TokenSet>,
        seed: u64,
        device: Device,
        world: World,
    ) -> Result<Self, TrainError> {
        check(&config, &set, &world)?;
        let model = LanguageModel::new(config.model.clone(), seed, device)?;
        let stream = stream(&config, &world);
        let state = model.initial_state(stream.own_rows().len() as i64).detach();
        let batches = Prefetch::new(TrainStream::new(set, stream, seed)?, NUM_BATCHES_AHEAD);
        let states = state.split(config.train.num_parts());
        let model =
            LanguageModelTraining { model, precision: config.train.precision, memory: config.train.memory };
        let learner =
            Learner::new(model, states, LearnerConfig::of(&config), seed).in_world(world.clone())?;
        Ok(Self { learner, batches, config, seed, world, began_documents: false })
    }

    /// Trains on the next segment of every row of this process.
    ///
    /// # Errors
    /// As [`Learner::step`], and [`TrainError::Data`] where the corpus is damaged.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        let batch = match self.batches.next_batch() {
            Ok(batch) => batch,
            Err(error) => return self.learner.give_up(error.into()),
        };
        self.began_documents = batch.start_of_sequence.contains(&true);
        self.learner.step(&batch.split(self.config.train.num_parts()))
    }

    /// Returns the number of finished steps.
    pub fn num_steps(&self) -> u64 {
        self.learner.num_steps()
    }

    /// Returns the model.
    pub fn model(&self) -> &LanguageModel {
        &self.learner.model.model
    }

    /// Returns the configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Returns what the rows of this process carry to the next step.
    pub fn state(&self) -> ModelState {
        ModelState::join(self.learner.states())
    }

    /// Sets what the rows carry to the next step.
    pub(crate) fn set_state(&mut self, state: &ModelState) {
        self.learner.states = state.split(self.config.train.num_parts());
    }

    /// Returns where the rows of all processes are in the data.
    pub fn cursor(&self) -> StreamCursor {
        self.batches.cursor()
    }

    /// Goes to another place of the data, on resuming.
    pub(crate) fn seek(&mut self, set: Arc<TokenSet>, cursor: StreamCursor) -> Result<(), TrainError> {
        let stream = TrainStream::resume(set, stream(&self.config, &self.world), self.seed, cursor)?;
        self.batches = Prefetch::new(stream, NUM_BATCHES_AHEAD);
        Ok(())
    }
}

impl LearnerConfig {
    /// Returns how a run trains.
    pub fn of(config: &RunConfig) -> Self {
        Self {
            optimizer: config.optimizer,
            schedule: config.schedule,
            num_steps: config.train.num_steps,
            max_gradient_norm: config.train.max_gradient_norm,
            non_finite: config.train.non_finite,
        }
    }
}

/// Checks that a world can train a configuration on a corpus.
pub(crate) fn check(config: &RunConfig, set: &TokenSet, world: &World) -> Result<(), TrainError> {
    config.validate()?;
    check_vocabulary(set.vocab_size(), config)?;
    let (batch, world_size, parts) = (config.data.batch, world.size(), config.train.num_parts());
    match batch.is_multiple_of(world_size * parts) {
        true => Ok(()),
        false => Err(TrainError::Rows { batch, world_size, parts }),
    }
}

/// Returns the stream of this process's rows.
fn stream(config: &RunConfig, world: &World) -> StreamConfig {
    StreamConfig { rank: world.share(), ..config.data.stream() }
}

/// Checks that a model has a row for each token of a tokenizer.
pub(crate) fn check_vocabulary(vocab_size: usize, config: &RunConfig) -> Result<(), TrainError> {
    let (corpus, model) = (vocab_size as u64, config.model.vocab_size);
    if corpus > model as u64 { Err(TrainError::Vocabulary { corpus, model }) } else { Ok(()) }
}

/// A batch as tensors on the device.
#[derive(Debug)]
pub(crate) struct BatchTensors {
    pub(crate) tokens: Tensor,            // [B, N] int64
    pub(crate) targets: Tensor,           // [B, N] int64
    pub(crate) mask: Tensor,              // [B, N] float
    pub(crate) start_of_sequence: Tensor, // [B] bool
}

impl BatchTensors {
    pub(crate) fn new(batch: &SegmentBatch, device: Device) -> Self {
        let shape = [batch.batch as i64, batch.segment_len as i64];
        // From memory that does not move the copy to a GPU needs no waiting.
        let send = |x: Tensor| match device {
            Device::Cuda(_) => x.pin_memory(device).to_device_(device, x.kind(), true, false),
            _ => x.to_device(device),
        };
        Self {
            tokens: send(Tensor::from_slice(&batch.tokens).view(shape)),
            targets: send(Tensor::from_slice(&batch.targets).view(shape)),
            mask: send(Tensor::from_slice(&batch.loss_mask).view(shape)),
            start_of_sequence: send(Tensor::from_slice(&batch.start_of_sequence)),
        }
    }
}
