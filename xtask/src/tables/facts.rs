//! What the numbers stand on, and what a reader must know before believing them.

use std::collections::BTreeSet;

use brt_report::{BuildFacts, Evaluation, RunResult, TimingResult};

use super::records::Records;
use crate::report::thousands;

/// Returns what the numbers stand on, as names and values.
pub(super) fn facts(records: &Records) -> Vec<(&'static str, String)> {
    let mut facts = vec![("corpus", records.corpus.clone())];
    let results: Vec<&RunResult> = records.all().collect();
    let Some(result) = results.first() else { return facts };
    let all = |value: &dyn Fn(&RunResult) -> String| -> String {
        let values: BTreeSet<String> = results.iter().map(|result| value(result)).collect();
        values.into_iter().collect::<Vec<_>>().join("; ")
    };
    facts.push(("corpus manifest, SHA-256", all(&|r| r.corpus_sha256.clone())));
    facts.push(("test text", test_text(&result.test)));
    facts.push(("runs", format!("{}, {} failed", results.len(), records.failures.len())));
    facts.push(("tokens per run", all(&|r| thousands(r.training.num_tokens))));
    facts.push(("processor", all(&|r| format!("{}, {} processors", r.machine.cpu, r.machine.num_cpus))));
    facts.push(("device", all(&|r| format!("{}, {}", r.machine.device, r.machine.cpu_capability))));
    facts.push(("threads of a run", all(&|r| r.machine.num_threads.to_string())));
    facts.push(("system", all(&|r| r.machine.os.clone())));
    facts.extend(records.timings.any().map(|timing| ("step times", step_times(timing))));
    let program = |r: &RunResult| {
        let BuildFacts { brt_version, commit, libtorch_version, tch_version } = &r.build;
        format!("brt {brt_version}, commit {commit}, libtorch {libtorch_version}, tch {tch_version}")
    };
    facts.push(("program", all(&program)));
    facts
}

fn test_text(test: &Evaluation) -> String {
    let bytes: u64 = test.documents.iter().map(|document| document.num_bytes).sum();
    let limit = match test.max_document_len {
        0 => String::new(),
        len => format!(", at most {} tokens of each", thousands(len)),
    };
    let groups: BTreeSet<&str> = test.documents.iter().map(|document| document.group.as_str()).collect();
    let [documents, groups] = [test.documents.len(), groups.len()];
    format!("{documents} documents in {groups} groups, {} bytes scored{limit}", thousands(bytes))
}

fn step_times(timing: &TimingResult) -> String {
    let rounds = timing.contestants.first().map_or(0, |timed| timed.step_secs.len());
    let threads = match timing.machine.num_threads {
        1 => "1 thread".into(),
        n => format!("{n} threads"),
    };
    format!(
        "{}, {threads}, {rounds} rounds with the baseline in turn, load average {:.2} before",
        timing.machine.device, timing.load_average
    )
}

/// Returns what a reader must know before believing the tables.
pub(super) fn notes(records: &Records) -> Vec<String> {
    let mut notes = vec![];
    for (name, failure) in &records.failures {
        notes.push(format!("{name} failed: {}", failure.lines().last().unwrap_or_default()));
    }
    let mut differ = |name: &str, value: &dyn Fn(&RunResult) -> String| {
        let values: BTreeSet<String> = records.all().map(value).collect();
        if values.len() > 1 {
            notes.push(format!(
                "the runs differ in {name}: {}",
                values.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
    };
    differ("corpus", &|r| r.corpus_sha256.clone());
    differ("trained tokens", &|r| r.training.num_tokens.to_string());
    differ("commit", &|r| r.build.commit.clone());
    differ("processor", &|r| format!("{} ({})", r.machine.cpu, r.machine.cpu_capability));
    if records.all().any(|result| result.build.commit.ends_with("-dirty")) {
        notes.push("the program was built from files that differ from its commit".into());
    }
    notes
}

/// Returns how the columns are to be read.
pub(super) fn legend() -> &'static str {
    "bits/byte: mean over the test documents, lower is better; with several seeds their mean ± standard deviation, else one \
     seed. Differences are paired by document and seed, below 0 is better; intervals are 95 % of a bootstrap over groups of \
     documents and do not cover the spread over seeds, so a claim also needs every seed on its side. Of so many claims one or two \
     would be decided wrongly by chance. Step times are per token, medians of steps taken in turn with the baseline's in one \
     process while nothing else ran, relative to the row that the difference is taken from. Letters stand for where a number \
     of the paper was found; an empty cell was not found. The paper's numbers are of other data and other sizes: what can be \
     compared is the order of rows, not the values."
}
