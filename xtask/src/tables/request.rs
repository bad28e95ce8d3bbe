//! What the user asked for, and what an earlier start in the same folder asked for.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use brt_report::{read_json, write_json};
use serde::{Deserialize, Serialize};

use super::{
    budget::Budget,
    experiments::{Experiment, Experiments},
};
use crate::{
    failure::{Context, Result, fail},
    flags,
    runs::{Corpus, Slot, keys},
    tools,
};

/// The flags, checked.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) experiments: Experiments,
    pub(super) only: Only,
    pub(super) corpus: Corpus,
    pub(super) budget: Option<Budget>,
    /// Seeds of every row, where the user said a number.
    pub(super) seeds: Option<u64>,
    pub(super) slots: Vec<Slot>,
    /// Into how many parts the rows of a step are divided of which one is timed, where a whole step is too much.
    pub(super) parts: Option<u64>,
    pub(super) dry_run: bool,
    /// Write the report of what is there, and nothing else.
    pub(super) report: bool,
    pub(super) out: PathBuf,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Only {
    /// Names of tables; all of their rows are trained.
    pub(super) tables: Vec<String>,
    /// Rows that are trained beside them.
    rows: Vec<String>,
}

/// `plan.json`: what may not change between two starts in one folder, and the commands of those that trained.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    #[serde(default)]
    commands: Vec<String>,
    corpus: String,
    budget: Option<Budget>,
    set: BTreeMap<String, String>,
    config_texts: BTreeMap<String, String>,
}

impl Request {
    /// Checks the flags and reads the experiments.
    pub(super) fn new(root: &Path, flags: &flags::Tables) -> Result<Self> {
        let preset = flags.preset.as_deref().unwrap_or("laptop");
        if !matches!(preset, "laptop" | "paper") {
            return fail(format!("--preset: expected laptop or paper, got {preset}"));
        }
        if flags.preset.is_some() && flags.configs.is_some() {
            return fail("--preset and --configs: expected one of them, got both");
        }
        let folder = flags.configs.clone().unwrap_or_else(|| root.join("benchmarks/configs").join(preset));
        let experiments = Experiments::load(&folder)?;
        let corpus = Corpus::new(flags.corpus.as_deref(), flags.data.as_deref())?;
        let budget = match flags.budget.as_deref().map(str::parse::<Budget>).transpose() {
            Ok(budget) => budget.or(experiments.file.budget),
            Err(why) => return fail(format!("--budget: {why}")),
        };
        for (name, number) in [("--seeds", flags.seeds), ("--parts", flags.parts)] {
            if number == Some(0) {
                return fail(format!("{name}: expected at least 1, got 0"));
            }
        }
        let only = only(&experiments, flags.only.as_deref())?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("runs/tables-{name}-{}", corpus.short_name());
        let out = flags.out.clone().unwrap_or_else(|| root.join(name));
        let out = std::path::absolute(&out).context(|| format!("--out {}", out.display()))?;
        let slots = slots(flags.devices.as_deref())?;
        let (seeds, parts, dry_run, report) = (flags.seeds, flags.parts, flags.dry_run, flags.report);
        Ok(Self { experiments, only, corpus, budget, seeds, slots, parts, dry_run, report, out })
    }

    /// Returns the folder of the prepared corpus.
    pub(super) fn data(&self) -> PathBuf {
        self.corpus.folder(&self.out)
    }

