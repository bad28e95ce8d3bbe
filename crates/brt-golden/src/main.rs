//! Prints how far brt is from the numbers of the official code, file by file.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command that prints a table or an error")]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use tch::Device;

/// Checks brt against golden files of the paper's official code.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of golden files, NAME.safetensors and NAME.json; default: those of the repository
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Compute on the first GPU
    #[arg(long)]
    cuda: bool,
}

fn main() -> ExitCode {
    // Before any tensor operation; without CUDA everything runs on the CPU.
    let _ = brt_native::load_cuda();
    run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    let carried = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let arguments = Arguments::parse();
    let device = if arguments.cuda { Device::Cuda(0) } else { Device::Cpu };
    anyhow::ensure!(
        !arguments.cuda || tch::Cuda::is_available(),
        "--cuda: expected a GPU that libtorch can use, got none"
    );
    let folder = arguments.dir.unwrap_or_else(carried);
    let names = brt_golden::list(&folder)?;
    std::panic::set_hook(Box::new(|_| ())); // A panic is a row of the table.
    println!("{:<28} {:>7}  {:>9} {:>9}  worst tensor", "file", "tensors", "error", "tolerance");
    let (mut num_failed, mut num_tensors) = (0, 0);
    for name in &names {
        let report = brt_golden::check(&folder, name, device);
        let num = report.outcome.as_ref().map_or(0, Vec::len);
        num_tensors += num;
        match report.worst() {
            Some(worst) => {
                let (error, tolerance) = (worst.difference, worst.tolerance);
                println!("{name:<28} {num:>7}  {error:>9.2e} {tolerance:>9.2e}  {}", worst.tensor);
            }
            None => println!("{name:<28} {num:>7}  {:>9} {:>9}", "-", "-"),
        }
        let failures = report.failures();
        num_failed += usize::from(!failures.is_empty());
        for failure in failures {
            println!("    FAILED {failure}");
        }
    }
    println!("{} of {} files pass, {num_tensors} tensors compared", names.len() - num_failed, names.len());
    Ok(if num_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
