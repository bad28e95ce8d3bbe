//! One training step after another: the state carried from segment to segment, the gradient stopped between them.

use std::sync::Arc;

use brt_data::{Prefetch, SegmentBatch, StreamCursor, TokenSet, TrainStream};
use brt_lm::{LanguageModel, Mode, ModelState};
use brt_ops::{init::seeded, loss};
use tch::{Device, Kind, Tensor};

use crate::{Optimizer, RunConfig, TrainError};

/// Number of batches that are read while the model is busy.
const NUM_BATCHES_AHEAD: usize = 2;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Number of finished steps, this one included.
    pub step: u64,
    /// Sum of the losses of the scored tokens, in nats.
    pub loss_nats: f64,
    /// Number of scored tokens.
    pub num_scored: u64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// Norm of the gradient of the mean loss over all parameters.
    pub gradient_norm: f64,
}

/// A model in training: parameters, optimiser, place in the data, and the state that the rows carry.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) model: LanguageModel,
    pub(crate) optimizer: Optimizer,
    batches: Prefetch,
    pub(crate) state: ModelState,
    config: RunConfig,
    seed: u64,
    device: Device,
}

impl Trainer {
    /// Returns a trainer at step 0. `seed` decides parameters, data order and dropout.
    ///
    /// # Errors
    /// A configuration that no model can have, or a corpus that does not fit it.
    pub fn new(config: RunConfig, set: Arc<TokenSet>, seed: u64, device: Device) -> Result<Self, TrainError> {
        config.validate()?;
        check_vocabulary(set.vocab_size(), &config)?;
        let model = LanguageModel::new(config.model.clone(), seed, device)?;
        let optimizer = Optimizer::new(config.optimizer, model.params().named());
        let batches = Prefetch::new(TrainStream::new(set, config.data.stream(), seed)?, NUM_BATCHES_AHEAD);
        let state = model.initial_state(config.data.batch as i64).detach();
        Ok(Self { model, optimizer, batches, state, config, seed, device })
    }

    /// Trains on the next segment of every row.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`], and [`TrainError::Data`] where the corpus is damaged; the parameters are then as before
    /// the step.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        let step = self.num_steps();
        let batch = self.batches.next_batch()?;
        let tensors = BatchTensors::new(&batch, self.device);

        let before = self.model.reset_rows(&self.state, &tensors.start_of_sequence);
        // Dropout depends on the seed and the step alone: a resumed run draws what the uninterrupted one would.
        let (logits, after) = seeded(self.seed, &format!("step {step}"), || {
            self.model.forward(&tensors.tokens, &before, Mode::Train)
        });
        let loss_nats = loss::cross_entropy(&logits, &tensors.targets, &tensors.mask).sum(Kind::Float);
        let mean = &loss_nats / batch.num_scored.max(1) as f64;
        brt_native::drop_gradients(self.model.params().named().iter().map(|(_, p)| p));
        mean.backward();

        let loss_nats = loss_nats.double_value(&[]);
        let gradient_norm = self.gradient_norm();
        for (what, got) in [("loss", loss_nats), ("gradient norm", gradient_norm)] {
            if !got.is_finite() {
                return Err(TrainError::NotFinite { step, what: what.into(), got });
            }
        }
        let learning_rate = self.config.schedule.learning_rate(step, self.config.train.num_steps);
        self.optimizer.step(learning_rate);
        self.state = after.detach(); // Truncated backpropagation through time: segments end here.
        Ok(StepReport {
            step: step + 1,
            loss_nats,
            num_scored: batch.num_scored,
            learning_rate,
            gradient_norm,
        })
    }

    /// Returns the number of finished steps.
    pub fn num_steps(&self) -> u64 {
        self.optimizer.num_steps()
    }

    /// Returns the model.
    pub fn model(&self) -> &LanguageModel {
        &self.model
    }

    /// Returns the configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Checks that the last update left every parameter finite: what must not be saved must be found before.
    pub(crate) fn check_finite(&self) -> Result<(), TrainError> {
        for (name, parameter) in self.model.params().named() {
            let got = tch::no_grad(|| parameter.sum(Kind::Double).double_value(&[]));
            if !got.is_finite() {
                return Err(TrainError::NotFinite { step: self.num_steps(), what: name, got });
            }
        }
        Ok(())
    }

    /// Returns where the rows are in the data.
    pub fn cursor(&self) -> StreamCursor {
        self.batches.cursor()
    }

    /// Goes to another place of the data, on resuming.
    pub(crate) fn seek(&mut self, set: Arc<TokenSet>, cursor: StreamCursor) -> Result<(), TrainError> {
        let stream = TrainStream::resume(set, self.config.data.stream(), self.seed, cursor)?;
        self.batches = Prefetch::new(stream, NUM_BATCHES_AHEAD);
        Ok(())
    }

    fn gradient_norm(&self) -> f64 {
        let gradients =
            self.model.params().named().into_iter().map(|(_, p)| p.grad()).filter(Tensor::defined);
        let squares: Vec<Tensor> = gradients.map(|g| g.square().sum(Kind::Float)).collect();
        tch::no_grad(|| Tensor::stack(&squares, 0).sum(Kind::Float).sqrt().double_value(&[]))
    }
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
        Self {
            tokens: Tensor::from_slice(&batch.tokens).view(shape).to_device(device),
            targets: Tensor::from_slice(&batch.targets).view(shape).to_device(device),
            mask: Tensor::from_slice(&batch.loss_mask).view(shape).to_device(device),
            start_of_sequence: Tensor::from_slice(&batch.start_of_sequence).to_device(device),
        }
    }
}
