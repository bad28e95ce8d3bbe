//! A model that trains and generates on command, beside models of other programs.

use std::{path::Path, time::Instant};

use brt_data::SegmentBatch;
use brt_lm::{Decoder, LanguageModel, ModelState};
use brt_trainer::{
    LanguageModelTraining, Learner, LearnerConfig, Precision, RunConfig, StepReport, TrainError,
};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::item::synchronise;

/// How long a contestant generates.
#[derive(Debug, Clone, Copy)]
pub struct ContestantOptions {
    /// Tokens of the prompt, from the beginning of the text.
    pub prompt_len: usize,
    /// Tokens to generate.
    pub num_tokens: usize,
}

/// Why a contestant cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContestantError {
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The file of tokens could not be read.
    #[error("{path}: expected a file of tokens, a byte each")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The file has too few tokens.
    #[error("{path}: expected more than {expected} tokens, got {got}")]
    Short {
        /// The file.
        path: String,
        /// Tokens of one step, or of a prompt.
        expected: usize,
        /// Tokens of the file.
        got: usize,
    },
    /// A token has no row in the model.
    #[error("{path}: expected tokens below model.vocab_size = {expected}, got {got}")]
    Vocabulary {
        /// The file.
        path: String,
        /// Size of the vocabulary.
        expected: i64,
        /// The token.
        got: u8,
    },
}

/// One training step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stepped {
    /// Wall time in seconds.
    pub wall_secs: f64,
    /// Processor time of all threads in seconds.
    pub cpu_secs: f64,
    /// Mean loss in nats per token.
    pub loss: f64,
}

/// One text that was generated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generated {
    /// Wall time in seconds, with the reading of the prompt.
    pub wall_secs: f64,
    /// Processor time of all threads in seconds, likewise.
    pub cpu_secs: f64,
    /// Number of tokens.
    pub num_tokens: usize,
    /// How it was done.
    pub way: &'static str,
}

/// A model in training on one text that every row reads a part of.
#[derive(Debug)]
pub struct Contestant {
    learner: Learner<LanguageModelTraining>,
    text: Vec<u8>,
    batch: usize,
    segment_len: usize,
    num_steps: usize,
    device: Device,
}

impl Contestant {
    /// Returns a contestant at step 0 that reads `text`, a token in each byte.
    ///
    /// # Errors
    /// A configuration that no model can have.
    pub fn new(config: RunConfig, text: Vec<u8>, device: Device) -> Result<Self, TrainError> {
        config.validate()?;
        let (batch, segment_len) = (config.data.batch, config.data.segment_len);
        let model = LanguageModel::new(config.model.clone(), 1, device)?;
        let states: Vec<ModelState> =
            model.initial_state(batch as i64).detach().split(config.train.num_parts());
        let training =
            LanguageModelTraining { model, precision: config.train.precision, memory: config.train.memory };
        let learner = Learner::new(training, states, LearnerConfig::of(&config), 1);
        Ok(Self { learner, text, batch, segment_len, num_steps: 0, device })
    }

    /// Returns a contestant that reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or has too few tokens, or such that the model does not know; as [`Self::new`].
    pub fn open(config: RunConfig, path: &Path, device: Device) -> Result<Self, ContestantError> {
        let name = || path.display().to_string();
        let text = std::fs::read(path).map_err(|source| ContestantError::Read { path: name(), source })?;
        let expected = config.data.tokens_per_step() as usize;
        if text.len() <= expected {
            return Err(ContestantError::Short { path: name(), expected, got: text.len() });
        }
        let vocab_size = config.model.vocab_size;
        if let Some(&got) = text.iter().find(|&&token| i64::from(token) >= vocab_size) {
            return Err(ContestantError::Vocabulary { path: name(), expected: vocab_size, got });
        }
        Ok(Self::new(config, text, device)?)
    }

    /// Returns the number of parameters.
    pub fn num_parameters(&self) -> u64 {
        self.model().params().named().iter().map(|(_, p)| p.numel() as u64).sum()
    }

    fn model(&self) -> &LanguageModel {
        &self.learner.model.model
    }

