//! Automation of this repository: `cargo xtask setup | compare | tables | golden | bench | peers | clients | test |
//! ci`.
//!
//! It starts processes, reads the records that they leave (`brt-report`) and writes reports. It never links libtorch
//! and never interprets a run's configuration.

mod bench;
mod ci;
mod clients;
mod compare;
mod failure;
mod flags;
mod golden;
mod peers;
mod report;
mod runs;
mod setup;
mod tables;
mod test;
mod tools;
mod ui;

use std::process::ExitCode;

use failure::Result;
use flags::XtaskCmd;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ui::line(&format!("error: {}", failure.message));
            ExitCode::from(failure.code)
        }
    }
}

fn run() -> Result {
    let root = tools::repository_root();
    match flags::Xtask::from_env_or_exit().subcommand {
        XtaskCmd::Setup(flags) if flags.nccl => setup::run_with_nccl(&root, flags.force),
        XtaskCmd::Setup(flags) => setup::run(&root, flags.force),
        XtaskCmd::Compare(flags) => compare::run(&root, &flags),
        XtaskCmd::Tables(flags) => tables::run(&root, &flags),
        XtaskCmd::Golden(flags) => golden::run(&root, &flags),
        XtaskCmd::Bench(flags) => bench::run(&root, &flags),
        XtaskCmd::Peers(flags) => peers::run(&root, &flags),
        XtaskCmd::Clients(flags) => clients::run(&root, &flags),
        XtaskCmd::Test(_) => test::run(&root, &[]),
        XtaskCmd::Ci(_) => ci::run(&root),
    }
}
