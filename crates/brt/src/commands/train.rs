//! `brt train`: one run from its configuration to its result.

use std::{
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use brt_report::{MetricsLine, StateRule};
use brt_trainer::{
    Override, Plan, Progress, Rendezvous, Resume, Run, RunConfig, RunOptions, RunOutcome, World, build_facts,
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    arguments::TrainArguments,
    interrupt,
    output::{self, exact},
};

pub(super) fn run(arguments: TrainArguments, overrides: &[Override]) -> Result<ExitCode> {
    if std::env::var_os(super::LAUNCHER).is_some() {
        end_with_launcher();
    }
    let rendezvous = Rendezvous::from_env(|name| std::env::var(name).ok())?;
    let device = super::start_device_of(arguments.device, rendezvous.as_ref())?;
    let mut overrides = overrides.to_vec();
    let steps = arguments.steps.map(|n| Override { key: "train.num_steps".into(), value: n.to_string() });
    overrides.extend(steps);
    let config = RunConfig::load(&arguments.config, &overrides)?;
    if arguments.dry_run {
        let plan = Plan::new(&config, &arguments.data, &arguments.out)?;
        print_plan(&plan);
        return Ok(ExitCode::SUCCESS);
    }
    let num_steps = config.train.num_steps;
    let options = RunOptions {
        name: super::name(&arguments.config)?,
        data: arguments.data,
        out: arguments.out.clone(),
        seed: arguments.seed,
        device,
        resume: if arguments.resume { Resume::IfThere } else { Resume::Never },
        build: build_facts(env!("BRT_COMMIT")),
    };
    let world = World::join(rendezvous.as_ref(), Duration::from_secs(arguments.group_timeout))?;
    // From here on: before, a signal ends the process at once.
    let stop = interrupt::listen(
        "stopping after this step; a second signal ends at once and loses the steps since the last checkpoint",
    )?;
    let is_main = world.is_main();
    let run = Run::in_world(config, options, world)?;
    // Of several processes one tells how it goes.
    let mut display = is_main.then(|| Display::new(num_steps));
    let outcome = run.run(&stop.flag, |progress| {
        if let Some(display) = &mut display {
            display.show(progress);
        }
    })?;
    match outcome {
        RunOutcome::Finished(_) if !is_main => Ok(ExitCode::SUCCESS),
        RunOutcome::Finished(result) => {
            output::result(format!(
                "{:.4} bits/byte on the test documents",
                result.test.mean_bits_per_byte()
            ));
            Ok(ExitCode::SUCCESS)
        }
        RunOutcome::Interrupted { num_steps } => {
            if is_main {
                output::line(format!(
                    "interrupted and saved at step {num_steps} in {}; the same command with --resume goes on",
                    arguments.out.display()
                ));
            }
            Ok(ExitCode::from(stop.exit_code()))
        }
    }
}

/// Lets this process end, and save, when its launcher is killed.
fn end_with_launcher() {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let launcher = std::env::var(super::LAUNCHER).ok().and_then(|pid| pid.parse().ok());
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    // It may have gone before.
    if launcher != getppid().map(|pid| pid.as_raw_nonzero().get()) {
        std::process::exit(1);
    }
}

fn print_plan(plan: &Plan) {
    let Plan { model, num_steps, .. } = plan;
    let size = |bytes: u64| match bytes as f64 / f64::from(1 << 20) {
        mib if mib < 1024. => format!("{mib:.1} MiB"),
        mib => format!("{:.1} GiB", mib / 1024.),
    };
    output::result(format!("model        {}", model.description));
    output::result(format!(
        "parameters   {}, {} without the embedding",
        exact(model.num_parameters),
        exact(model.num_parameters_without_embedding)
    ));
    output::result(format!(
        "step         {} tokens, {:.1} GFLOP; {} steps, {:.2} epochs",
        exact(plan.step_tokens),
        plan.step_flops as f64 / 1e9,
        exact(*num_steps),
        plan.num_epochs()
    ));
    output::result(format!(
        "memory       about {}: parameters and gradients {}, moments {}, carried states {}, activations about {}",
        size(plan.memory_bytes()),
        size(plan.parameter_bytes),
        size(plan.moment_bytes),
        size(plan.state_bytes),
        size(plan.activation_bytes)
    ));
    let free = plan.free_bytes.map(|bytes| format!(", {} free", size(bytes))).unwrap_or_default();
    output::result(format!("disk         {} for a checkpoint{free}", size(plan.checkpoint_bytes)));
    for (split, counts) in [("train", plan.train), ("validation", plan.validation), ("test", plan.test)] {
        let [documents, tokens, bytes] =
            [counts.num_documents, counts.num_tokens, counts.num_bytes].map(exact);
        output::result(format!("{split:<12} {documents} documents, {tokens} tokens, {bytes} bytes"));
    }
}

/// Returns what people want to know of a line of the metrics.
fn message(line: &MetricsLine) -> String {
    let MetricsLine {
        train_bits_per_byte, tokens_per_sec, learning_rate, gradient_norm, num_skipped, ..
    } = line;
    let mut message = format!(
        "{train_bits_per_byte:.3} bits/byte, {} tokens/s, rate {learning_rate:.2e}, gradient {gradient_norm:.2}",
        output::count(*tokens_per_sec as u64)
    );
    if let Some(validation) = line.validation_bits_per_byte {
        message.push_str(&format!(", validation {validation:.3} bits/byte"));
    }
    if *num_skipped > 0 {
        message.push_str(&format!(", {num_skipped} steps skipped"));
    }
    message
}

/// A progress bar on a terminal, else a line now and then.
struct Display {
    bar: Option<ProgressBar>,
    num_steps: u64,
    last_line: Instant,
    /// The first step of this session, and when it was done.
    first: Option<(u64, Instant)>,
}

impl Display {
    /// Time between two lines where there is no terminal.
    const LINE_EVERY: Duration = Duration::from_secs(10);

    fn new(num_steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{bar:24} {pos}/{len} steps  {msg}  {elapsed}, {eta} left";
            let style = ProgressStyle::with_template(template).expect("a valid template");
            ProgressBar::new(num_steps).with_style(style)
        });
        Self { bar, num_steps, last_line: Instant::now() - Self::LINE_EVERY, first: None }
    }

    fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Resumed(step) => {
                self.note(format!("going on from step {step}"));
                if let Some(bar) = &self.bar {
                    bar.set_position(*step);
                    bar.reset_eta();
                }
            }
            Progress::Step(report) => {
                self.first.get_or_insert((report.step, Instant::now()));
                if let Some(bar) = &self.bar {
                    bar.set_position(report.step);
                }
            }
            Progress::Logged(line) => {
                let message = message(line);
                match &self.bar {
                    Some(bar) => bar.set_message(message),
                    None if line.validation_bits_per_byte.is_some()
                        || self.last_line.elapsed() >= Self::LINE_EVERY =>
                    {
                        let left = self.left(line.step);
                        output::line(format!("step {}/{}: {message}{left}", line.step, self.num_steps));
                        self.last_line = Instant::now();
                    }
                    None => (),
                }
            }
            Progress::NotSaved(error) => {
                self.note(format!(
                    "warning: no checkpoint was written: {error}; training goes on, the one before stays"
                ));
            }
            Progress::Saved(_) => (),
            Progress::Testing(rule) => {
                if let Some(bar) = self.bar.take() {
                    bar.finish();
                }
                self.note(match rule {
                    StateRule::Carried => "scoring the test documents".into(),
                    StateRule::Reset | StateRule::ResetBlocks => "scoring them with the state reset".into(),
                });
            }
        }
    }

    /// Returns how long the steps that are left will take, at the rate of this session.
    fn left(&self, step: u64) -> String {
        let Some((first, start)) = self.first.filter(|(first, _)| *first < step) else {
            return String::new();
        };
        let step_time = start.elapsed().div_f64((step - first) as f64);
        let left = step_time.mul_f64(self.num_steps.saturating_sub(step) as f64);
        format!(", {} left", indicatif::HumanDuration(left))
    }

    fn note(&self, text: String) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => output::line(text),
        }
    }
}
