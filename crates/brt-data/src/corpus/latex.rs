//! The task of the paper's arXiv corpus with what a package client can fetch: manuals and articles in LaTeX, which lie
//! in Debian packages. They are never installed, only unpacked.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{Corpus, Member, fraction};
use crate::{
    DataError, Split,
    files::{files_under, relative_name},
    manifest::hex,
};

/// The packages, and the SHA-256 of the files of Debian 12. Another release's files are checked by what its package
/// list says.
const PACKAGES: [(&str, &str); 24] = [
    ("c++-annotations-latex", "b2e3336f58bac344242ec7c6011d756e25e33d4dc657fdfc91e4035002817253"),
    ("r-cran-ape", "6245160b323172a0bbbcb14d7f124d71cba29beaf8771c00495c4b726593f44d"),
    ("r-cran-bbmle", "3556ee89d8dfbf99c48972037d968056b57e6e323b5735d4762268a5d78a1c1a"),
    ("r-cran-coin", "391bda13701acba6329f821cfde3571827bd7a4cff91b66511945f1c9e7fa9aa"),
    ("r-cran-desolve", "8e3e53189651875a78cb0f85c93a208f322205441503cb0598baf9f313748cb4"),
    ("r-cran-fitdistrplus", "7a76e982a893502c22d67745aaf91f80eef589117427fa76feb1694dad790b97"),
    ("r-cran-flexmix", "0e034e32acc37efe705db9a27dc0d1ae10358879442b1f749906171020e1ee2e"),
    ("r-cran-gstat", "a0cdb533bb1b27dc2ed9da3ca23a8688d1af3ae8d3b5b35c805ca749cfc8a887"),
    ("r-cran-hsaur3", "21221b89b0b61b4abfa8731f2b1f427858b9c3fa828137e2356d5d5b6c27c4b3"),
    ("r-cran-kernlab", "ab09291d7de965e84f808e3ae646d7043fa87e1e30cfcebec6b95d14f6828b62"),
    ("r-cran-lme4", "232c90c0504309ee64749af8ca8359e999a00e6dc0c1abf697640f1c16ecb4aa"),
    ("r-cran-mcmc", "0c259a6f6dd63aabbb2bd6788e37fb49dcd577b2303a626a39e99f914b375a69"),
    ("r-cran-multcomp", "c60126df9eb74d61d6101163fd4ba3c7484c5773fd1013e95bae11ecfa1740b5"),
    ("r-cran-party", "ecca5564178b27b54228a5edace4d2b42493bc8635b251826cee4bd5bd1b7457"),
    ("r-cran-partykit", "3487ae4f0bf77552f1c3f29323884d43c6a8e1038e63ca38c2be5ed713a5167a"),
    ("r-cran-sandwich", "a90e7d3c69c70a6d73e4bc63d1f20eae3b4a73866d5266246dd5b3d980c60d79"),
    ("r-cran-seriation", "2d1efde684d14e5554796b55c7909b21ef60cc26e0fd0a80654b58c5f7e3ee6a"),
    ("r-cran-sp", "1f14290d38a0b6b5d34c227fe81b661b330f6ea8c8f5800a27ddc954e119530f"),
    ("r-cran-strucchange", "0be3f44609be4e90be3f295880dbcaebf57e5a918b68eb11f18c0900b2a4874d"),
    ("r-cran-surveillance", "a8c2260f22dab80a8a6a6ad212bed8166c555dbbab49eb719a674649667f5f18"),
    ("r-cran-survival", "f7b474e37620b54bd0112b3847bbad0a6b75b9c2121d6936548dd74ebd4003d5"),
    ("r-cran-tsp", "11216e1febaa94fdafacd31aa815e2e887e77b59d2e015d1b0f2dfd366d94741"),
    ("r-cran-vcd", "959639853b06a9056b4494e145bf84394a329805645e80c4384091323b6c6ae4"),
    ("r-cran-zoo", "81f27bbee835d9d44d2a410211c813d2da6c2d71f1e37d71b019ab259e182b9b"),
];

/// Shorter texts, in bytes, are left out: they are not long documents.
const MIN_BYTES: usize = 16 * 1024;

/// The same manual for another size of paper.
const COPIES: [&str; 1] = ["cplusplusus.latex"];

/// What is hashed before a package's name.
const SALT: &str = "brt-data latex 37: ";

/// Parts of the packages, by hash of their names, that go to test and to validation; the rest is for training.
const TEST: f64 = 0.15;
const VALIDATION: f64 = 0.1;

/// Returns the folder where packages are kept if none is named: the user's cache.
pub(super) fn default_folder() -> PathBuf {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    cache.unwrap_or_else(env::temp_dir).join("brt/latex")
}

/// Lists the texts of all packages. What is missing in the folder is downloaded; what is there is only checked.
pub(super) fn read(folder: &Path) -> Result<Corpus, DataError> {
    fs::create_dir_all(folder).map_err(DataError::io(folder, "create"))?;
    let mut corpus = Corpus {
        name: "latex",
        licence: "those of the packages, nearly all GPL: do not pass the texts on without them",
        origin: format!("LaTeX manuals and articles of {} Debian packages", PACKAGES.len()),
        members: vec![],
        skipped: Default::default(),
    };
    for (package, sha256) in PACKAGES {
        let file = match find(folder, package)? {
            Some(file) => file,
            None => download(folder, package)?,
        };
        check(&file, package, sha256)?;
        add_texts(&file, package, &mut corpus)?;
    }
    Ok(corpus)
}

