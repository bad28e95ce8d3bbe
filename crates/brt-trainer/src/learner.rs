//! The training step, of any model: gradient, guard, clipping, update; state carried from step to step.

use std::time::Instant;

use brt_native::GradientReducer;
use brt_ops::init::seeded;
use tch::{Kind, Tensor};

use crate::{
    Model, NonFinite, Optimizer, OptimizerConfig, ScheduleConfig, TrainError, World,
    finite::{first_not_finite, named_states, read, sum_of_states},
};

/// How a [`Learner`] trains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearnerConfig {
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// The learning rate.
    pub schedule: ScheduleConfig,
    /// Number of steps that are scheduled.
    pub num_steps: u64,
    /// Largest norm of the gradient over all parameters; larger ones are scaled down to it.
    pub max_gradient_norm: Option<f64>,
    /// What happens where the loss or a gradient is not finite.
    pub non_finite: NonFinite,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Number of finished steps, this one included.
    pub step: u64,
    /// Sum of the losses of the scored tokens of all processes, in nats; perhaps not finite in a step that was skipped.
    pub loss_nats: f64,
    /// Number of scored tokens of all processes.
    pub num_scored: u64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// Norm of the gradient of the mean loss over all parameters, before it was clipped.
    pub gradient_norm: f64,
    /// Whether the update was left out, because the loss or a gradient was not finite.
    pub is_skipped: bool,
    /// Bytes of gradients that were summed over processes.
    pub reduced_bytes: u64,
    /// Time from the end of the backward pass to the end of those sums, in seconds; on GPUs with what is left of that pass.
    pub reduce_secs: f64,
    /// Whether this was asked to be the last step ([`Learner::request_stop`]) on any process.
    pub is_stop_requested: bool,
}

/// A model in training: parameters, optimiser, and the states that are carried.
#[derive(Debug)]
pub struct Learner<M: Model> {
    /// The model.
    pub model: M,
    pub(crate) optimizer: Optimizer,
    pub(crate) states: Vec<M::State>,
    config: LearnerConfig,
    seed: u64,
    num_steps: u64,
    parameters: Vec<(String, Tensor)>,
    world: World,
    reducer: Option<GradientReducer>,
    is_stop_requested: bool,
}

impl<M: Model> Learner<M> {
    /// Returns a learner at step 0. `states` are those before the first step, one for each part of its batches;
    /// `seed` decides random numbers within steps.
    pub fn new(model: M, states: Vec<M::State>, config: LearnerConfig, seed: u64) -> Self {
        let parameters = model.parameters();
        let shared = parameters.iter().map(|(name, p)| (name.clone(), p.shallow_clone())).collect();
        let optimizer = Optimizer::new(config.optimizer, shared);
        Self {
            model,
            optimizer,
            states,
            config,
            seed,
            num_steps: 0,
            parameters,
            world: World::alone(),
            reducer: None,
            is_stop_requested: false,
        }
    }

    /// Returns the learner as one of several that train together: gradients, losses and decisions are those of the batches
    /// of all. The parameters become those of rank 0.
    ///
    /// # Errors
    /// [`TrainError::Group`], also where another process has other parameters.
    pub fn in_world(self, world: World) -> Result<Self, TrainError> {
        let parameters: Vec<Tensor> = self.parameters.iter().map(|(_, p)| p.shallow_clone()).collect();
        let reducer = world.reducer(&parameters)?;
        Ok(Self { world, reducer, ..self })
    }

    /// Asks for an end after the next step: all processes see it in the step's report.
    pub fn request_stop(&mut self) {
        self.is_stop_requested = true;
    }

