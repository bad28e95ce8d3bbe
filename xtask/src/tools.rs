//! Where the repository is, and how its programs are started.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::{
    failure::{Context, Result, fail},
    setup, ui,
};

/// Returns the root of the checkout that xtask is run for.
pub(crate) fn repository_root() -> PathBuf {
    // Cargo sets it for `cargo xtask`; the binary started by itself knows where it was built.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = PathBuf::from(manifest);
    manifest.parent().unwrap_or(&manifest).to_path_buf()
}

/// Returns a `cargo` command that uses the libtorch at `.libtorch`, whatever the environment says.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).env("LIBTORCH", root.join(".libtorch")).env_remove("LIBTORCH_USE_PYTORCH");
    // Other ways to point torch-sys elsewhere, or cargo to another folder than the one that xtask looks into.
    for name in
        ["LIBTORCH_INCLUDE", "LIBTORCH_LIB", "LIBTORCH_CXX11_ABI", "LIBTORCH_STATIC", "CARGO_BUILD_TARGET"]
    {
        command.env_remove(name);
    }
    // Cargo set them for xtask itself.
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_PKG_NAME");
    command
}

/// Returns the `brt` program, built if need be; BRT_BIN names another one.
pub(crate) fn brt(root: &Path) -> Result<PathBuf> {
    if let Some(path) = env::var_os("BRT_BIN").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            fail(format!("BRT_BIN={}: no such file", path.display()))
        };
    }
    setup::run(root, false)?;
    ui::headline("building brt");
    run("cargo build", cargo(root).args(["build", "--release", "--package", "brt"]))?;
    Ok(target_folder(root)?.join("release/brt"))
}

/// Returns a Python that has what `benchmarks/NAME/requirements.txt` says: an environment in the target folder, made
/// after `headline` is shown where there is none for this file.
pub(crate) fn python(root: &Path, name: &str, headline: &str) -> Result<PathBuf> {
    let requirements = root.join("benchmarks").join(name).join("requirements.txt");
    let folder = target_folder(root)?.join(format!("{name}-python"));
    let (python, marker) = (folder.join("bin/python"), folder.join("requirements.txt"));
    let wanted =
        fs::read_to_string(&requirements).context(|| format!("reading {}", requirements.display()))?;
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    ui::headline(headline);
    run("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    run("pip install", pip.arg(&requirements))?;
    fs::write(&marker, wanted).context(|| format!("writing {}", marker.display()))?;
    Ok(python)
}

/// Runs a command to its end, with its output shown; `name` says what failed.
pub(crate) fn run(name: &str, command: &mut Command) -> Result {
    let status = command.status().context(|| format!("starting {name}"))?;
    if status.success() { Ok(()) } else { fail(format!("{name} failed ({status}); its message is above")) }
}

/// Runs a command to its end, with its output shown on stderr; a failure quotes its last line.
pub(crate) fn run_and_quote(name: &str, command: &mut Command) -> Result {
    let context = || format!("starting {name}");
    let mut child = to_stderr(command).stderr(Stdio::piped()).spawn().context(context)?;
    let (mut last, mut line) = (String::new(), vec![]);
    if let Some(stderr) = child.stderr.take() {
        let mut stderr = BufReader::new(stderr);
        while stderr.read_until(b'\n', &mut line).context(context)? > 0 {
            let _ = io::stderr().write_all(&line);
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            last = if text.is_empty() { last } else { text };
            line.clear();
        }
    }
    let status = child.wait().context(context)?;
    if status.success() { Ok(()) } else { fail(format!("{name} failed ({status}): {last}")) }
}

/// Prepares a corpus in a folder, by its name for `brt data prepare`; what is there already stays. With a size of the
/// vocabulary its tokens are those of a byte-level BPE that is trained on its training documents, else bytes.
///
/// Every folder of runs has its own: what `code` stands for changes with the lock file.
pub(crate) fn prepare_corpus(
    root: &Path,
    brt: &Path,
    name: &str,
    vocab_size: Option<u64>,
    folder: &Path,
) -> Result {
    ui::headline(&format!("corpus {name}"));
    let command = |what: &str| {
        let mut command = Command::new(brt);
        command.args(["data", what, "--corpus", name]);
        if name == "code" {
            command.current_dir(root); // Its crates are those of the repository's lock file.
        }
        command
    };
    let mut prepare = command("prepare");
    if let Some(size) = vocab_size {
        let tokenizer = folder.with_extension("tokenizer.json");
        if !tokenizer.exists() {
            let mut train = command("train-tokenizer");
            train.args(["--vocab-size", &size.to_string(), "--out"]).arg(&tokenizer);
            run("brt data train-tokenizer", to_stderr(&mut train))?;
        }
        prepare.arg("--tokenizer").arg(tokenizer);
    }
    run("brt data prepare", to_stderr(prepare.arg("--out").arg(folder)))
}

/// Sends what a program prints to stderr: xtask's stdout is the table and nothing else.
pub(crate) fn to_stderr(command: &mut Command) -> &mut Command {
    if let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() {
        command.stdout(stderr);
    }
    command.stdin(Stdio::null())
}

/// Returns the text that a command prints, or nothing where it cannot be started or fails.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the folder that cargo builds into.
pub(crate) fn target_folder(root: &Path) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let mut command = cargo(root);
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    let Some(json) = output_of(&mut command) else {
        return fail("cargo metadata failed: run it in the repository to see why");
    };
    let metadata: Metadata = serde_json::from_str(&json).context(|| "reading cargo metadata".into())?;
    Ok(metadata.target_directory)
}

/// Returns the number of processors that this process may use.
pub(crate) fn num_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
