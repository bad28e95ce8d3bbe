//! `cargo xtask tables`: trains every row of the paper's tables at a chosen size and reports which conclusions hold.

mod budget;
mod charts;
mod claims;
mod experiments;
mod facts;
mod layout;
mod occurrences;
mod page;
mod paper;
mod plan;
mod records;
mod request;
mod scatter;
mod timing;
mod words;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use brt_report::{read_json, write_atomic, write_json};

use self::{
    experiments::Experiments,
    page::Report,
    paper::Paper,
    plan::Planned,
    records::{Records, WHOLE_TEST},
    request::{Corpus, Request},
    timing::Timings,
    words::WordGains,
};
use crate::{
    failure::{Context, Failure, INTERRUPTED, Result, fail},
    flags, runs, tools, ui,
};

/// Tokens of each document in which words are compared.
const WORDS_DOCUMENT_LEN: &str = "16384";

/// Makes what is missing of the tables, and writes their report.
pub(crate) fn run(root: &Path, flags: &flags::Tables) -> Result {
    let request = Request::new(root, flags)?;
    let paper = Paper::read(root)?;
    let rows = rows_to_time(&request);
    fs::create_dir_all(&request.out).context(|| format!("creating {}", request.out.display()))?;
    request.keep()?;
    runs::handle_interrupts()?;
    let brt = tools::brt(root)?;
    if let Corpus::Named(name) = &request.corpus {
        tools::prepare_corpus(root, &brt, name, request.experiments.file.vocab_size, &request.data())?;
    }
    let mut timings = Timings::read(&request, &rows)?;
    timings.complete(&brt, &request, &rows)?;
    check_interrupted(&request)?;
    let planned = plan::runs(&request, &timings);
    let (table, sum) = plan::estimate(&request, &planned);
    if request.dry_run {
        ui::result(&table.markdown());
        ui::result(&sum);
        return Ok(());
    }
    ui::line(&sum);
    let only = request.only.clone();
    let records =
        Records::new(request.experiments.file.clone(), only, request.corpus.to_string(), timings, paper);
    Work { brt: &brt, request: &request, records }.run(planned)
}

/// Returns the rows of the wanted tables and the baseline, without which nothing can be timed.
fn rows_to_time(request: &Request) -> Vec<&str> {
    let mut rows = Experiments::row_names(request.tables());
    let baseline = request.experiments.file.baseline.as_str();
    if !rows.contains(&baseline) {
        rows.insert(0, baseline);
    }
    rows
}

fn check_interrupted(request: &Request) -> Result {
    if !runs::interrupted() {
        return Ok(());
    }
    let message = format!("interrupted; the same command goes on ({})", request.out.display());
    Err(Failure { message, code: INTERRUPTED })
}

/// What is being done.
struct Work<'a> {
    brt: &'a Path,
    request: &'a Request,
    records: Records,
}