    /// Returns the wanted tables.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Experiment> {
        self.experiments.file.tables.iter().filter(|table| self.only.tables.contains(&table.name))
    }

    /// Returns the wanted rows, each once: those of the wanted tables, and those that were named themselves.
    pub(super) fn rows(&self) -> Vec<&str> {
        let of_tables = Experiments::row_names(self.tables());
        Experiments::row_names(&self.experiments.file.tables)
            .into_iter()
            .filter(|row| of_tables.contains(row) || self.only.rows.iter().any(|name| name == row))
            .collect()
    }

    /// Checks that the folder holds tables, of this corpus and these configurations; returns the commands that made
    /// them.
    pub(super) fn commands(&self) -> Result<Vec<String>> {
        match self.plan()? {
            (plan, true) => Ok(plan.commands),
            (_, false) => fail(format!("--report: {} holds no tables", self.out.display())),
        }
    }

    /// Writes down what may not change, or checks that it has not, and adds a command to those that made the tables,
    /// which it returns. A dry run leaves nothing that binds.
    pub(super) fn keep(&self, command: String) -> Result<Vec<String>> {
        let (mut plan, _) = self.plan()?;
        if !plan.commands.contains(&command) {
            plan.commands.push(command);
        }
        if !self.dry_run {
            write_json(&self.out.join("plan.json"), &plan)?;
        }
        Ok(plan.commands)
    }

    /// Returns the plan with what the folder's has beside it, and whether the folder has one.
    fn plan(&self) -> Result<(Plan, bool)> {
        let path = self.out.join("plan.json");
        let mut plan = Plan {
            commands: vec![],
            corpus: self.corpus.to_string(),
            budget: self.budget,
            set: self.experiments.set(),
            config_texts: self.experiments.config_texts.clone(),
        };
        if !path.exists() {
            return Ok((plan, false));
        }
        let old: Plan = read_json(&path, "the plan of tables")?;
        let differences = old.differences(&plan);
        if !differences.is_empty() {
            return fail(format!(
                "{} holds tables with another {}: choose another --out",
                self.out.display(),
                differences.join(", ")
            ));
        }
        plan.commands = old.commands;
        for (name, text) in old.config_texts {
            plan.config_texts.entry(name).or_insert(text);
        }
        Ok((plan, true))
    }
}

impl Plan {
    /// Returns the names of what differs. A configuration that only one of them has makes no difference to the other's
    /// rows.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = vec![];
        let mut note = |differs: bool, name: &str| found.extend(differs.then(|| name.to_owned()));
        note(!Corpus::is_recorded_as(&other.corpus, &self.corpus), "--corpus or --data");
        note(self.budget != other.budget, "--budget");
        note(self.set != other.set, "vocab_size or [set] in tables.toml");
        for (name, text) in &self.config_texts {
            let other = other.config_texts.get(name);
            note(other.is_some_and(|other| !keys(other).eq(keys(text))), &format!("{name}.toml"));
        }
        found
    }
}

/// Returns what the names of tables and rows ask for; every table where there are none.
fn only(experiments: &Experiments, names: Option<&str>) -> Result<Only> {
    let all_tables: Vec<String> = experiments.file.tables.iter().map(|table| table.name.clone()).collect();
    let Some(names) = names else { return Ok(Only { tables: all_tables, rows: vec![] }) };
    let all_rows = Experiments::row_names(&experiments.file.tables);
    let mut only = Only { tables: vec![], rows: vec![] };
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if all_tables.iter().any(|table| table == name) {
            only.tables.push(name.to_owned());
        } else if all_rows.contains(&name) {
            only.rows.push(name.to_owned());
        } else {
            let tables = all_tables.join(",");
            return fail(format!("--only: expected some of {tables}, or names of rows, got {name}"));
        }
    }
    if only.tables.is_empty() && only.rows.is_empty() {
        return fail("--only: expected names of tables or rows, got none");
    }
    Ok(only)
}

/// Returns what the runs that go side by side may use: one for each device that is named, the processors divided among
/// them.
fn slots(devices: Option<&str>) -> Result<Vec<Slot>> {
    let Some(devices) = devices else {
        return Ok(vec![Slot { device: None, num_threads: tools::num_cpus() }]);
    };
    let names: Vec<&str> = devices.split(',').map(str::trim).collect();
    for name in &names {
        let number = name.strip_prefix("cuda:").map(str::parse::<usize>);
        if *name != "cpu" && !matches!(number, Some(Ok(_))) {
            return fail(format!("--devices: expected cpu or cuda:N, separated by commas, got {name:?}"));
        }
    }
    let num_threads = (tools::num_cpus() / names.len()).max(1);
    let slot = |name: &&str| Slot { device: Some((*name).into()), num_threads };
    Ok(names.iter().map(slot).collect())
}
