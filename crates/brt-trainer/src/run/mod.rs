//! A run from its configuration to its result, in a folder that can be left at any moment.

mod checks;
mod options;

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use brt_data::{Split, TokenSet};
use brt_report::{MetricsLine, RunResult, StateRule, read_json, write_json};

use self::checks::{Corpus, check_same, check_shared, check_space, facts, seen};
pub use self::options::{Progress, Resume, RunOptions, RunOutcome};
use crate::{
    HeldOut, RunConfig, TrainError, Trainer, World,
    checkpoint::{self, Keep, TrainerRecord},
    evaluate::evaluate_until,
    folder, latest_checkpoint, machine_facts,
    meters::{Meters, Totals},
    model_facts,
    moving_sample::MovingSample,
    sinks::Sinks,
    statistics::statistics,
};

/// A run: a trainer, its folder, and what was measured so far.
#[derive(Debug)]
pub struct Run {
    trainer: Trainer,
    options: RunOptions,
    training_set: Arc<TokenSet>,
    validation: HeldOut,
    moving: Option<MovingSample>,
    test: HeldOut,
    curve: Vec<MetricsLine>,
    meters: Meters,
    /// Rank 0 writes the metrics.
    sinks: Option<Sinks>,
    bytes_per_token: f64,
    /// Whether the run ends before its last step; all processes know it at the same step.
    is_stopping: bool,
    world: World,
    _lock: Option<File>, // Held by rank 0 as long as the run lives.
}

impl Run {
    /// Opens the corpus and makes or enters the run's folder.
    ///
    /// # Errors
    /// Everything that a user can get wrong is found here, before the first step: the corpus, the configuration, a
    /// folder that cannot be written or holds another run.
    pub fn new(config: RunConfig, options: RunOptions) -> Result<Self, TrainError> {
        Self::in_world(config, options, World::alone())
    }

    /// As [`Self::new`], with other processes that train the same run on their rows of each batch. All hosts share the
    /// run's folder, in which rank 0 writes model, optimiser, metrics and result, and each process the states of its rows.
    ///
    /// # Errors
    /// As [`Self::new`], on all processes whichever has it; [`TrainError::Differs`] where they do not train the same.
    pub fn in_world(config: RunConfig, options: RunOptions, world: World) -> Result<Self, TrainError> {
        let corpus = world.agree(Corpus::open(&config, &options, &world))?;
        check_same(&world.exchange(facts(&config, &options, &corpus))?)?;
        let Corpus { manifest, training_set, validation, test } = corpus;
        let (set, device) = (Arc::clone(&training_set), options.device);
        let trainer = Trainer::in_world(config, set, options.seed, device, world.clone())?;
        let mut lock = None;
        world.on_main(|| {
            check_space(&trainer, &options)?;
            lock = Some(folder::enter(&options.out, trainer.config(), options.resume)?);
            folder::keep_tokenizer(&options.out, &options.data, &manifest, trainer.config())
        })?;
        check_shared(&world, &options.out)?;
        let entered = Self::enter(trainer, &validation, &options, &training_set);
        let (trainer, moving, meters, curve) = world.agree(entered)?;
        check_same(&world.exchange(seen(&trainer, &curve, &options))?)?;
        let mut sinks = None;
        world.on_main(|| {
            sinks = Some(Sinks::begin(&options.out, &trainer.config().train.sinks, &curve)?);
            Ok(())
        })?;
        let counts = manifest.splits.get(&Split::Train).copied().unwrap_or_default();
        let bytes_per_token = counts.num_bytes as f64 / counts.num_tokens.max(1) as f64;
        Ok(Self {
            trainer,
            options,
            training_set,
            validation,
            moving,
            test,
            curve,
            meters,
            sinks,
            bytes_per_token,
            is_stopping: false,
            world,
            _lock: lock,
        })
    }

