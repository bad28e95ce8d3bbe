//! Lets the binary find libtorch without an environment variable, and tells it the commit that it was built from.
use std::{path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    link_libtorch();
    let commit = commit().unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=BRT_COMMIT={commit}");
}

fn link_libtorch() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags"); // RUNPATH: an LD_LIBRARY_PATH wins over it.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../../.libtorch/lib");
    if let Some(libtorch) = std::env::var_os("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", Path::new(&libtorch).join("lib").display());
    }
}

/// The commit of the checkout, with `-dirty` where a crate's files differ from it.
fn commit() -> Option<String> {
    // Asked when it runs: checkouts that share a target folder share this script, and the place where it was compiled.
    let crate_root = std::env::var_os("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&crate_root).parent()?.parent()?;
    if !root.join(".git").exists() {
        return None;
    }
    for path in [".git/HEAD", ".git/index", "crates"] {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--", "crates", "Cargo.toml", "Cargo.lock"])?;
    Some(if changes.is_empty() { head } else { format!("{head}-dirty") })
}
