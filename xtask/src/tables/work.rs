//! The work itself: runs in a queue, what is made of finished ones, and the report after each.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use brt_report::{read_json, write_atomic, write_json};

use super::{
    experiments::{Experiments, Words},
    page::Report,
    plan::Planned,
    records::{Records, WHOLE_TEST},
    request::Request,
    words::WordGains,
};
use crate::{
    failure::{Context, Result, fail},
    runs, tools, ui,
};

/// What the comparison of words is called where it fails.
const WORDS: &str = "words";
/// Tokens of each document in which words are compared.
const WORDS_DOCUMENT_LEN: &str = "16384";

/// What is being done.
pub(super) struct Work<'a> {
    pub(super) brt: &'a Path,
    pub(super) request: &'a Request,
    pub(super) records: Records,
}

impl Work<'_> {
    /// Makes the planned runs, then what is made of finished ones, and writes the report. `others`, by row and name, are
    /// in the folder and are read, not made.
    pub(super) fn run(mut self, planned: Vec<Planned>, others: Vec<(String, String)>) -> Result {
        let mut missing = vec![];
        for run in planned {
            match run.job.finished() {
                Ok(None) => missing.push(run),
                Ok(Some(result)) => self.records.add(&run.row, &run.job.name, Ok(result)),
                Err(failure) => self.records.add(&run.row, &run.job.name, Err(failure)),
            }
        }
        self.read(others)?;
        self.compare_words()?;
        self.train(missing)?;
        if runs::interrupted() {
            return Ok(());
        }
        self.score_whole_documents()?;
        self.compare_words()?;
        if runs::interrupted() {
            return Ok(());
        }
        self.show()?;
        match self.records.failures.keys().cloned().collect::<Vec<_>>() {
            failures if failures.is_empty() => Ok(()),
            failures => {
                let names = failures.join(", ");
                fail(format!("failed: {names}; the report says why, and the same command tries again"))
            }
        }
    }

    /// Reads the runs, by row and name, that have ended, and what was made of them.
    pub(super) fn read(&mut self, runs: Vec<(String, String)>) -> Result {
        for (row, name) in runs {
            match runs::result(&self.request.out.join("runs").join(&name)) {
                Ok(None) => (), // Begun by another start.
                Ok(Some(result)) => self.records.add(&row, &name, Ok(result)),
                Err(failure) => self.records.add(&row, &name, Err(failure)),
            }
        }
        for (row, seed, folder) in self.whole_rows() {
            self.records.add_whole(&row, seed, &folder)?;
        }
        let path = self.words_path();
        if path.exists() {
            let found: WordGains = read_json(&path, "gains of words")?;
            self.records.words = Some(found).filter(|found| found.fits(self.records.file.words.as_ref()));
        }
        Ok(())
    }

    /// Writes the report and prints the claims.
    pub(super) fn show(&self) -> Result {
        let report = self.write()?;
        ui::result(&report.claims);
        ui::result(&format!("{}.", report.verdict));
        for extension in ["html", "md"] {
            ui::result(&self.request.out.join(format!("report.{extension}")).display().to_string());
        }
        Ok(())
    }

    fn train(&mut self, missing: Vec<Planned>) -> Result {
        let (num_missing, mut num_ended) = (missing.len(), 0);
        let rows: BTreeMap<String, String> =
            missing.iter().map(|run| (run.job.name.clone(), run.row.clone())).collect();
        let jobs: Vec<_> = missing.into_iter().map(|run| run.job).collect();
        let (brt, slots) = (self.brt, &self.request.slots);
        runs::run_all(brt, slots, jobs, |job, outcome| {
            if runs::interrupted() && outcome.is_err() {
                return Ok(()); // It has saved itself and goes on another time.
            }
            num_ended += 1;
            ui::line(&format!("{num_ended} of {num_missing} runs ended"));
            self.records.add(&rows[&job.name], &job.name, outcome);
            // A report of what is there: tables of days can be read before they are whole.
            self.write()?;
            self.compare_words()
        })
    }

    /// Writes the report of what is known.
    fn write(&self) -> Result<Report> {
        let report = Report::new(&self.records);
        let out = &self.request.out;
        for (name, svg) in &report.plots {
            write_atomic(&out.join(name), svg.as_bytes())?;
        }
        write_json(&out.join("claims.json"), &report.checked)?;
        write_atomic(&out.join("report.md"), report.markdown.as_bytes())?;
        write_atomic(&out.join("report.html"), report.html.as_bytes())?;
        Ok(report)
    }

    /// Returns row, seed and folder of the runs whose documents are scored whole: the first seed of each row.
    fn whole_rows(&self) -> Vec<(String, u64, PathBuf)> {
        let tables = self.records.file.tables.iter().filter(|table| table.whole_split);
        let run = |row: &str| {
            let (seed, _) = self.records.of(row).next()?;
            Some((row.to_owned(), seed, self.run_folder(row, seed)))
        };
        Experiments::row_names(tables).into_iter().filter_map(run).collect()
    }

    fn score_whole_documents(&mut self) -> Result {
        let wanted: Vec<&str> =
            Experiments::row_names(self.request.tables().filter(|table| table.whole_split));
        for (row, seed, folder) in self.whole_rows() {
            if !wanted.contains(&row.as_str()) {
                continue;
            }
            let path = folder.join(WHOLE_TEST);
            let name = format!("{row}-seed{seed}");
            if !path.exists() && has_model(&folder) && !runs::interrupted() {
                ui::headline(&format!("whole documents: {name}"));
                let mut command = self.brt("eval", &folder);
                command.args(["--carried-only", "--max-document-len", "0", "--json"]).arg(&path);
                if let Err(failure) = tools::run_and_quote("brt eval", &mut command) {
                    self.records.add(&row, &format!("{name}, whole documents"), Err(failure.message));
                }
            }
            self.records.add_whole(&row, seed, &folder)?;
        }
        Ok(())
    }

    /// Compares the words of two models, where both have been trained here with one seed and it has not been done or
    /// tried.
    fn compare_words(&mut self) -> Result {
        let Some(words) = self.records.file.words.clone() else { return Ok(()) };
        let seeds = |row: &str| self.records.of(row).map(|(seed, _)| seed).collect::<Vec<_>>();
        let seed = seeds(&words.model).into_iter().find(|seed| seeds(&words.against).contains(seed));
        let is_tried = self.records.words.is_some() || self.records.failures.contains_key(WORDS);
        let Some(seed) = seed.filter(|_| !is_tried && !runs::interrupted()) else { return Ok(()) };
        let folders = [&words.model, &words.against].map(|row| self.run_folder(row, seed));
        if !folders.iter().all(|folder| has_model(folder)) {
            return Ok(());
        }
        match self.word_gains(&words, seed, &folders) {
            Ok(found) => {
                write_json(&self.words_path(), &found)?;
                self.records.words = Some(found);
            }
            Err(failure) => self.records.add(&words.model, WORDS, Err(failure.message)),
        }
        Ok(())
    }

    fn word_gains(&self, words: &Words, seed: u64, folders: &[PathBuf; 2]) -> Result<WordGains> {
        let scores = folders.each_ref().map(|folder| folder.join("tokens.jsonl"));
        for (folder, scores) in folders.iter().zip(&scores) {
            ui::headline(&format!("nats of every token: {}", folder.display()));
            let mut command = self.brt("score", folder);
            command.args(["--carried-only", "--max-document-len", WORDS_DOCUMENT_LEN, "--jsonl"]).arg(scores);
            tools::run_and_quote("brt score", &mut command)?;
        }
        let window_len = self.records.first(&words.against).map_or(0, |result| result.model.window_len);
        let found = WordGains::new(words, seed, [&scores[0], &scores[1]], window_len)?;
        for path in &scores {
            fs::remove_file(path).context(|| format!("removing {}", path.display()))?;
        }
        Ok(found)
    }

    fn run_folder(&self, row: &str, seed: u64) -> PathBuf {
        self.request.out.join(format!("runs/{row}-seed{seed}"))
    }

    fn words_path(&self) -> PathBuf {
        self.request.out.join("words.json")
    }

    /// Returns a command on the test documents with the model of a run.
    fn brt(&self, name: &str, folder: &Path) -> Command {
        let mut command = Command::new(self.brt);
        command.arg(name).arg(folder).arg("--data").arg(self.request.data());
        if let Some(device) = self.request.slots.first().and_then(|slot| slot.device.as_ref()) {
            command.args(["--device", device]);
        }
        command
    }
}

/// Returns whether a run's model is still there: reports are kept without it.
fn has_model(folder: &Path) -> bool {
    folder.join("checkpoints").is_dir()
}
