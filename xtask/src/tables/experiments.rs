//! Which rows are trained, how they are tabulated and what is claimed of them: `tables.toml` beside configurations.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use crate::{
    failure::{Context, Result, fail},
    runs,
};

/// The file's name in its folder.
const FILE: &str = runs::TABLES_FILE;

/// A folder of configurations with what it is for.
#[derive(Debug, Clone)]
pub(super) struct Experiments {
    pub(super) folder: PathBuf,
    pub(super) file: File,
    /// The text of every configuration of the folder, by name.
    pub(super) config_texts: BTreeMap<String, String>,
}

/// `tables.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) title: String,
    /// The row that step times are relative to.
    pub(super) baseline: String,
    /// What each row may cost, where the configurations do not decide.
    pub(super) budget: Option<Budget>,
    /// Rows that are trained with `headline_seeds` seeds instead of one.
    #[serde(default)]
    pub(super) headline: Vec<String>,
    #[serde(default = "one")]
    pub(super) headline_seeds: u64,
    /// Vocabulary of a byte-level BPE tokenizer that is trained on the corpus' training documents; bytes where absent.
    pub(super) vocab_size: Option<u64>,
    /// Keys of configurations that are laid over every row.
    #[serde(default)]
    set: BTreeMap<String, String>,
    pub(super) tables: Vec<Experiment>,
    pub(super) words: Option<Words>,
    #[serde(default)]
    pub(super) claims: Vec<Claim>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Experiment {
    /// What `--only` calls it.
    pub(super) name: String,
    pub(super) title: String,
    #[serde(default)]
    pub(super) text: String,
    /// The row that differences are taken from.
    pub(super) reference: String,
    pub(super) rows: Vec<Row>,
    /// Rows that are drawn as lines over their parameters.
    #[serde(default)]
    pub(super) series: Vec<RowSeries>,
    /// Rows that are drawn as lines over tokens, time and position.
    #[serde(default)]
    pub(super) lines: Vec<String>,
    /// Quantities of the paper that stand beside the rows.
    #[serde(default)]
    pub(super) quantities: Vec<String>,
    /// Every test document is scored whole, after training.
    #[serde(default)]
    pub(super) whole_split: bool,
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// Name of its configuration.
    pub(super) config: String,
    /// What it is called in the table.
    label: Option<String>,
    /// Its name in the paper.
    pub(super) paper: Option<String>,
    /// The row that its difference is taken from, where that is not the table's.
    pub(super) against: Option<String>,
}

/// Rows that belong together in a plot.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowSeries {
    pub(super) name: String,
    pub(super) rows: Vec<String>,
}

/// Which words gain: of which model over which, how many of how many documents are shown.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Words {
    pub(super) model: String,
    pub(super) against: String,
    pub(super) documents: usize,
    pub(super) per_document: usize,
}

/// A sentence of the paper, as a region in which a measured quantity must lie.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    pub(super) text: String,
    pub(super) measure: Measure,
    #[serde(default)]
    pub(super) of: Vec<String>,
    #[serde(default)]
    pub(super) against: Vec<String>,
    /// Each pair must lie in the region, not their mean; so it is always for step times.
    #[serde(default)]
    pub(super) each: bool,
    pub(super) above: Option<f64>,
    pub(super) below: Option<f64>,
    /// What the paper says; absent where the claim is ours.
    pub(super) paper: Option<String>,
}

/// What a claim is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Measure {
    /// Difference in bits/byte.
    Loss,
    /// What resetting the state costs, in bits/byte.
    Reset,
    /// Ratio of times per token.
    StepTime,
    /// Share of names and identifiers among the words that gain most, less that among all words.
    Names,
    /// The same of words that had not occurred in the window.
    OutsideWindow,
}

fn one() -> u64 {
    1
}

impl Row {
    /// Returns what the row is called.
    pub(super) fn label(&self) -> &str {
        self.label.as_deref().or(self.paper.as_deref()).unwrap_or(&self.config)
    }
}

impl Experiment {
    /// Returns the row that a row's difference is taken from.
    pub(super) fn reference_of<'a>(&'a self, row: &'a Row) -> &'a str {
        row.against.as_deref().unwrap_or(&self.reference)
    }
}