    /// Runs to the end, or until `stop` is set: then it saves and returns.
    ///
    /// # Errors
    /// A file that cannot be written, or a loss that is not finite. The last checkpoint stays.
    pub fn run(
        mut self,
        stop: &AtomicBool,
        mut observe: impl FnMut(&Progress),
    ) -> Result<RunOutcome, TrainError> {
        let result_path = self.options.out.join("result.json");
        if result_path.exists() {
            return Ok(RunOutcome::Finished(Box::new(read_json(&result_path, "the result of a run")?)));
        }
        if self.trainer.num_steps() > 0 {
            observe(&Progress::Resumed(self.trainer.num_steps()));
            // What was due when the run was interrupted; its checkpoint is there.
            if self.log(stop, &mut observe)? {
                self.meters.kept(Some(self.trainer.num_steps()));
            }
        }
        while !self.is_stopping && self.trainer.num_steps() < self.trainer.config().train.num_steps {
            if stop.load(Ordering::Relaxed) {
                self.trainer.learner.request_stop();
            }
            let report = self.meters.step(&mut self.trainer)?;
            self.is_stopping = report.is_stop_requested;
            observe(&Progress::Step(report));
            let is_best = self.log(stop, &mut observe)?;
            self.see_stop(stop);
            self.save_if_due(is_best, &mut observe)?;
        }
        let result = if self.is_stopping { None } else { self.result(stop, &mut observe)? };
        let Some(result) = result else {
            return Ok(RunOutcome::Interrupted { num_steps: self.trainer.num_steps() });
        };
        self.world.on_main(|| Ok(write_json(&result_path, &result)?))?;
        Ok(RunOutcome::Finished(Box::new(result)))
    }

    /// Ends the run where it is asked to; several processes must first agree, which they do in their next step.
    fn see_stop(&mut self, stop: &AtomicBool) {
        self.is_stopping |= self.world.size() == 1 && stop.load(Ordering::Relaxed);
    }

    /// Returns whether something that is done every so many steps is due, as everything is after the last one.
    fn is_due(&self, every: u64) -> bool {
        let (step, num_steps) = (self.trainer.num_steps(), self.trainer.config().train.num_steps);
        every > 0 && (step.is_multiple_of(every) || step == num_steps)
    }

    /// Adds a line to the metrics, with the validation loss and the statistics, where they are due; returns whether the
    /// validation loss is the best so far. Where `stop` is set meanwhile, the line waits until the run goes on.
    fn log(&mut self, stop: &AtomicBool, observe: &mut impl FnMut(&Progress)) -> Result<bool, TrainError> {
        let (step, config) = (self.trainer.num_steps(), self.trainer.config());
        let train = &config.train;
        let dues =
            [train.log_every, train.validate_every, train.statistics_every].map(|every| self.is_due(every));
        if !dues.contains(&true) || self.curve.last().is_some_and(|line| line.step == step) {
            return Ok(false);
        }
        let (mut validation, mut seen) = (None, BTreeMap::new());
        if dues[1] {
            let (model, world) = (self.trainer.model(), &self.world);
            let scored = match &mut self.moving {
                Some(moving) => moving.evaluate(stop, model, config)?,
                None => evaluate_until(stop, world, model, &self.validation, config, StateRule::Carried)?,
            };
            let Some(scored) = scored else {
                self.is_stopping = true;
                return Ok(false);
            };
            validation = Some(scored.mean_bits_per_byte()).filter(|bits| bits.is_finite());
        }
        if dues[2] {
            let model = self.trainer.model();
            let work = || statistics(model, &self.validation, config);
            seen = self.world.agree(if self.world.is_main() { work() } else { Ok(seen) })?;
            seen.retain(|_, number| number.is_finite()); // JSON has no other numbers.
        }
        let Some(line) = self.meters.line(step, self.bytes_per_token) else { return Ok(false) };
        let line = MetricsLine { validation_bits_per_byte: validation, statistics: seen, ..line };
        observe(&Progress::Logged(line.clone()));
        self.curve.push(line);
        if let Some(sinks) = &mut self.sinks {
            sinks.append(&self.curve);
        }
        Ok(validation.is_some_and(|bits| self.meters.validated(step, bits)))
    }