impl Work<'_> {
    fn run(mut self, planned: Vec<Planned>) -> Result {
        let mut missing = vec![];
        for run in planned {
            match run.job.finished() {
                Ok(None) => missing.push(run),
                Ok(Some(result)) => self.records.add(&run.row, &run.job.name, Ok(result)),
                Err(failure) => self.records.add(&run.row, &run.job.name, Err(failure)),
            }
        }
        self.read_finished()?;
        let (num_missing, mut num_ended) = (missing.len(), 0);
        let rows: std::collections::BTreeMap<String, String> =
            missing.iter().map(|run| (run.job.name.clone(), run.row.clone())).collect();
        let jobs: Vec<_> = missing.into_iter().map(|run| run.job).collect();
        let (brt, request) = (self.brt, self.request);
        runs::run_all(brt, &request.slots, jobs, |job, outcome| {
            num_ended += 1;
            ui::line(&format!("{num_ended} of {num_missing} runs ended"));
            self.records.add(&rows[&job.name], &job.name, outcome);
            // A report of what is there: tables of days can be read before they are whole.
            self.write().map(drop)
        })?;
        check_interrupted(request)?;
        self.score_whole_documents()?;
        self.compare_words()?;
        check_interrupted(request)?;
        let report = self.write()?;
        ui::result(&report.claims);
        ui::result(&format!("{}.", report.verdict));
        for extension in ["html", "md"] {
            ui::result(&request.out.join(format!("report.{extension}")).display().to_string());
        }
        match (self.records.failures.len(), self.records.all().count()) {
            (0, _) => Ok(()),
            (n, done) => fail(format!("{n} of {} runs failed; the same command tries them again", n + done)),
        }
    }

    /// Reads what was made of finished runs before.
    fn read_finished(&mut self) -> Result {
        for (row, seed, folder) in self.whole_rows() {
            self.records.add_whole(&row, seed, &folder)?;
        }
        let path = self.words_path();
        if path.exists() {
            self.records.words = Some(read_json(&path, "gains of words")?);
        }
        Ok(())
    }

    /// Writes the report of what is known.
    fn write(&self) -> Result<Report> {
        let report = Report::new(&self.records);
        let out = &self.request.out;
        for (name, svg) in &report.plots {
            write_atomic(&out.join(name), svg.as_bytes())?;
        }
        write_json(&out.join("claims.json"), &claims::check(&self.records))?;
        write_atomic(&out.join("report.md"), report.markdown.as_bytes())?;
        write_atomic(&out.join("report.html"), report.html.as_bytes())?;
        Ok(report)
    }

    /// Returns row, seed and folder of the runs whose documents are scored whole: the first seed of each row.
    fn whole_rows(&self) -> Vec<(String, u64, PathBuf)> {
        let tables = self.request.tables().filter(|table| table.whole_split);
        let run = |row: &str| {
            let (seed, _) = self.records.of(row).next()?;
            Some((row.to_owned(), seed, self.request.out.join(format!("runs/{row}-seed{seed}"))))
        };
        Experiments::row_names(tables).into_iter().filter_map(run).collect()
    }

    fn score_whole_documents(&mut self) -> Result {
        for (row, seed, folder) in self.whole_rows() {
            let path = folder.join(WHOLE_TEST);
            if !path.exists() && !runs::interrupted() {
                if !has_model(&folder) {
                    ui::line(&format!(
                        "{row}-seed{seed} has no checkpoint here: its documents are not scored whole"
                    ));
                    continue;
                }
                ui::headline(&format!("whole documents: {row}-seed{seed}"));
                let mut command = self.brt("eval", &folder);
                command.args(["--carried-only", "--max-document-len", "0", "--json"]).arg(&path);
                tools::run("brt eval", tools::to_stderr(&mut command))?;
            }
            self.records.add_whole(&row, seed, &folder)?;
        }
        Ok(())
    }

    /// Compares the words of two models, where both have been trained here and it has not been done.
    fn compare_words(&mut self) -> Result {
        let Some(words) = &self.records.file.words else { return Ok(()) };
        let folders =
            [&words.model, &words.against].map(|row| self.request.out.join(format!("runs/{row}-seed1")));
        let window_len = self.records.first(&words.against).map(|result| result.model.window_len);
        let Some(window_len) = window_len.filter(|_| folders.iter().all(|folder| has_model(folder))) else {
            return Ok(());
        };
        if self.records.words.is_some() || runs::interrupted() {
            return Ok(());
        }
        let scores = folders.each_ref().map(|folder| folder.join("tokens.jsonl"));
        for (folder, scores) in folders.iter().zip(&scores) {
            ui::headline(&format!("nats of every token: {}", folder.display()));
            let mut command = self.brt("score", folder);
            command.args(["--carried-only", "--max-document-len", WORDS_DOCUMENT_LEN, "--jsonl"]).arg(scores);
            tools::run("brt score", tools::to_stderr(&mut command))?;
        }
        let [model, against] = [&words.model, &words.against].map(String::as_str);
        let found =
            WordGains::new((model, &scores[0]), (against, &scores[1]), window_len, words.per_document)?;
        write_json(&self.words_path(), &found)?;
        for path in &scores {
            fs::remove_file(path).context(|| format!("removing {}", path.display()))?;
        }
        self.records.words = Some(found);
        Ok(())
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