impl Experiments {
    /// Reads and checks the experiments of a folder.
    pub(super) fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).context(|| format!("reading {}", path.display()))?;
        let file: File = toml::from_str(&text).or_else(|error| {
            let text = error.to_string();
            let text = text.trim_end().replace('\n', " ");
            fail(format!("{}: {text}", path.display()))
        })?;
        let config_texts = runs::read_configs(folder)?;
        let experiments = Self { folder: folder.into(), file, config_texts };
        experiments.check().or_else(|failure| fail(format!("{}: {}", path.display(), failure.message)))?;
        Ok(experiments)
    }

    /// Returns the names of all rows of the given tables, each once, in their order.
    pub(super) fn row_names<'a>(tables: impl IntoIterator<Item = &'a Experiment>) -> Vec<&'a str> {
        let mut names: Vec<&str> = vec![];
        for row in tables.into_iter().flat_map(|table| &table.rows) {
            if !names.contains(&row.config.as_str()) {
                names.push(&row.config);
            }
        }
        names
    }

    /// Returns the keys that are laid over every row.
    pub(super) fn set(&self) -> BTreeMap<String, String> {
        let mut set = self.file.set.clone();
        set.extend(self.file.vocab_size.map(|size| ("model.vocab_size".to_owned(), size.to_string())));
        set
    }

    /// Returns the path of a row's configuration.
    pub(super) fn config(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.toml"))
    }

    fn check(&self) -> Result {
        let names = Self::row_names(&self.file.tables);
        let known = |what: &str, name: &str| match names.contains(&name) {
            true => Ok(()),
            false => fail(format!("{what}: expected the config of a row, got {name}")),
        };
        for name in &names {
            if !self.config_texts.contains_key(*name) {
                return fail(format!("tables: {name} has no {name}.toml beside it"));
            }
        }
        known("baseline", &self.file.baseline)?;
        self.file.headline.iter().try_for_each(|name| known("headline", name))?;
        for table in &self.file.tables {
            if self.file.tables.iter().filter(|other| other.name == table.name).count() > 1 {
                return fail(format!("tables: {} is there twice", table.name));
            }
            known(&format!("table {}, reference", table.name), &table.reference)?;
            let against = table.rows.iter().filter_map(|row| row.against.as_ref());
            let plotted = table.series.iter().flat_map(|series| &series.rows).chain(&table.lines);
            against.chain(plotted).try_for_each(|name| known(&format!("table {}", table.name), name))?;
        }
        if let Some(words) = &self.file.words {
            known("words", &words.model)?;
            known("words", &words.against)?;
        }
        self.file.claims.iter().try_for_each(|claim| {
            let of = format!("claim \"{}\"", claim.text);
            claim.of.iter().chain(&claim.against).try_for_each(|name| known(&of, name))?;
            claim.check().or_else(|why| fail(format!("{of}: {why}")))
        })
    }
}

impl Claim {
    /// Checks that rows and region fit the measure.
    fn check(&self) -> std::result::Result<(), &'static str> {
        let fits = match self.measure {
            Measure::Loss | Measure::StepTime => self.of.len() == self.against.len() && !self.of.is_empty(),
            Measure::Reset => self.against.is_empty() && !self.of.is_empty(),
            Measure::Names | Measure::OutsideWindow => self.of.is_empty() && self.against.is_empty(),
        };
        if !fits {
            return Err("of and against do not fit its measure");
        }
        let in_order = self.above.unwrap_or(f64::NEG_INFINITY) < self.below.unwrap_or(f64::INFINITY);
        if !in_order || (self.above.is_none() && self.below.is_none()) {
            return Err("expected above, below, or above less than below");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> std::result::Result<Experiments, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), toml).unwrap();
        for name in ["a", "b"] {
            fs::write(folder.path().join(format!("{name}.toml")), "").unwrap();
        }
        Experiments::load(folder.path()).map_err(|failure| failure.message)
    }

    const TABLE: &str = "title = 't'\nbaseline = 'a'\n[[tables]]\nname = 'one'\ntitle = 'One'\nreference = 'a'\n\
        rows = [{ config = 'a', paper = 'A' }, { config = 'b' }]\n";

    #[test]
    fn mistakes_are_told_in_one_line() {
        let whole = load(TABLE).unwrap();
        assert_eq!(Experiments::row_names(&whole.file.tables), ["a", "b"]);
        assert_eq!(whole.file.tables[0].rows.iter().map(Row::label).collect::<Vec<_>>(), ["A", "b"]);
        let claim = |text: &str| format!("{TABLE}[[claims]]\ntext = 'c'\npaper = ''\n{text}");
        for (toml, expected) in [
            (
                TABLE.replace("baseline = 'a'", "baseline = 'c'"),
                "baseline: expected the config of a row, got c",
            ),
            (TABLE.replace("{ config = 'b' }", "{ config = 'c' }"), "tables: c has no c.toml beside it"),
            (
                TABLE.replace("reference = 'a'", "reference = 'x'"),
                "table one, reference: expected the config of a row, got x",
            ),
            (format!("colour = 1\n{TABLE}"), "unknown field `colour`"),
            (
                claim("measure = 'loss'\nof = ['a']\nbelow = 0.0"),
                "claim \"c\": of and against do not fit its measure",
            ),
            (claim("measure = 'loss'\nof = ['a']\nagainst = ['d']\nbelow = 0.0"), "got d"),
            (claim("measure = 'reset'\nof = ['a']"), "expected above, below, or above less than below"),
        ] {
            let message = load(&toml).unwrap_err();
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn the_experiments_that_come_with_brt_are_whole() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benchmarks/configs");
        for (preset, tables) in [("laptop", 7), ("paper", 7)] {
            let experiments = Experiments::load(&configs.join(preset)).unwrap();
            assert_eq!(experiments.file.tables.len(), tables, "{preset}");
            assert!(experiments.file.claims.len() >= 18, "{preset}");
        }
    }
}
