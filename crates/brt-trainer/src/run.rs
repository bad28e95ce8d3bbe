//! A run from its configuration to its result, in a folder that can be left at any moment.

use std::{
    collections::VecDeque,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use brt_data::{Split, TokenSet};
use brt_report::{
    BuildFacts, MetricsLine, RunResult, StateRule, TrainingFacts, read_json, write_atomic, write_json,
};
use tch::Device;

use crate::{
    RunConfig, StepReport, TrainError, Trainer,
    checkpoint::{self, TrainerRecord},
    evaluate,
    evaluate::evaluate_until,
    latest_checkpoint, machine_facts, model_facts,
};

/// What a run needs beside its configuration.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Name of the run's configuration.
    pub name: String,
    /// Folder of the prepared corpus.
    pub data: PathBuf,
    /// Folder that the run writes.
    pub out: PathBuf,
    /// Seed of parameters, data order and dropout.
    pub seed: u64,
    /// Device of the model.
    pub device: Device,
    /// Whether to go on from what the folder holds.
    pub resume: Resume,
    /// What the program was built from.
    pub build: BuildFacts,
}

/// What to do with a folder that already holds a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Refuse it.
    Never,
    /// Go on from its last checkpoint, or return its result.
    IfThere,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RunOutcome {
    /// All steps are done and the result is written.
    Finished(Box<RunResult>),
    /// It was asked to stop, and saved its checkpoint after this many steps.
    Interrupted {
        /// Number of finished steps.
        num_steps: u64,
    },
}

/// What a run reports while it works.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// It goes on from a checkpoint of this many steps.
    Resumed(u64),
    /// A step is done.
    Step(StepReport),
    /// A line was written to `metrics.jsonl`.
    Logged(MetricsLine),
    /// A file of this kind was written.
    Saved(PathBuf),
    /// The test documents are being scored.
    Testing(StateRule),
}

/// A run: a trainer, its folder, and what was measured so far.
#[derive(Debug)]
pub struct Run {
    trainer: Trainer,
    options: RunOptions,
    sets: [Arc<TokenSet>; 3], // train, validation, test
    curve: Vec<MetricsLine>,
    pending: Pending,
    num_tokens: u64,
    elapsed_secs: f64,
    cpu_secs: f64,
    num_resumes: u64,
    step_secs: VecDeque<f64>,
}

/// Sums since the last line of `metrics.jsonl`.
#[derive(Debug, Default)]
struct Pending {
    loss_nats: f64,
    num_tokens: u64,
    step_secs: Vec<f64>,
}

