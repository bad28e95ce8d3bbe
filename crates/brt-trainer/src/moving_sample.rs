//! Validation that goes on where the one before ended, as the 2022 release does it.

use std::sync::{Arc, atomic::AtomicBool};

use brt_data::{StreamCursor, TrainStream};
use brt_lm::{LanguageModel, ModelState};
use brt_report::{Evaluation, StateRule};

use crate::{
    HeldOut, RunConfig, Sample, TrainError, World,
    evaluate::{Scores, score, stream},
};

/// A place in an endless, shuffled stream of the validation documents, and what the rows carry there.
#[derive(Debug)]
pub(crate) struct MovingSample {
    stream: TrainStream,
    /// Caches and states of the rows.
    pub(crate) state: ModelState,
    held_out: HeldOut,
    seed: u64,
    world: World,
}

impl MovingSample {
    /// Returns the beginning of the stream; `None` where the configuration asks for another sample.
    pub(crate) fn new(
        model: &LanguageModel,
        held_out: &HeldOut,
        config: &RunConfig,
        seed: u64,
        world: World,
    ) -> Result<Option<Self>, TrainError> {
        if config.evaluation.sample != Some(Sample::Moving) {
            return Ok(None);
        }
        let config = stream(config, &world);
        let state = model.initial_state(config.own_rows().len() as i64).detach();
        let stream = TrainStream::new(Arc::clone(&held_out.set), config, seed)?;
        Ok(Some(Self { stream, state, held_out: held_out.clone(), seed, world }))
    }

    /// Scores the next batches, each process its rows; returns `None`, and stays where it is, soon after `stop` is set on any.
    pub(crate) fn evaluate(
        &mut self,
        stop: &AtomicBool,
        model: &LanguageModel,
        config: &RunConfig,
    ) -> Result<Option<Evaluation>, TrainError> {
        let before = self.cursor();
        let num_batches = config.evaluation.num_batches.unwrap_or(1);
        let batches = (0..num_batches).map(|_| self.stream.next_batch());
        let state = self.state.map(tch::Tensor::shallow_clone);
        let set = &self.held_out.set;
        let scored = score(stop, &self.world, model, set, batches, (state, StateRule::Carried))?;
        let Some((scores, state)) = scored else {
            self.seek(config, before)?;
            return Ok(None);
        };
        let scores = Scores::of_all(&self.world, set, scores)?;
        self.state = state.detach();
        Ok(Some(scores.evaluation(self.held_out.split, StateRule::Carried, config)))
    }

    /// Returns the place in the stream.
    pub(crate) fn cursor(&self) -> StreamCursor {
        self.stream.cursor()
    }

    /// Goes to a place of the stream.
    pub(crate) fn seek(&mut self, config: &RunConfig, cursor: StreamCursor) -> Result<(), TrainError> {
        self.stream = TrainStream::resume(
            Arc::clone(&self.held_out.set),
            stream(config, &self.world),
            self.seed,
            cursor,
        )?;
        Ok(())
    }
}
