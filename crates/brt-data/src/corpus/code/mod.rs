//! The task of the paper's GitHub corpus with what is on every machine that builds the project: all source files of a
//! repository joined into one document. The repositories are the crates that a workspace's lock file pins, so the
//! corpus depends on the lock file and on nothing else.

mod cargo;
mod family;
mod filter;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

use rayon::prelude::*;

use self::{
    cargo::Crate,
    filter::{is_binding, skip_file, without_licence},
};
use super::{Corpus, Member};
use crate::{
    DataError,
    files::{files_under, relative_name},
    manifest::sha256_hex,
};

/// Crates with less text than this, in bytes, are left out: they are not long documents.
const MIN_CRATE_BYTES: usize = 32 * 1024;

/// How often something was left out, by reason.
type Counts = BTreeMap<&'static str, u64>;

/// A source file: its path in the crate, and its text without a licence.
struct Source {
    path: String,
    text: String,
}

/// Lists one document per crate that the lock file beside `manifest_path` pins.
pub(super) fn read(manifest_path: &Path) -> Result<Corpus, DataError> {
    let mut counts = Counts::new();
    let (mut crates, num_older) = cargo::newest_crates(manifest_path)?;
    let num_crates = crates.len();
    crates.retain(|c| !is_binding(&c.name));
    counts.insert("crate: older version", num_older as u64);
    counts.insert("crate: bindings or data", (num_crates - crates.len()) as u64);

    let read = crates.par_iter().map(read_sources).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    let mut members = Vec::new();
    for (c, (sources, skipped)) in crates.iter().zip(read) {
        for (reason, count) in skipped {
            *counts.entry(reason).or_default() += count;
        }
        let text = join(sources, &mut seen, &mut counts);
        if text.len() < MIN_CRATE_BYTES {
            *counts.entry("crate: less than 32 KiB").or_default() += 1;
            continue;
        }
        let group = family::family(&c.name);
        let split = family::split(&group);
        let (name, licence) = (c.full_name(), c.licence.clone());
        members.push(Member { name, group, split, licence, text: text.into_bytes() });
    }
    let skipped = counts.into_iter().filter(|&(_, count)| count > 0);
    Ok(Corpus {
        name: "code",
        licence: "those of the crates, nearly all MIT or Apache-2.0; `works` has each",
        origin: "Rust sources of the crates that Cargo.lock pins, target x86_64-unknown-linux-gnu".to_owned(),
        skipped: skipped.map(|(reason, count)| (reason.to_owned(), count)).collect(),
        members,
    })
}

/// Reads the source files of a crate in the order of their paths, and counts those that were left out.
fn read_sources(c: &Crate) -> Result<(Vec<Source>, Counts), DataError> {
    let mut counts = Counts::new();
    let mut sources = Vec::new();
    for file in files_under(&c.folder)? {
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let path = relative_name(&c.folder, &file);
        let bytes = fs::read(&file).map_err(DataError::io(&file, "read"))?;
        match skip_file(&path, &bytes) {
            Ok(text) => sources.push(Source { path, text: without_licence(text).to_owned() }),
            Err(reason) => *counts.entry(reason).or_default() += 1,
        }
    }
    Ok((sources, counts))
}

/// Joins the files of a crate, each below a line with its path; files that `seen` holds already are left out.
fn join(sources: Vec<Source>, seen: &mut HashSet<String>, counts: &mut Counts) -> String {
    let mut document = String::new();
    for Source { path, text } in sources {
        if !seen.insert(sha256_hex(text.as_bytes())) {
            *counts.entry("file: identical to another").or_default() += 1;
            continue;
        }
        document.push_str(&format!("// {path}\n"));
        document.push_str(text.trim_end());
        document.push_str("\n\n");
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_joined_below_their_paths_and_copies_left_out() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let sources =
            vec![source("src/a.rs", "fn a() {}\n"), source("src/b.rs", "fn a() {}\n"), source("c.rs", "x")];
        let (mut seen, mut counts) = (HashSet::new(), Counts::new());
        assert_eq!(join(sources, &mut seen, &mut counts), "// src/a.rs\nfn a() {}\n\n// c.rs\nx\n\n");
        assert_eq!(counts["file: identical to another"], 1);
    }
}
