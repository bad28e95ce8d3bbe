//! A run from its configuration to its result, in a folder that can be left at any moment.

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

use brt_data::{Manifest, Split, TokenSet};
use brt_report::{MetricsLine, RunResult, StateRule, read_json, write_json};

pub use self::options::{Progress, Resume, RunOptions, RunOutcome};
use crate::{
    HeldOut, RunConfig, TrainError, Trainer,
    checkpoint::{self, Keep, TrainerRecord},
    evaluate::evaluate_until,
    folder, latest_checkpoint, machine_facts,
    meters::{Meters, Totals},
    model_facts,
    moving_sample::MovingSample,
    sinks::Sinks,
    statistics::statistics,
};

/// Size up to which the files of a corpus are read and checked before the first step: some seconds. For larger ones
/// there is `brt data verify`.
const MAX_VERIFIED_BYTES: u64 = 1 << 30;

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
    sinks: Sinks,
    bytes_per_token: f64,
    _lock: File, // Held as long as the run lives.
}

impl Run {
    /// Opens the corpus and makes or enters the run's folder.
    ///
    /// # Errors
    /// Everything that a user can get wrong is found here, before the first step: the corpus, the configuration, a
    /// folder that cannot be written or holds another run.
    pub fn new(config: RunConfig, options: RunOptions) -> Result<Self, TrainError> {
        let manifest = Manifest::read(&options.data)?;
        if manifest.file_bytes() <= MAX_VERIFIED_BYTES {
            brt_data::verify(&options.data, &mut |_, _| ())?;
        }
        let training_set = Arc::new(TokenSet::open(&options.data, Split::Train)?);
        let validation = HeldOut::open(&options.data, Split::Validation)?;
        let test = HeldOut::open(&options.data, Split::Test)?;
        validation.check(&config)?;
        test.check(&config)?;
        let trainer = Trainer::new(config, Arc::clone(&training_set), options.seed, options.device)?;
        check_space(&trainer, &options)?;
        let lock = folder::enter(&options.out, trainer.config(), options.resume)?;
        folder::keep_tokenizer(&options.out, &options.data, &manifest, trainer.config())?;
        let sinks = trainer.config().train.sinks.clone();
        let mut moving = MovingSample::new(trainer.model(), &validation, trainer.config(), options.seed)?;
        let (trainer, meters, curve) = Self::enter(trainer, moving.as_mut(), &options, &training_set)?;
        let sinks = Sinks::begin(&options.out, &sinks, &curve)?;
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
        while self.trainer.num_steps() < self.trainer.config().train.num_steps {
            let report = self.meters.step(&mut self.trainer)?;
            observe(&Progress::Step(report));
            let is_best = self.log(stop, &mut observe)?;
            self.save_if_due(is_best, stop, &mut observe)?;
            if stop.load(Ordering::Relaxed) {
                return Ok(RunOutcome::Interrupted { num_steps: report.step });
            }
        }
        let Some(result) = self.result(stop, &mut observe)? else {
            return Ok(RunOutcome::Interrupted { num_steps: self.trainer.num_steps() });
        };
        write_json(&result_path, &result)?;
        Ok(RunOutcome::Finished(Box::new(result)))
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
            let model = self.trainer.model();
            let scored = match &mut self.moving {
                Some(moving) => moving.evaluate(stop, model, config)?,
                None => evaluate_until(stop, model, &self.validation, config, StateRule::Carried)?,
            };
            let Some(scored) = scored else { return Ok(false) };
            validation = Some(scored.mean_bits_per_byte()).filter(|bits| bits.is_finite());
        }
        if dues[2] {
            seen = statistics(self.trainer.model(), &self.validation, config)?;
            seen.retain(|_, number| number.is_finite()); // JSON has no other numbers.
        }
        let Some(line) = self.meters.line(step, self.bytes_per_token) else { return Ok(false) };
        let line = MetricsLine { validation_bits_per_byte: validation, statistics: seen, ..line };
        observe(&Progress::Logged(line.clone()));
        self.curve.push(line);
        self.sinks.append(&self.curve);
        Ok(validation.is_some_and(|bits| self.meters.validated(step, bits)))
    }

    /// Writes a checkpoint where one is due. One that cannot be written is told, and training goes on, unless the run ends
    /// here.
    fn save_if_due(
        &mut self,
        is_best: bool,
        stop: &AtomicBool,
        observe: &mut impl FnMut(&Progress),
    ) -> Result<(), TrainError> {
        let train = &self.trainer.config().train;
        let ends = stop.load(Ordering::Relaxed) || self.trainer.num_steps() == train.num_steps;
        if !(self.is_due(train.checkpoint_every) || ends || (train.keep_best && is_best)) {
            return Ok(());
        }
        match self.save() {
            Ok(path) => observe(&Progress::Saved(path)),
            Err(error) if ends || matches!(error, TrainError::NotFinite { .. }) => return Err(error),
            Err(error) => observe(&Progress::NotSaved(error.whole_text())),
        }
        Ok(())
    }

    /// Writes a checkpoint and returns its folder.
    fn save(&mut self) -> Result<PathBuf, TrainError> {
        self.trainer.learner.check_finite()?;
        let train = &self.trainer.config().train;
        let best = self.meters.best_to_keep(self.trainer.num_steps()).filter(|_| train.keep_best);
        let keep = Keep { last: train.keep_last, every: train.keep_every, best };
        let record = TrainerRecord {
            format: checkpoint::FORMAT,
            num_steps: self.trainer.num_steps(),
            num_updates: self.trainer.learner.optimizer().num_steps(),
            seed: self.options.seed,
            cursor: Some(self.trainer.cursor()),
            validation_cursor: self.moving.as_ref().map(MovingSample::cursor),
            totals: Totals { kept_best: best, ..self.meters.totals() },
            sha256: Default::default(),
        };
        self.sinks.sync(&self.curve)?;
        let files = checkpoint::files(&self.trainer, self.moving.as_ref());
        let written = checkpoint::write(&self.options.out, &files, record, keep)?;
        self.meters.kept(best);
        Ok(written)
    }

    /// Goes on from the last checkpoint, where the folder holds one; later lines of the metrics are dropped.
    fn enter(
        mut trainer: Trainer,
        moving: Option<&mut MovingSample>,
        options: &RunOptions,
        training_set: &Arc<TokenSet>,
    ) -> Result<(Trainer, Meters, Vec<MetricsLine>), TrainError> {
        let (mut num_steps, mut meters) = (0, Meters::default());
        if let Some(checkpoint) = latest_checkpoint(&options.out)? {
            let record = checkpoint::read(&checkpoint, &mut trainer, training_set)?;
            tracing::info!(path = %checkpoint.display(), "going on from a checkpoint");
            if let Some(moving) = moving {
                checkpoint::read_validation(&checkpoint, &record, trainer.config(), moving)?;
            }
            num_steps = record.num_steps;
            meters = Meters::resume(record.totals);
        }
        let curve = folder::read_metrics(&options.out, num_steps)?;
        Ok((trainer, meters, curve))
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
            evaluate_until(stop, trainer.model(), &self.test, config, rule)
        };
        let Some(test) = score(StateRule::Carried)? else { return Ok(None) };
        let test_state_reset = match config.model.recurrence {
            Some(_) => score(StateRule::Reset)?,
            None => None,
        };
        if stop.load(Ordering::Relaxed) {
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

/// Checks that there is room for the checkpoints that a run keeps, beside those that it has.
fn check_space(trainer: &Trainer, options: &RunOptions) -> Result<(), TrainError> {
    if options.out.join("result.json").exists() {
        return Ok(());
    }
    let checkpoints = checkpoint::count(&options.out)?;
    let num_checkpoints = trainer.config().train.num_kept().saturating_sub(checkpoints).max(1);
    let checkpoint_bytes = checkpoint::num_bytes(&checkpoint::files(trainer, None));
    folder::check_space(&options.out, checkpoint_bytes, num_checkpoints)
}