    /// Trains on a batch that comes in parts, as many as there are states: their gradients are added, and the step is
    /// that of the parts as one batch.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] under [`NonFinite::Stop`] where the loss, a gradient or the state after the batch is not
    /// finite; parameters and states are then as before the step. [`TrainError::Group`] where another process has ended.
    ///
    /// # Panics
    /// Where the number of parts is not that of the states.
    pub fn step(&mut self, parts: &[M::Batch]) -> Result<StepReport, TrainError> {
        assert_eq!(parts.len(), self.states.len(), "step: one part of the batch for each state");
        let learning_rate = self.config.schedule.learning_rate(self.num_steps, self.config.num_steps);
        let own_scored: u64 = parts.iter().map(M::num_scored).sum();
        let [num_scored] = self.world.sum([own_scored as f64])?;
        if num_scored.is_nan() {
            self.world.agree(Ok(()))?; // Another process has no batch, and says why.
        }
        let num_scored = num_scored as u64;
        let (loss_nats, mut after) = self.add_gradients(parts, num_scored);
        let (reduced_bytes, reduce_secs) = self.await_sums()?;
        // What all must decide alike is summed: the loss, how many have a state that is not finite or want to stop, and the
        // gradient norm of rank 0, for its last bits may be others on another processor.
        let norm = if self.world.is_main() { self.gradient_norm() } else { None };
        let [loss_nats, states, norm] = read([loss_nats, sum_of_states::<M>(&after), norm]);
        let flag = |is_set: bool| f64::from(u8::from(is_set));
        let [is_broken, is_last] = [!states.is_finite(), self.is_stop_requested].map(flag);
        let [loss_nats, num_broken, num_last, gradient_norm] =
            self.world.sum([loss_nats, is_broken, is_last, norm])?;
        let is_skipped = !(loss_nats.is_finite() && gradient_norm.is_finite() && num_broken == 0.);
        if is_skipped {
            let (step, (what, got)) =
                (self.num_steps + 1, self.first_not_finite(&after, loss_nats, gradient_norm));
            if self.config.non_finite == NonFinite::Stop {
                return Err(TrainError::NotFinite { step, what, got });
            }
            tracing::warn!(step, what, got, "not finite: the update is left out");
            let parts = parts.iter().zip(&self.states);
            after = parts.map(|(batch, before)| self.model.skip(batch, before)).collect();
        } else {
            self.clip(gradient_norm);
            self.optimizer.step(learning_rate);
        }
        self.states = after;
        self.num_steps += 1;
        let step = self.num_steps;
        let is_stop_requested = num_last > 0.;
        Ok(StepReport {
            step,
            loss_nats,
            num_scored,
            learning_rate,
            gradient_norm,
            is_skipped,
            reduced_bytes,
            reduce_secs,
            is_stop_requested,
        })
    }

    /// Returns the sum of this process's losses and the states after them, and leaves the gradient of the mean loss of all,
    /// or its sums under way.
    fn add_gradients(&mut self, parts: &[M::Batch], num_scored: u64) -> (Option<Tensor>, Vec<M::State>) {
        match &mut self.reducer {
            Some(reducer) => reducer.clear(),
            None => brt_native::drop_gradients(self.parameters.iter().map(|(_, p)| p)),
        }
        let (mut losses, mut after) = (vec![], vec![]);
        for (idx, (batch, before)) in parts.iter().zip(&self.states).enumerate() {
            // Dropout depends on seed, step and rows alone: a resumed run draws what the uninterrupted one would, and parts
            // of one process what as many processes would.
            let part_idx = self.world.rank() * parts.len() + idx;
            let part = if part_idx == 0 { String::new() } else { format!(", part {part_idx}") };
            let stream = format!("step {}{part}", self.num_steps);
            if let Some(reducer) = self.reducer.as_mut().filter(|_| idx + 1 == parts.len()) {
                reducer.begin();
            }
            let (nats, state) = brt_native::segments(|segments| {
                let (nats, state) = seeded(self.seed, &stream, || self.model.loss(batch, before, segments));
                segments.backward(&(&nats / num_scored.max(1) as f64));
                (nats.detach(), M::detach(&state)) // Backpropagation through time ends with the segment.
            });
            losses.push(nats.to_kind(Kind::Double));
            after.push(state);
        }
        (losses.into_iter().reduce(|sum, nats| sum + nats), after)
    }

    /// Waits for the sums of gradients over all processes; returns the number of their bytes, and the time in seconds.
    fn await_sums(&mut self) -> Result<(u64, f64), TrainError> {
        let Some(reducer) = &mut self.reducer else { return Ok((0, 0.)) };
        let start = Instant::now();
        Ok((reducer.wait()?, start.elapsed().as_secs_f64()))
    }