/// Returns the file of a package in a folder.
fn find(folder: &Path, package: &str) -> Result<Option<PathBuf>, DataError> {
    let start = format!("{package}_");
    let is_it = |path: &PathBuf| {
        path.parent() == Some(folder) && {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&start) && name.ends_with(".deb")
        }
    };
    Ok(files_under(folder)?.into_iter().rfind(is_it))
}

/// Downloads a package with the user's package client, which checks it too.
fn download(folder: &Path, package: &str) -> Result<PathBuf, DataError> {
    tracing::info!(package, "downloading");
    let error = |got: String| DataError::Package { package: package.to_owned(), got };
    // Into a folder of its own: a file that is there is whole.
    let unfinished = TempDir::new_in(folder).map_err(DataError::io(folder, "create a folder in"))?;
    let output =
        Command::new("apt-get").args(["download", "-qq", package]).current_dir(unfinished.path()).output();
    succeeded("apt-get", output).map_err(error)?;
    let file = find(unfinished.path(), package)?.ok_or_else(|| error("no file of apt-get".into()))?;
    let to = folder.join(file.file_name().unwrap_or_default());
    fs::rename(&file, &to).map_err(DataError::io(&to, "rename to"))?;
    Ok(to)
}

/// Checks a package's file: it is the one of Debian 12, or the one that the package list of this machine has.
fn check(file: &Path, package: &str, pinned: &str) -> Result<(), DataError> {
    let got = hex(&Sha256::digest(fs::read(file).map_err(DataError::io(file, "read"))?));
    if got == pinned {
        return Ok(());
    }
    let shown = succeeded("apt-cache", Command::new("apt-cache").args(["show", package]).output());
    let listed = shown.unwrap_or_default();
    match listed.lines().any(|line| line.strip_prefix("SHA256: ") == Some(&got)) {
        true => Ok(()),
        false => {
            Err(DataError::PackageChecksum { path: file.to_path_buf(), expected: pinned.to_owned(), got })
        }
    }
}

/// Unpacks a package and adds its texts.
fn add_texts(file: &Path, package: &str, corpus: &mut Corpus) -> Result<(), DataError> {
    let error = |got: String| DataError::Package { package: package.to_owned(), got };
    let unpacked = TempDir::new().map_err(DataError::io(&env::temp_dir(), "create a folder in"))?;
    succeeded("dpkg-deb", Command::new("dpkg-deb").arg("-x").args([file, unpacked.path()]).output())
        .map_err(error)?;
    let mut skip = |reason: &str| *corpus.skipped.entry(format!("file: {reason}")).or_default() += 1;
    for path in files_under(unpacked.path())? {
        let name = relative_name(unpacked.path(), &path);
        let name = name.trim_end_matches(".gz");
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        if !["Rnw", "tex", "latex"].contains(&extension) {
            continue;
        }
        let text = text(&path)?;
        if COPIES.iter().any(|copy| name.ends_with(copy)) {
            skip("a copy for another size of paper");
        } else if text.len() < MIN_BYTES {
            skip("less than 16 KiB");
        } else {
            let title = stem.rsplit('/').next().unwrap_or(stem);
            corpus.members.push(Member {
                name: format!("{package}: {title}"),
                group: family(package).to_owned(),
                split: split(package),
                licence: None,
                text: text.into_bytes(),
            });
        }
    }
    Ok(())
}

/// Reads a text, packed or not; what is not UTF-8 is Latin-1.
fn text(path: &Path) -> Result<String, DataError> {
    let mut bytes = fs::read(path).map_err(DataError::io(path, "read"))?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut unpacked = vec![];
        GzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).map_err(DataError::io(path, "unpack"))?;
        bytes = unpacked;
    }
    let text = String::from_utf8(bytes);
    let text = text.unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect());
    Ok(text.replace("\r\n", "\n"))
}

/// Returns the package whose name stands for a package and those that took texts over from it.
fn family(package: &str) -> &str {
    match package {
        "r-cran-partykit" => "r-cran-party",
        other => other,
    }
}

/// Returns the split of a package.
fn split(package: &str) -> Split {
    match fraction(SALT, family(package)) {
        part if part < TEST => Split::Test,
        part if part < TEST + VALIDATION => Split::Validation,
        _ => Split::Train,
    }
}

/// Returns what a program printed, or why it did not.
fn succeeded(program: &str, output: std::io::Result<Output>) -> Result<String, String> {
    let output = output.map_err(|error| format!("{program} cannot be started ({error})"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(text.lines().find(|line| !line.trim().is_empty()).unwrap_or(program).trim().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_has_packages() {
        let count = |wanted| PACKAGES.iter().filter(|(package, _)| split(package) == wanted).count();
        let counts = Split::ALL.map(count);
        assert!(counts[0] >= 15 && counts[1] >= 2 && counts[2] >= 2, "{counts:?}");
    }

    #[test]
    fn a_changed_package_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c++-annotations-latex_1_all.deb");
        fs::write(&file, "no package").unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}: expected sha256 {}, or ", file.display(), PACKAGES[0].1)),
            "{error}"
        );
    }
}
