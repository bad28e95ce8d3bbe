//! `cargo xtask peers`: brt beside plain PyTorch and the popular port, step by step in turn.

mod contestant;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use brt_report::{MachineFacts, write_json};
use serde::{Deserialize, Serialize};

use self::contestant::{Contestant, Generation, Ready, Stepped};
use crate::{
    failure::{Context, Result, fail},
    flags, tools, ui,
};

/// What is measured of one contestant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Measured {
    /// `brt`, `plain` or `port`.
    kind: String,
    precision: String,
    ready: Ready,
    /// Without the first one, which warms up; entry `i` of every contestant was taken in round `i`.
    steps: Vec<Stepped>,
    generations: Vec<Generation>,
    /// As the peer documents it, where that is another way.
    documented: Option<Generation>,
    /// Largest resident memory of the process after the training steps, in bytes.
    training_peak_bytes: u64,
    peak_device_bytes: Option<u64>,
}

/// All contestants on one configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PeersResult {
    /// The configuration, as it was given to all.
    config: String,
    num_threads: usize,
    device: String,
    /// Load averages before and after.
    load_averages: [f64; 2],
    machine: MachineFacts,
    contestants: Vec<Measured>,
}

/// Kinds of contestants.
const KINDS: [&str; 3] = ["brt", "plain", "port"];
/// Kinds of matrix products.
const PRECISIONS: [&str; 2] = ["f32", "bf16"];

/// Measures all contestants on each configuration and writes `peers-CONFIG.json` and `peers-CONFIG.md`.
pub(crate) fn run(root: &Path, flags: &flags::Peers) -> Result {
    // What is wrong is said before anything is built or installed.
    let kinds: Vec<&str> = flags.contestants.as_deref().unwrap_or("brt,plain,port").split(',').collect();
    if let Some(kind) = kinds.iter().find(|kind| !KINDS.contains(kind)) {
        return fail(format!("--contestants {kind}: expected some of {}", KINDS.join(",")));
    }
    let configs: Vec<PathBuf> =
        flags.configs.as_deref().unwrap_or("a,b").split(',').map(|name| config_path(root, name)).collect();
    if let Some(config) = configs.iter().find(|config| !config.is_file()) {
        return fail(format!(
            "--configs: expected a file or one of benchmarks/peers, got {}",
            config.display()
        ));
    }
    let brt = tools::brt(root)?;
    let out = flags.out.clone().unwrap_or_else(|| root.join("runs/peers"));
    fs::create_dir_all(&out).context(|| format!("making {}", out.display()))?;
    let python = match &flags.python {
        _ if kinds == ["brt"] => PathBuf::new(),
        Some(python) => python.clone(),
        None => tools::python(root, "peers", "installing the peers (5 GB, once)")?,
    };
    let tokens = match &flags.tokens {
        Some(tokens) => tokens.clone(),
        None => tokens(root, &out)?,
    };
    for config in configs {
        let config = config.as_path();
        let plan = Plan { root, brt: &brt, python: &python, tokens: &tokens, config, kinds: &kinds, flags };
        let result = plan.measure()?;
        let name =
            config.file_stem().map_or_else(|| "config".into(), |stem| stem.to_string_lossy().into_owned());
        write_json(&out.join(format!("peers-{name}.json")), &result)?;
        let text = table::markdown(&name, &result);
        let path = out.join(format!("peers-{name}.md"));
        fs::write(&path, &text).context(|| format!("writing {}", path.display()))?;
        ui::result(&text);
    }
    Ok(())
}

/// Returns the file of a configuration that is named by it or by its name in `benchmarks/peers`.
fn config_path(root: &Path, name: &str) -> PathBuf {
    if name.ends_with(".toml") {
        return PathBuf::from(name);
    }
    root.join("benchmarks/peers").join(format!("{name}.toml"))
}

/// What one measurement is made of.
struct Plan<'a> {
    root: &'a Path,
    brt: &'a Path,
    python: &'a Path,
    tokens: &'a Path,
    config: &'a Path,
    kinds: &'a [&'a str],
    flags: &'a flags::Peers,
}