    /// Says to the other processes, which are in their next step, why this one cannot make it; the error is then theirs, too.
    pub(crate) fn give_up<T>(&self, error: TrainError) -> Result<T, TrainError> {
        self.world.sum([f64::NAN])?;
        self.world.agree(Err(error))
    }

    /// Returns the number of finished steps, those that were skipped included.
    pub fn num_steps(&self) -> u64 {
        self.num_steps
    }

    /// Returns the optimiser, whose moments and number of updates are part of what a checkpoint needs.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Sets the numbers of finished steps and of updates, when parameters, moments ([`Optimizer::named`]) and states
    /// ([`Self::states_mut`]) are those of a checkpoint.
    pub fn resume(&mut self, num_steps: u64, num_updates: u64) {
        self.num_steps = num_steps;
        self.optimizer.set_num_steps(num_updates);
    }

    /// Returns the states that are carried to the next step, one for each part of a batch.
    pub fn states(&self) -> &[M::State] {
        &self.states
    }

    /// Returns the states to change them, as where a text begins.
    pub fn states_mut(&mut self) -> &mut [M::State] {
        &mut self.states
    }

    /// Checks that the last update left every parameter finite: what must not be saved must be found before.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] with the first parameter that is not.
    pub fn check_finite(&self) -> Result<(), TrainError> {
        let parameters = self.parameters.iter().map(|(name, p)| (name.clone(), p.shallow_clone()));
        match first_not_finite(parameters) {
            Some((what, got)) => Err(TrainError::NotFinite { step: self.num_steps, what, got }),
            None => Ok(()),
        }
    }

    /// Checks that all processes still have the same parameters, by checksums of their bits.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] with the first process that has others.
    pub(crate) fn check_same(&self) -> Result<(), TrainError> {
        let checksum = || {
            let bits = |(_, p): &(String, Tensor)| {
                p.detach().view_dtype(Kind::Int).sum(Kind::Int64).int64_value(&[])
            };
            self.parameters.iter().map(bits).fold(0i64, |sum, bits| sum.wrapping_mul(31).wrapping_add(bits))
        };
        let own = if self.world.size() == 1 { 0 } else { checksum() };
        let all = self.world.exchange(own)?;
        let other = all.iter().position(|checksum| *checksum != all[0]);
        other.map_or(Ok(()), |rank| Err(TrainError::Diverged { step: self.num_steps, rank }))
    }

    fn gradient_norm(&self) -> Option<Tensor> {
        let gradients = self.gradients();
        let squares: Vec<Tensor> = gradients.iter().map(|(_, g)| g.square().sum(Kind::Float)).collect();
        (!squares.is_empty()).then(|| Tensor::stack(&squares, 0).sum(Kind::Float).sqrt())
    }

    /// Scales gradients of this norm down to the largest that is allowed.
    fn clip(&self, norm: f64) {
        let Some(factor) = self.config.max_gradient_norm.map(|max| max / norm).filter(|&f| f < 1.) else {
            return;
        };
        for (_, mut gradient) in self.gradients() {
            let _ = gradient.g_mul_scalar_(factor);
        }
    }

    fn gradients(&self) -> Vec<(&str, Tensor)> {
        let gradients = self.parameters.iter().map(|(name, p)| (name.as_str(), p.grad()));
        gradients.filter(|(_, gradient)| gradient.defined()).collect()
    }

    /// Returns name and value of the first thing in a step that is not finite, from its source on.
    fn first_not_finite(&self, after: &[M::State], loss_nats: f64, gradient_norm: f64) -> (String, f64) {
        let parameters =
            self.parameters.iter().map(|(name, p)| (format!("parameter {name}"), p.shallow_clone()));
        let states = |states, place: &'static str| named_states::<M>(states, place);
        let gradients = self.gradients().into_iter().map(|(name, g)| (format!("gradient of {name}"), g));
        let known = parameters.chain(states(&self.states, "state")).chain(gradients);
        let first = first_not_finite(known.chain(states(after, "state after the step")));
        let (loss, norm) = (("loss".to_owned(), loss_nats), ("gradient norm".to_owned(), gradient_norm));
        let elsewhere = || ("state of another process".to_owned(), f64::NAN);
        let number = [loss, norm].into_iter().find(|(_, number)| !number.is_finite());
        first.or(number).unwrap_or_else(elsewhere)
    }
}
