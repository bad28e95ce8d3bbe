//! `cargo xtask bench`: what this machine can do, and how much of it brt reaches.

use std::{path::Path, process::Command};

use crate::{
    failure::{Context, Result},
    flags, tools, ui,
};

/// Configurations that are measured where no flag says which: parts have the sizes of the first one.
const CONFIGS: [&str; 2] = ["benchmarks/peers/a.toml", "benchmarks/peers/a_slide.toml"];
/// The paper's, with one row: `--paper`.
const PAPER_CONFIGS: [&str; 3] = [
    "benchmarks/configs/paper/rec_fixed_skip.toml",
    "benchmarks/configs/paper/slide13.toml",
    "benchmarks/configs/paper/xl2048.toml",
];

/// Builds `brt` and lets it measure; the table goes to standard output, everything to a JSON file.
pub(crate) fn run(root: &Path, flags: &flags::Bench) -> Result {
    let brt = tools::brt(root)?;
    let out = flags.out.clone().unwrap_or_else(|| root.join("runs/bench"));
    std::fs::create_dir_all(&out).context(|| format!("making {}", out.display()))?;
    let given =
        flags.configs.as_deref().map(|configs| configs.split(',').map(str::to_owned).collect::<Vec<_>>());
    let default = if flags.paper { PAPER_CONFIGS.as_slice() } else { CONFIGS.as_slice() };
    let configs =
        given.unwrap_or_else(|| default.iter().map(|path| root.join(path).display().to_string()).collect());
    let mut command = Command::new(brt);
    command.arg("bench").args(&configs).arg("--out").arg(out.join("bench.json"));
    command.args(["--rounds", &flags.rounds.unwrap_or(7).to_string()]);
    command.args(["--threads", &flags.threads.unwrap_or(1).to_string()]);
    if flags.paper {
        command.args(["--data.batch", "1"]);
    }
    if let Some(device) = &flags.device {
        command.args(["--device", device]);
    }
    ui::headline("measuring, in turn");
    tools::run("brt bench", &mut command)?;
    ui::line(&format!("raw numbers: {}", out.join("bench.json").display()));
    Ok(())
}
