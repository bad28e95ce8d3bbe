//! Families of crates: crates of one project, which share code and style and so stay in one split.

use crate::{Split, corpus::fraction};

/// Starts of names that are one family although no `-` or `_` follows them, or another does.
const STEMS: [&str; 12] = [
    "serde",
    "tokio",
    "rand",
    "http",
    "hyper",
    "tower",
    "tracing",
    "crossbeam",
    "futures",
    "anst",
    "clap",
    "toml",
];

/// Crates that belong to a family of another name.
const ALIASES: [(&str, &str); 5] =
    [("aho", "regex"), ("axum", "tower"), ("chacha", "rand"), ("miniz", "flate"), ("torch", "tch")];

/// What is hashed before a family's name. Chosen so that the largest families are for training.
const SALT: &str = "brt-data code 2968: ";

/// Parts of the families, by hash of their names, that go to test and to validation; the rest is for training.
const TEST: f64 = 0.17;
const VALIDATION: f64 = 0.07;

/// Returns the family of a crate: its name up to the first `-` or `_`, without digits at the end, or the stem or
/// alias that covers it.
pub(super) fn family(name: &str) -> String {
    if let Some(stem) = STEMS.iter().find(|&&stem| name.starts_with(stem)) {
        return (*stem).to_owned();
    }
    let prefix = name.split(['-', '_']).next().unwrap_or(name);
    let stem = prefix.trim_end_matches(|c: char| c.is_ascii_digit());
    let alias = ALIASES.iter().find(|(own, _)| *own == stem);
    alias.map_or(stem, |(_, family)| family).to_owned()
}

/// Returns the split of a family; it does not change when other crates come or go.
pub(super) fn split(family: &str) -> Split {
    match fraction(SALT, family) {
        part if part < TEST => Split::Test,
        part if part < TEST + VALIDATION => Split::Validation,
        _ => Split::Train,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_one_project_are_one_family() {
        let families = [
            ("serde_json", "serde"),
            ("crossbeam-utils", "crossbeam"),
            ("rand_chacha", "rand"),
            ("zstd-safe", "zstd"),
            ("httparse", "http"),
            ("sha1", "sha"),
            ("sha2", "sha"),
            ("torch-sys", "tch"),
            ("axum-core", "tower"),
            ("chacha20", "rand"),
            ("memchr", "memchr"),
        ];
        for (name, expected) in families {
            assert_eq!(family(name), expected, "{name}");
        }
    }
}