impl Plan<'_> {
    fn num_threads(&self) -> usize {
        self.flags.threads.unwrap_or(1)
    }

    fn device(&self) -> &str {
        self.flags.device.as_deref().unwrap_or("cpu")
    }

    /// Starts all contestants, lets them step in turn, then generate in turn.
    fn measure(&self) -> Result<PeersResult> {
        let load_before = load_average();
        let mut contestants = vec![];
        for &kind in self.kinds {
            for precision in PRECISIONS {
                ui::line(&format!("{}: starting {kind} {precision}", self.config.display()));
                contestants.push(Contestant::start(kind, precision, &mut self.command(kind, precision))?);
            }
        }
        let rounds = self.flags.rounds.unwrap_or(5);
        for round in 0..=rounds {
            ui::line(&format!("round {round} of {rounds}: a training step each"));
            for contestant in &mut contestants {
                contestant.step(round > 0)?;
            }
        }
        for contestant in &mut contestants {
            contestant.note_training_peak();
        }
        let generations = if self.flags.no_generation { 0 } else { 3 };
        for round in 1..=generations {
            ui::line(&format!("round {round} of {generations}: a text each"));
            for contestant in &mut contestants {
                contestant.generate()?;
            }
        }
        if generations > 0 && self.flags.documented {
            for contestant in contestants.iter_mut().filter(|contestant| contestant.kind() == "port") {
                contestant.generate_documented()?;
            }
        }
        let measured = contestants.into_iter().map(Contestant::quit).collect::<Result<Vec<_>>>()?;
        let config =
            fs::read_to_string(self.config).context(|| format!("reading {}", self.config.display()))?;
        let machine = measured.iter().find_map(|one| one.ready.machine.clone()).unwrap_or_default();
        Ok(PeersResult {
            config,
            num_threads: self.num_threads(),
            device: self.device().into(),
            load_averages: [load_before, load_average()],
            machine,
            contestants: measured,
        })
    }

    fn command(&self, kind: &str, precision: &str) -> Command {
        let mut command = if kind == "brt" {
            let mut command = Command::new(self.brt);
            command.arg("contestant").args([self.config, self.tokens]);
            command.args(["--train.precision", precision]);
            command
        } else {
            let mut command = Command::new(self.python);
            command
                .arg(self.root.join("benchmarks/peers/contestant.py"))
                .arg(kind)
                .args([self.config, self.tokens]);
            command.args(["--precision", precision]);
            // The allocator of the C library, told to keep large blocks as brt's does: it is faster so.
            command.env("MALLOC_MMAP_THRESHOLD_", "4294967296");
            command.env("MALLOC_TRIM_THRESHOLD_", "17179869184").env("MALLOC_TOP_PAD_", "268435456");
            command
        };
        command.env("OMP_WAIT_POLICY", "passive");
        command.args(["--threads", &self.num_threads().to_string(), "--device", self.device()]);
        if let Some(len) = self.flags.prompt_len {
            command.args(["--prompt-len", &len.to_string()]);
        }
        if let Some(num) = self.flags.generate {
            command.args(["--generate", &num.to_string()]);
        }
        command
    }
}

/// Writes the text that all contestants read, a token in each byte: this repository's own sources, in order.
fn tokens(root: &Path, out: &Path) -> Result<PathBuf> {
    let listed = tools::output_of(Command::new("git").arg("-C").arg(root).args(["ls-files", "*.rs", "*.md"]));
    let mut text = vec![];
    for file in listed.unwrap_or_default().lines() {
        text.extend(fs::read(root.join(file)).context(|| format!("reading {file}"))?);
    }
    if text.is_empty() {
        return fail(
            "peers: expected a checkout with git, whose sources are the text; name another one: --tokens FILE",
        );
    }
    let path = out.join("tokens.bin");
    fs::write(&path, text).context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.)
}