impl Run {
    /// Opens the corpus and makes or enters the run's folder.
    ///
    /// # Errors
    /// Everything that a user can get wrong is found here, before the first step: the corpus, the configuration, a
    /// folder that cannot be written or holds another run.
    pub fn new(config: RunConfig, options: RunOptions) -> Result<Self, TrainError> {
        let open = |split| TokenSet::open(&options.data, split).map(Arc::new);
        let sets = [open(Split::Train)?, open(Split::Validation)?, open(Split::Test)?];
        enter(&config, &options)?;
        let trainer = Trainer::new(config, Arc::clone(&sets[0]), options.seed, options.device)?;
        let mut run = Self {
            trainer,
            options,
            sets,
            curve: vec![],
            pending: Pending::default(),
            num_tokens: 0,
            elapsed_secs: 0.,
            cpu_secs: 0.,
            num_resumes: 0,
            step_secs: VecDeque::new(),
        };
        run.resume()?;
        Ok(run)
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
        }
        let train = self.trainer.config().train;
        while self.trainer.num_steps() < train.num_steps {
            let report = self.step()?;
            observe(&Progress::Step(report));
            let last = report.step == train.num_steps;
            if report.step.is_multiple_of(train.log_every) || last {
                observe(&Progress::Logged(self.log(&report)?));
            }
            let interrupted = stop.load(Ordering::Relaxed);
            if report.step.is_multiple_of(train.checkpoint_every) || last || interrupted {
                observe(&Progress::Saved(self.save()?));
            }
            if interrupted {
                return Ok(RunOutcome::Interrupted { num_steps: report.step });
            }
        }
        let Some(result) = self.result(stop, &mut observe)? else {
            return Ok(RunOutcome::Interrupted { num_steps: train.num_steps });
        };
        write_json(&result_path, &result)?;
        Ok(RunOutcome::Finished(Box::new(result)))
    }

    fn step(&mut self) -> Result<StepReport, TrainError> {
        let (start, cpu) = (Instant::now(), brt_native::cpu_secs());
        let report = self.trainer.step()?;
        let secs = start.elapsed().as_secs_f64();
        self.elapsed_secs += secs;
        self.cpu_secs += brt_native::cpu_secs() - cpu;
        self.num_tokens += report.num_scored;
        self.pending.loss_nats += report.loss_nats;
        self.pending.num_tokens += report.num_scored;
        self.pending.step_secs.push(secs);
        self.step_secs.push_back(secs);
        if self.step_secs.len() > 1000 {
            self.step_secs.pop_front();
        }
        Ok(report)
    }

    /// Appends a line to `metrics.jsonl`, with the validation loss where it is due.
    fn log(&mut self, report: &StepReport) -> Result<MetricsLine, TrainError> {
        let config = self.trainer.config();
        let every = config.train.validate_every;
        let due = every > 0 && (report.step.is_multiple_of(every) || report.step == config.train.num_steps);
        let validate =
            || evaluate(&self.trainer.model, &self.sets[1], Split::Validation, config, StateRule::Carried);
        let validation = due.then(validate).transpose()?;
        let pending = std::mem::take(&mut self.pending);
        let line = MetricsLine {
            step: report.step,
            num_tokens: self.num_tokens,
            train_bits_per_token: pending.loss_nats / pending.num_tokens.max(1) as f64
                * std::f64::consts::LOG2_E,
            learning_rate: report.learning_rate,
            gradient_norm: report.gradient_norm,
            step_secs: median(pending.step_secs),
            validation_bits_per_byte: validation.map(|v| v.mean_bits_per_byte()),
        };
        let path = self.options.out.join("metrics.jsonl");
        let text = serde_json::to_string(&line).expect("a line of metrics is JSON") + "\n";
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(TrainError::io(&path, "write"))?;
        self.curve.push(line.clone());
        Ok(line)
    }

    /// Writes a checkpoint and returns its folder.
    fn save(&self) -> Result<PathBuf, TrainError> {
        let record = TrainerRecord {
            num_steps: self.trainer.num_steps(),
            seed: self.options.seed,
            cursor: self.trainer.cursor(),
            num_tokens: self.num_tokens,
            elapsed_secs: self.elapsed_secs,
            cpu_secs: self.cpu_secs,
            num_resumes: self.num_resumes,
            pending: (self.pending.loss_nats, self.pending.num_tokens),
            sha256: Default::default(),
        };
        checkpoint::write(&self.options.out, &self.trainer, record)?;
        Ok(latest_checkpoint(&self.options.out)?.unwrap_or_default())
    }

    /// Goes on from the last checkpoint, where the folder holds one; later lines of the metrics are dropped.
    fn resume(&mut self) -> Result<(), TrainError> {
        let metrics = self.options.out.join("metrics.jsonl");
        let Some(checkpoint) = latest_checkpoint(&self.options.out)? else {
            return write_atomic(&metrics, b"").map_err(Into::into);
        };
        let record = checkpoint::read(&checkpoint, &mut self.trainer, &self.sets[0])?;
        tracing::info!(path = %checkpoint.display(), "going on from a checkpoint");
        self.num_tokens = record.num_tokens;
        self.elapsed_secs = record.elapsed_secs;
        self.cpu_secs = record.cpu_secs;
        self.num_resumes = record.num_resumes + 1;
        (self.pending.loss_nats, self.pending.num_tokens) = record.pending;
        self.curve = read_curve(&metrics, record.num_steps)?;
        let lines = self.curve.iter().map(|line| serde_json::to_string(line).expect("JSON") + "\n");
        write_atomic(&metrics, lines.collect::<String>().as_bytes())?;
        Ok(())
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
            evaluate_until(stop, &trainer.model, &self.sets[2], Split::Test, config, rule)
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
            corpus_sha256: self.sets[0].manifest_sha256().into(),
            model: model_facts(config, trainer.model.params().num_parameters()),
            training: self.training_facts(),
            curve: self.curve.clone(),
            test,
            test_state_reset,
            machine: machine_facts(self.options.device),
            build: self.options.build.clone(),
        }))
    }

    fn training_facts(&self) -> TrainingFacts {
        TrainingFacts {
            num_steps: self.trainer.num_steps(),
            num_tokens: self.num_tokens,
            batch: self.trainer.config().data.batch as u64,
            elapsed_secs: self.elapsed_secs,
            cpu_secs: self.cpu_secs,
            median_step_secs: median(self.step_secs.iter().copied().collect()),
            peak_bytes: brt_native::peak_resident_bytes(),
            num_resumes: self.num_resumes,
        }
    }
}

/// Makes the run's folder, or checks that it holds this run.
fn enter(config: &RunConfig, options: &RunOptions) -> Result<(), TrainError> {
    let (out, path) = (&options.out, options.out.join("config.toml"));
    let text = config.to_toml();
    if path.exists() {
        if options.resume == Resume::Never {
            return Err(TrainError::NotEmpty { path: out.clone() });
        }
        let old = fs::read_to_string(&path).map_err(TrainError::io(&path, "read"))?;
        return match first_difference(&old, &text) {
            Some(difference) => Err(TrainError::OtherRun { path, difference }),
            None => Ok(()),
        };
    }
    fs::create_dir_all(out).map_err(TrainError::io(out, "make the folder"))?;
    write_atomic(&path, text.as_bytes())?;
    Ok(())
}

fn first_difference(old: &str, new: &str) -> Option<String> {
    let lines = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
    let (old, new) = (lines(old), lines(new));
    let end = "nothing".to_string();
    (0..old.len().max(new.len()))
        .map(|i| (old.get(i).unwrap_or(&end), new.get(i).unwrap_or(&end)))
        .find(|(old, new)| old != new)
        .map(|(old, new)| format!("it has `{old}`, this run has `{new}`"))
}

/// Reads the lines of `metrics.jsonl` up to a step. A line that a crash cut short ends the reading.
fn read_curve(path: &Path, num_steps: u64) -> Result<Vec<MetricsLine>, TrainError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        text => text.map_err(TrainError::io(path, "read"))?,
    };
    let lines = text.lines().map_while(|line| serde_json::from_str::<MetricsLine>(line).ok());
    Ok(lines.take_while(|line| line.step <= num_steps).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
