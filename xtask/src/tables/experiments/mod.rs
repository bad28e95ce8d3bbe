//! Which rows are trained, how they are tabulated and what is claimed of them: `tables.toml` beside configurations.

mod check;

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Share of names and identifiers among the words that gain most, less that among the words that lose most.
    Names,
    /// The same of words that had not occurred in the window.
    OutsideWindow,
}

fn one() -> u64 {
    1
}

/// Returns one sentence about a mistake in a file of TOML.
pub(super) fn toml_failure(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
    let at = line.map_or(String::new(), |line| format!(", line {line}"));
    format!("{}{at}: {}", path.display(), error.message().trim_end().replace('\n', " "))
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
        let file: File = toml::from_str(&text).or_else(|error| fail(toml_failure(&path, &text, &error)))?;
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
}
