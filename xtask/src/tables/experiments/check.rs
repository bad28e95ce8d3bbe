//! Mistakes in `tables.toml`, each told in one sentence.

use super::{super::paper::QUANTITIES, Claim, Experiment, Experiments, Measure};
use crate::failure::{Result, fail};

impl Experiments {
    /// Checks that every name is that of a row, and every claim can be measured.
    pub(super) fn check(&self) -> Result {
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
        if self.file.headline_seeds == 0 {
            return fail("headline_seeds: expected at least 1, got 0");
        }
        for table in &self.file.tables {
            if self.file.tables.iter().filter(|other| other.name == table.name).count() > 1 {
                return fail(format!("tables: {} is there twice", table.name));
            }
            known(&format!("table {}, reference", table.name), &table.reference)?;
            let mut against = table.rows.iter().filter_map(|row| row.against.as_ref());
            against.try_for_each(|name| known(&format!("table {}", table.name), name))?;
            table.check().or_else(|why| fail(format!("table {}, {why}", table.name)))?;
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

impl Experiment {
    /// Checks that what is drawn are rows of the table, and that the paper's quantities are known.
    fn check(&self) -> std::result::Result<(), String> {
        let drawn = self.series.iter().flat_map(|series| &series.rows).chain(&self.lines);
        let is_row = |name: &&String| self.rows.iter().any(|row| row.config == **name);
        if let Some(name) = drawn.into_iter().find(|name| !is_row(name)) {
            return Err(format!("series and lines: expected the config of one of its rows, got {name}"));
        }
        match self.quantities.iter().find(|name| !QUANTITIES.contains(&name.as_str())) {
            Some(name) => Err(format!("quantities: expected some of {}, got {name}", QUANTITIES.join(","))),
            None => Ok(()),
        }
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
    use std::{fs, path::Path};

    use super::{
        super::{FILE, Row},
        *,
    };

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
            (format!("colour = 1\n{TABLE}"), "tables.toml, line 1: unknown field `colour`"),
            (format!("headline_seeds = 0\n{TABLE}"), "headline_seeds: expected at least 1, got 0"),
            (
                format!("{TABLE}lines = ['a', 'c']\n"),
                "table one, series and lines: expected the config of one of its rows, got c",
            ),
            (format!("{TABLE}quantities = ['pg20']\n"), "table one, quantities: expected some of"),
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
        for (preset, tables) in [("laptop", 8), ("paper", 7)] {
            let experiments = Experiments::load(&configs.join(preset)).unwrap();
            assert_eq!(experiments.file.tables.len(), tables, "{preset}");
            assert!(experiments.file.claims.len() >= 18, "{preset}");
        }
    }
}