    /// Writes a checkpoint where one is due. One that cannot be written is told, and training goes on, unless the run ends
    /// here.
    fn save_if_due(&mut self, is_best: bool, observe: &mut impl FnMut(&Progress)) -> Result<(), TrainError> {
        let train = &self.trainer.config().train;
        let ends = self.is_stopping || self.trainer.num_steps() == train.num_steps;
        if !(self.is_due(train.checkpoint_every) || ends || (train.keep_best && is_best)) {
            return Ok(());
        }
        match self.save() {
            Ok(path) => observe(&Progress::Saved(path)),
            Err(error) if ends || !error.is_of_disk() => return Err(error),
            Err(error) => observe(&Progress::NotSaved(error.whole_text())),
        }
        Ok(())
    }

    /// Writes a checkpoint and returns its folder.
    fn save(&mut self) -> Result<PathBuf, TrainError> {
        self.world.agree(self.trainer.learner.check_finite())?;
        self.trainer.learner.check_same()?;
        let train = &self.trainer.config().train;
        let best = self.meters.best_to_keep(self.trainer.num_steps()).filter(|_| train.keep_best);
        let keep = Keep { last: train.keep_last, every: train.keep_every, best };
        let record = TrainerRecord {
            format: checkpoint::FORMAT,
            num_steps: self.trainer.num_steps(),
            num_updates: self.trainer.learner.optimizer().num_steps(),
            seed: self.options.seed,
            world_size: self.world.size(),
            cursor: Some(self.trainer.cursor()),
            validation_cursor: self.moving.as_ref().map(MovingSample::cursor),
            totals: Totals { kept_best: best, ..self.meters.totals() },
            sha256: Default::default(),
        };
        let synced = self.sinks.as_mut().map_or(Ok(()), |sinks| sinks.sync(&self.curve));
        self.world.agree(synced)?;
        let files = checkpoint::files(&self.trainer, self.moving.as_ref());
        let written = checkpoint::write(&self.world, &self.options.out, &files, record, keep)?;
        self.meters.kept(best);
        Ok(written)
    }

    /// Goes on from the last checkpoint, where the folder holds one; later lines of the metrics are dropped.
    fn enter(
        mut trainer: Trainer,
        validation: &HeldOut,
        options: &RunOptions,
        training_set: &Arc<TokenSet>,
    ) -> Result<(Trainer, Option<MovingSample>, Meters, Vec<MetricsLine>), TrainError> {
        let (config, world) = (trainer.config(), trainer.world.clone());
        let mut moving = MovingSample::new(trainer.model(), validation, config, options.seed, world)?;
        let (mut num_steps, mut meters) = (0, Meters::default());
        if let Some(checkpoint) = latest_checkpoint(&options.out)? {
            let record = checkpoint::read(&checkpoint, &mut trainer, training_set)?;
            tracing::info!(path = %checkpoint.display(), "going on from a checkpoint");
            if let Some(moving) = &mut moving {
                checkpoint::read_validation(&checkpoint, &record, &trainer, moving)?;
            }
            num_steps = record.num_steps;
            meters = Meters::resume(record.totals);
        }
        let curve = folder::read_metrics(&options.out, num_steps)?;
        Ok((trainer, moving, meters, curve))
    }

    /// Scores the test documents and returns the result; `None` where `stop` was set meanwhile.
    fn result(
        &self,
        stop: &AtomicBool,
        observe: &mut impl FnMut(&Progress),
    ) -> Result<Option<RunResult>, TrainError> {
        let (trainer, config) = (&self.trainer, self.trainer.config());
        let mut score = |rule| {
            observe(&Progress::Testing(rule));
            evaluate_until(stop, &self.world, trainer.model(), &self.test, config, rule)
        };
        let Some(test) = score(StateRule::Carried)? else { return Ok(None) };
        let test_state_reset = match config.model.recurrence {
            Some(_) => score(StateRule::Reset)?,
            None => None,
        };
        if self.world.any(stop.load(Ordering::Relaxed))? {
            return Ok(None);
        }
        Ok(Some(RunResult {
            name: self.options.name.clone(),
            seed: self.options.seed,
            config_toml: config.to_toml(),
            corpus_sha256: self.training_set.manifest_sha256().into(),
            model: model_facts(config, trainer.model().params().num_parameters()),
            training: self.meters.facts(trainer),
            curve: self.curve.clone(),
            test,
            test_state_reset,
            machine: machine_facts(self.options.device),
            build: self.options.build.clone(),
        }))
    }
}
