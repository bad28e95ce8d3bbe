//! The paper's numbers: `benchmarks/paper-numbers.toml`, each with where it was found.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use super::experiments::toml_failure;
use crate::failure::{Context, Result, fail};

/// The file in the repository.
const FILE: &str = "benchmarks/paper-numbers.toml";

/// Numbers of the paper by row and quantity.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paper {
    /// What the letters of sources mean.
    pub(super) sources: BTreeMap<String, String>,
    /// What quantities are called.
    quantities: BTreeMap<String, String>,
    numbers: Vec<Numbers>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Numbers {
    row: String,
    #[serde(flatten)]
    by_quantity: BTreeMap<String, Number>,
}

/// One number, as it is to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Number {
    pub(super) value: String,
    pub(super) source: String,
}

/// Quantities in the order of their columns.
pub(super) const QUANTITIES: [&str; 6] = [
    "relative_step_time",
    "pg19_bytes",
    "pg19_tokens",
    "arxiv_tokens",
    "github_tokens",
    "pg19_word_perplexity",
];

impl Paper {
    /// Reads and checks the file.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        let text = fs::read_to_string(&path).context(|| format!("reading {}", path.display()))?;
        let paper: Self = toml::from_str(&text).or_else(|error| fail(toml_failure(&path, &text, &error)))?;
        paper.check().or_else(|why| fail(format!("{}: {why}", path.display())))?;
        Ok(paper)
    }

    fn check(&self) -> std::result::Result<(), String> {
        for numbers in &self.numbers {
            for (quantity, number) in &numbers.by_quantity {
                if !QUANTITIES.contains(&quantity.as_str()) || !self.quantities.contains_key(quantity) {
                    return Err(format!("{}: unknown quantity {quantity}", numbers.row));
                }
                let known = number.source.split(", ").all(|letter| self.sources.contains_key(letter));
                if !known || number.value.is_empty() {
                    return Err(format!("{}, {quantity}: expected a value and known sources", numbers.row));
                }
            }
        }
        Ok(())
    }

    /// Returns a number of a row.
    pub(super) fn number(&self, row: &str, quantity: &str) -> Option<&Number> {
        self.numbers.iter().find(|numbers| numbers.row == row)?.by_quantity.get(quantity)
    }

    /// Returns the quantities that some of the rows have, with what they are called.
    pub(super) fn quantities(&self, rows: &[&str]) -> Vec<(&'static str, &str)> {
        let some = |quantity: &&'static str| rows.iter().any(|row| self.number(row, quantity).is_some());
        QUANTITIES
            .into_iter()
            .filter(some)
            .map(|quantity| (quantity, self.quantities[quantity].as_str()))
            .collect()
    }

    /// Returns the rows that have a quantity, with it.
    pub(super) fn all(&self, quantity: &str) -> Vec<(&str, &Number)> {
        let rows = self.numbers.iter().filter(|numbers| numbers.by_quantity.contains_key(quantity));
        rows.map(|numbers| (numbers.row.as_str(), &numbers.by_quantity[quantity])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_source() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let paper = Paper::read(&root).unwrap();
        let best = paper.number("Rec:fixed:skip", "arxiv_tokens").unwrap();
        assert_eq!((best.value.as_str(), best.source.as_str()), ("1.24", "b, c"));
        assert_eq!(paper.number("Rec:lstm:dual", "arxiv_tokens"), None);
        let columns: Vec<_> =
            paper.quantities(&["XL:512"]).into_iter().map(|(quantity, _)| quantity).collect();
        assert_eq!(columns, ["relative_step_time", "pg19_tokens", "arxiv_tokens", "github_tokens"]);
        assert!(paper.all("pg19_word_perplexity").len() >= 5);

        let text = fs::read_to_string(root.join(FILE)).unwrap();
        for (from, to, expected) in [
            ("source = \"b, c\"", "source = \"b, z\"", "expected a value and known sources"),
            ("arxiv_tokens = {", "arxiv_words = {", "unknown quantity arxiv_words"),
        ] {
            let paper: Paper = toml::from_str(&text.replace(from, to)).unwrap();
            assert!(paper.check().unwrap_err().contains(expected));
        }
    }
}
