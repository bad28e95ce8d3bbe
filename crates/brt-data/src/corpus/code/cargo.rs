//! Where the sources of the pinned crates are, as cargo says.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde::Deserialize;

use crate::DataError;

/// The one platform whose crates make the corpus, whatever machine it is made on.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// A crate of the registry, unpacked on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) licence: Option<String>,
    pub(super) folder: PathBuf,
}

impl Crate {
    /// Returns name and version, for example `serde-1.0.0`.
    pub(super) fn full_name(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }
}

/// What we read of the output of `cargo metadata`.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
}

/// Returns the crates that the lock file pins, sorted by name, the newest version of each, and the number of older
/// versions.
pub(super) fn newest_crates(manifest_path: &Path) -> Result<(Vec<Crate>, usize), DataError> {
    let required =
        [(manifest_path.to_path_buf(), "a Cargo.toml"), (lock_path(manifest_path), "a Cargo.lock")];
    for (path, expected) in required {
        if !path.is_file() {
            return Err(DataError::Missing { path, expected });
        }
    }
    let error = |got: String| DataError::Cargo { manifest_path: manifest_path.to_path_buf(), got };
    let output = match metadata(manifest_path, &["--offline"]) {
        Ok(output) if output.status.success() => output,
        _ => metadata(manifest_path, &[]).map_err(|e| error(format!("cargo cannot be started ({e})")))?,
    };
    if !output.status.success() {
        return Err(error(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(|e| error(e.to_string()))?;
    Ok(newest(metadata.packages))
}

/// Returns the path of the lock file beside a manifest.
fn lock_path(manifest_path: &Path) -> PathBuf {
    manifest_path.with_file_name("Cargo.lock")
}

/// Runs `cargo metadata`.
fn metadata(manifest_path: &Path, options: &[&str]) -> std::io::Result<Output> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Command::new(cargo)
        .args([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            PLATFORM,
            "--manifest-path",
        ])
        .arg(manifest_path)
        .args(options)
        .output()
}

/// Returns the newest version of each crate of the registry, sorted by name, and the number of older ones.
fn newest(packages: Vec<Package>) -> (Vec<Crate>, usize) {
    let mut newest: BTreeMap<String, Package> = BTreeMap::new();
    let mut num_older = 0;
    for package in packages {
        if package.source.as_ref().is_none_or(|source| !source.starts_with("registry+")) {
            continue;
        }
        if let Some(other) = newest.get(&package.name) {
            num_older += 1;
            if version_key(&other.version) >= version_key(&package.version) {
                continue;
            }
        }
        newest.insert(package.name.clone(), package);
    }
    let crates = newest.into_values().map(|package| Crate {
        name: package.name,
        version: package.version,
        licence: package.license,
        folder: package.manifest_path.parent().map(Path::to_path_buf).unwrap_or_default(),
    });
    (crates.collect(), num_older)
}

/// Returns a key that orders versions by their numbers, with pre-releases before their release.
fn version_key(version: &str) -> ([u64; 3], bool, String) {
    let without_build = version.split('+').next().unwrap_or_default();
    let (numbers, pre_release) = without_build.split_once('-').unwrap_or((without_build, ""));
    let mut key = [0; 3];
    for (part, number) in key.iter_mut().zip(numbers.split('.')) {
        *part = number.parse().unwrap_or(0);
    }
    (key, pre_release.is_empty(), pre_release.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, source: Option<&str>) -> Package {
        let manifest_path = format!("/registry/{name}-{version}/Cargo.toml").into();
        Package {
            name: name.into(),
            version: version.into(),
            license: None,
            source: source.map(str::to_owned),
            manifest_path,
        }
    }

    #[test]
    fn the_newest_version_of_each_registry_crate_is_kept() {
        let registry = Some("registry+https://example.org/index");
        let (crates, num_older) = newest(vec![
            package("syn", "2.0.119", registry),
            package("syn", "2.0.9", registry),
            package("own", "1.0.0", None),
            package("git", "1.0.0", Some("git+https://example.org/git")),
            package("bytes", "1.0.0-rc.1", registry),
            package("bytes", "1.0.0", registry),
        ]);
        let names: Vec<_> = crates.iter().map(Crate::full_name).collect();
        assert_eq!((names, num_older), (vec!["bytes-1.0.0".to_owned(), "syn-2.0.119".to_owned()], 2));
        assert_eq!(crates[1].folder, Path::new("/registry/syn-2.0.119"));
    }

    #[test]
    fn a_workspace_without_manifest_or_lock_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let manifest_path = folder.path().join("Cargo.toml");
        let error = newest_crates(&manifest_path).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{}: expected a Cargo.toml, got nothing at this path", manifest_path.display())
        );
        std::fs::write(&manifest_path, "nonsense").unwrap();
        let error = newest_crates(&manifest_path).unwrap_err().to_string();
        let lock_path = lock_path(&manifest_path);
        assert_eq!(
            error,
            format!("{}: expected a Cargo.lock, got nothing at this path", lock_path.display())
        );
        std::fs::write(&lock_path, "").unwrap();
        let error = newest_crates(&manifest_path).unwrap_err().to_string();
        let start =
            format!("{}: expected a list of crates from `cargo metadata --locked`", manifest_path.display());
        assert!(error.starts_with(&start), "{error}");
    }
}