    /// Trains on the next segment of every row.
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub fn step(&mut self) -> Result<Stepped, TrainError> {
        synchronise(self.device);
        let (start, cpu) = (Instant::now(), brt_native::cpu_secs());
        let report = self.train()?;
        synchronise(self.device);
        Ok(Stepped {
            wall_secs: start.elapsed().as_secs_f64(),
            cpu_secs: brt_native::cpu_secs() - cpu,
            loss: report.loss_nats / report.num_scored as f64,
        })
    }

    /// Trains on the next segment of every row, without a clock.
    pub(crate) fn train(&mut self) -> Result<StepReport, TrainError> {
        let batch = self.batch();
        self.num_steps += 1;
        let num_parts = self.learner.states().len();
        self.learner.step(&batch.split(num_parts))
    }

    /// The next segment: row r reads its part of the text, and begins again at its end.
    fn batch(&self) -> SegmentBatch {
        let part = self.text.len() / self.batch;
        let token = |r: usize, i: usize| {
            let at = (self.num_steps * self.segment_len + i) % part;
            i64::from(self.text[r * part + at])
        };
        let all = |shift: usize| {
            let rows = (0..self.batch).flat_map(|r| (0..self.segment_len).map(move |i| (r, i)));
            rows.map(|(r, i)| token(r, i + shift)).collect::<Vec<_>>()
        };
        let count = self.batch * self.segment_len;
        SegmentBatch {
            batch: self.batch,
            segment_len: self.segment_len,
            tokens: all(0),
            targets: all(1),
            loss_mask: vec![1.; count],
            start_of_sequence: vec![self.num_steps == 0; self.batch],
            document_idx: vec![Some(0); self.batch],
            start_token: vec![self.num_steps * self.segment_len; self.batch],
            num_scored: count as u64,
        }
    }

    /// Generates the likeliest tokens after a prompt, one row.
    ///
    /// # Errors
    /// A text that is shorter than the prompt.
    pub fn generate(&self, options: ContestantOptions) -> Result<Generated, ContestantError> {
        let ContestantOptions { prompt_len, num_tokens } = options;
        let Some(prompt) = self.text.get(..prompt_len).filter(|prompt| !prompt.is_empty()) else {
            let (path, got) = ("the text".into(), self.text.len());
            return Err(ContestantError::Short { path, expected: prompt_len, got });
        };
        let prompt: Vec<i64> = prompt.iter().map(|&byte| byte.into()).collect();
        let halved = self.halved();
        synchronise(self.device);
        let (start, cpu) = (Instant::now(), brt_native::cpu_secs());
        let decoder = Decoder::new(halved.as_ref().unwrap_or_else(|| self.model()));
        let mut text = decoder.start();
        let mut logits = decoder.feed(&mut text, &prompt);
        for _ in 1..num_tokens {
            let token = logits.argmax(-1, false).int64_value(&[]);
            logits = decoder.step(&mut [&mut text], &[token]).squeeze_dim(0);
        }
        let _ = logits.argmax(-1, false).int64_value(&[]);
        synchronise(self.device);
        Ok(Generated {
            wall_secs: start.elapsed().as_secs_f64(),
            cpu_secs: brt_native::cpu_secs() - cpu,
            num_tokens,
            way: match halved {
                Some(_) => "matrices in bfloat16; keys, values and states kept; the prompt block by block",
                None => "in float32; keys, values and states kept; the prompt block by block",
            },
        })
    }

    /// Returns a copy of the model with its matrices in bfloat16, where it is trained so.
    fn halved(&self) -> Option<LanguageModel> {
        if self.learner.model.precision == Precision::F32 {
            return None;
        }
        let config = self.model().config().clone();
        let copy = LanguageModel::new(config, 1, self.device).expect("a configuration that a model has");
        tch::no_grad(|| {
            for ((_, mut own), (_, trained)) in
                copy.params().named().into_iter().zip(self.model().params().named())
            {
                own.copy_(&trained);
            }
        });
        Some(copy.into_bfloat16())
    }
}

/// Returns random tokens, the same each time.
pub(crate) fn noise(num_tokens: usize, vocab_size: i64) -> Vec<u8> {
    tch::manual_seed(1);
    let tokens = Tensor::randint(vocab_size.min(256), [num_tokens as i64], (Kind::Uint8, Device::Cpu));
    Vec::try_from(tokens).expect("bytes")
}
