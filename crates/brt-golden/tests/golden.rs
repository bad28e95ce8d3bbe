//! One test for each golden file of the repository.

use std::{path::PathBuf, process::ExitCode};

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let names = brt_golden::list(&folder).expect("the repository carries golden files");
    let trial = |name: String| {
        let folder = folder.clone();
        Trial::test(name.clone(), move || {
            match brt_golden::check(&folder, &name, tch::Device::Cpu).failures() {
                failures if failures.is_empty() => Ok(()),
                failures => Err(failures.join("\n").into()),
            }
        })
    };
    libtest_mimic::run(&arguments, names.into_iter().map(trial).collect()).exit_code()
}
