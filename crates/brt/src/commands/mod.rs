//! One file for each command.

mod bench;
mod contestant;
mod data;
mod doctor;
mod eval;
mod generate;
mod info;
mod launch;
mod plot;
mod score;
mod serve;
mod state;
mod text;
mod time;
mod train;
mod weights;

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use brt_lm::LanguageModel;
use brt_trainer::{Override, Rendezvous, RunConfig};
use tch::Device;

use crate::arguments::{Arguments, Command, DeviceArguments, DeviceName};

/// Runs a command and returns its exit code.
pub(crate) fn run(arguments: Arguments, overrides: &[Override]) -> Result<ExitCode> {
    let takes_overrides = matches!(
        arguments.command,
        Command::Train(_)
            | Command::Launch(_)
            | Command::Info(_)
            | Command::Import(_)
            | Command::Time(_)
            | Command::Bench(_)
            | Command::Contestant(_)
    );
    if let (Some(change), false) = (overrides.first(), takes_overrides) {
        bail!(
            "--{}: expected a command with a configuration (train, launch, info, import, time, bench)",
            change.key
        );
    }
    match arguments.command {
        Command::Data(command) => data::run(*command),
        Command::Train(arguments) => return train::run(arguments, overrides),
        Command::Launch(arguments) => return launch::run(&arguments, overrides),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Plot(arguments) => plot::run(&arguments),
        Command::Generate(arguments) => return generate::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::State(command) => state::run(&command),
        Command::Info(arguments) => info::run(&arguments, overrides),
        Command::Import(arguments) => weights::import(&arguments, overrides),
        Command::Export(arguments) => weights::export(&arguments),
        Command::Time(arguments) => time::run(&arguments, overrides),
        Command::Bench(arguments) => bench::run(&arguments, overrides),
        Command::Contestant(arguments) => contestant::run(&arguments, overrides),
        Command::Doctor => doctor::run(),
        Command::Serve(arguments) => serve::run(&arguments),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Environment variable that tells a process which one has launched it.
const LAUNCHER: &str = "BRT_LAUNCHER";

/// Sets the number of threads and returns the device.
fn start_device(arguments: DeviceArguments) -> Result<Device> {
    start_device_of(arguments, None)
}

/// Sets the number of threads and returns the device of one of several processes: those of a host share its cores, and
/// each has a GPU of its own.
fn start_device_of(arguments: DeviceArguments, rendezvous: Option<&Rendezvous>) -> Result<Device> {
    let (local_rank, num_processes) =
        rendezvous.map_or((0, 1), |rendezvous| (rendezvous.local_rank, rendezvous.local_world_size));
    let cores = brt_native::num_physical_cores() / num_processes;
    tch::set_num_threads(arguments.threads.unwrap_or(cores.max(1) as i32));
    let device = match arguments.device {
        Some(DeviceName(Some(device))) => device,
        Some(DeviceName(None)) => Device::Cuda(local_rank),
        None if tch::Cuda::is_available() => Device::Cuda(local_rank),
        None => Device::Cpu,
    };
    if let Device::Cuda(idx) = device {
        let count = tch::Cuda::device_count();
        if idx as i64 >= count {
            bail!(
                "--device cuda:{idx}: expected one of the {count} GPU(s) that libtorch can use; use --device cpu"
            );
        }
    }
    Ok(device)
}

/// Returns the model of a run's last checkpoint.
fn load_model(run: &Path, device: Device) -> Result<(LanguageModel, RunConfig)> {
    check_run(run)?;
    Ok(brt_trainer::load_model(run, device)?)
}

/// Returns the configuration of a run.
fn run_config(run: &Path) -> Result<RunConfig> {
    check_run(run)?;
    Ok(RunConfig::load(&run.join("config.toml"), &[])?)
}

/// Checks that a folder is a run's.
fn check_run(run: &Path) -> Result<()> {
    if !run.join("config.toml").exists() {
        bail!("{}: expected the folder of a run (brt train --out), got none", run.display());
    }
    Ok(())
}

/// Returns the name of a configuration: its file's, without ending.
fn name(config: &Path) -> Result<String> {
    let stem = config.file_stem().context("the configuration needs a file name")?;
    Ok(stem.to_string_lossy().into_owned())
}
