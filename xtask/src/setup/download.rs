//! The smallest libtorch that brt needs, unpacked from the wheels of PyTorch.

use std::{
    fs, io,
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
};

use brt_report::write_json;

use super::{Choice, Source, check, link};
use crate::{
    failure::{Context, Result, fail},
    tools, ui,
};

/// Free space that wheels and libraries need together, in KiB.
const NEEDED_KIB: u64 = 1_150_000;

/// The wheels' names, so that any Python 3 on any glibc fetches the pinned files.
const PIP_ARGS: &[&str] = &[
    "-m",
    "pip",
    "--disable-pip-version-check",
    "--no-input",
    "download",
    "--no-cache-dir",
    "--no-deps",
    "--only-binary=:all:",
    "--require-hashes",
    "--implementation",
    "cp",
    "--python-version",
    "3.11",
    "--platform",
    "manylinux_2_28_x86_64",
    "--platform",
    "manylinux_2_25_x86_64",
    "--platform",
    "manylinux_2_17_x86_64",
    "--platform",
    "manylinux2014_x86_64",
];

/// Downloads, checks and unpacks libtorch into `.libtorch`: whole, or not at all.
pub(super) fn download(root: &Path) -> Result<Choice> {
    if cfg!(not(target_arch = "x86_64")) {
        return fail(
            "libtorch can be downloaded for x86_64 only: set LIBTORCH to a libtorch 2.11.0 of this machine",
        );
    }
    check_python()?;
    check_space(root)?;
    ui::line("downloading libtorch from the Python package index (0.55 GB; 0.5 GB are kept in .libtorch)");
    let part = root.join(".libtorch.part");
    let wheels = part.join("wheels");
    link::remove(&part)
        .and_then(|()| fs::create_dir_all(part.join("tmp")))
        .context(|| format!("preparing {}", part.display()))?;
    let unpacked = fetch(root, &part).and_then(|()| unpack(&wheels, &part));
    if let Err(failure) = unpacked {
        let _ = link::remove(&part);
        return Err(failure);
    }
    let _ = link::remove(&part.join("tmp"));
    let version = check::check(&part).or_else(|why| {
        fail(format!("the downloaded libtorch is not usable: {why}; run `cargo xtask setup --force`"))
    })?;
    let choice = Choice { source: Source::Download, path: root.join(".libtorch"), version };
    write_json(&part.join("brt-setup.json"), &choice)?;
    link::replace(root)?;
    Ok(choice)
}

fn check_python() -> Result {
    if tools::output_of(Command::new("python3").args(["-c", "import sys, zipfile"])).is_none() {
        return fail(
            "python3 is missing, and the download needs it: install Python 3 with pip, \
             or set LIBTORCH to a libtorch 2.11.0",
        );
    }
    if tools::output_of(Command::new("python3").args(["-m", "pip", "--version"])).is_none() {
        return fail(
            "python3 has no pip, and the download needs it: install it (package python3-pip) \
             or set LIBTORCH to a libtorch 2.11.0",
        );
    }
    Ok(())
}

/// Fails where the disk is too full; a system without `df` finds out later.
fn check_space(root: &Path) -> Result {
    let Some(table) = tools::output_of(Command::new("df").arg("-Pk").arg(root)) else { return Ok(()) };
    let free: Option<u64> = table.lines().nth(1).and_then(|row| row.split_whitespace().nth(3)?.parse().ok());
    match free {
        Some(kib) if kib < NEEDED_KIB => fail(format!(
            "{}: setup needs {:.2} GB of free disk, got {:.2} GB: free some, or set LIBTORCH to a libtorch 2.11.0",
            root.display(),
            NEEDED_KIB as f64 * 1024. / 1e9,
            kib as f64 * 1024. / 1e9
        )),
        _ => Ok(()),
    }
}

/// Downloads the pinned wheels; pip's progress bar is shown on a terminal, its errors are summed up.
fn fetch(root: &Path, part: &Path) -> Result {
    let mut command = Command::new("python3");
    command.args(PIP_ARGS).arg("--requirement").arg(root.join("xtask/libtorch.txt"));
    command.arg("--dest").arg(part.join("wheels")).stdin(Stdio::null()).stderr(Stdio::piped());
    // On the same disk, whose space was checked.
    command.env("TMPDIR", part.join("tmp"));
    let terminal = ui::is_terminal().then(|| io::stderr().as_fd().try_clone_to_owned().ok()).flatten();
    match terminal {
        Some(stderr) => command.stdout(stderr),
        None => command.arg("--quiet").stdout(Stdio::null()),
    };
    let output = command
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .context(|| "starting python3 -m pip".into())?;
    if output.status.success() { Ok(()) } else { fail(explain(&String::from_utf8_lossy(&output.stderr))) }
}

/// Returns what pip's error output means, and what to do.
pub(super) fn explain(stderr: &str) -> String {
    let last = stderr.lines().rev().find(|line| line.starts_with("ERROR:"));
    let last = last.or_else(|| stderr.lines().rev().find(|line| !line.trim().is_empty()));
    let last = last.unwrap_or("no message").trim_start_matches("ERROR:").trim();
    let has = |needles: &[&str]| needles.iter().any(|needle| stderr.contains(needle));
    if has(&["DO NOT MATCH THE HASHES"]) {
        return "a downloaded wheel differs from the SHA-256 in xtask/libtorch.txt: try again; \
                if it happens again, the package index or a proxy serves another file"
            .into();
    }
    if has(&["No space left on device"]) {
        return "the disk became full during the download: free 1.2 GB and try again".into();
    }
    if has(&[
        "(from versions: none)",
        "ConnectionError",
        "ConnectTimeout",
        "Read timed out",
        "ProxyError",
        "resolve",
    ]) {
        return format!(
            "no libtorch from the package index ({last}): check the network, HTTPS_PROXY or PIP_INDEX_URL, \
             or set LIBTORCH to a libtorch 2.11.0"
        );
    }
    format!("pip could not download libtorch: {last}; or set LIBTORCH to a libtorch 2.11.0")
}

/// Takes the libraries and headers out of the wheels and drops these.
fn unpack(wheels: &Path, part: &Path) -> Result {
    let output = Command::new("python3")
        .args(["-c", include_str!("unpack.py")])
        .args([wheels, part])
        .output()
        .context(|| "starting python3".into())?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    fail(format!("unpacking libtorch failed: {last}; free 1.2 GB of disk and try again"))
}
