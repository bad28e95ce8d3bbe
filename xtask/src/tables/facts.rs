//! What the numbers stand on, and what a reader must know before believing them.

use std::collections::BTreeSet;

use brt_report::{BuildFacts, Evaluation, RunResult, TimingResult};

use super::{records::Records, timing};
use crate::report::{SeedSpread, thousands};

/// Returns what the numbers stand on, as names and values.
pub(super) fn facts(records: &Records) -> Vec<(&'static str, String)> {
    let mut facts = vec![("corpus", records.corpus.clone())];
    facts.extend(records.commands.iter().map(|command| ("command", command.clone())));
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
    facts.push(("products in float32", all(&|r| r.machine.product_library().to_string())));
    facts.push(("threads of a run", all(&|r| r.machine.num_threads.to_string())));
    facts.push(("system", all(&|r| r.machine.os.clone())));
    facts.extend(step_times(records).map(|times| ("step times", times)));
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
    let per_token = bytes as f64 / test.num_tokens().max(1) as f64;
    let bytes = thousands(bytes);
    format!(
        "{documents} documents in {groups} groups, {bytes} bytes scored{limit}; {per_token:.2} bytes a token"
    )
}

/// Returns under which conditions steps were timed, over all measurements.
fn step_times(records: &Records) -> Option<String> {
    let timings: Vec<&TimingResult> = records.timings.all().collect();
    let range = |values: Vec<f64>| {
        let ends = [f64::min, f64::max].map(|end| values.iter().copied().reduce(end).unwrap_or(f64::NAN));
        format!("{:.2} to {:.2}", ends[0], ends[1])
    };
    let list = |values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>().join(", ");
    (!timings.is_empty()).then(|| {
        format!(
            "{}, threads: {}, rounds: {}; load average before: {}; median step of the baseline: {} s",
            list(timings.iter().map(|timing| timing.machine.device.clone()).collect()),
            list(timings.iter().map(|timing| timing.machine.num_threads.to_string()).collect()),
            list(timings.iter().map(|timing| timing.contestants[0].step_secs.len().to_string()).collect()),
            range(timings.iter().map(|timing| timing.load_average).collect()),
            range(timings.iter().map(|timing| timing.contestants[0].median_step_secs()).collect()),
        )
    })
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
    // Longer segments predict a few more of their tokens.
    differ("trained tokens (millions)", &|r| format!("{:.1}", r.training.num_tokens as f64 / 1e6));
    differ("commit", &|r| r.build.commit.clone());
    differ("processor", &|r| format!("{} ({})", r.machine.cpu, r.machine.cpu_capability));
    differ("library for products", &|r| r.machine.product_library().to_string());
    let conditions: BTreeSet<_> = records.timings.all().map(timing::conditions).collect();
    if conditions.iter().any(|(.., parts)| parts.iter().any(|parts| *parts > 1)) {
        notes.push("step times are of a part of a step".into());
    }
    let conditions: BTreeSet<_> =
        conditions.into_iter().map(|(device, threads, _)| (device, threads)).collect();
    if conditions.len() > 1 {
        notes.push(
            "steps were timed on different devices or threads; rows are compared where they were not".into(),
        );
    }
    if records.all().any(|result| result.build.commit.ends_with("-dirty")) {
        notes.push("the program was built from files that differ from its commit".into());
    }
    notes
}

/// Returns how the columns are to be read.
pub(super) fn legend(records: &Records) -> String {
    let seeds = match records.seed_spread() {
        Some(SeedSpread { deviation, degrees }) => format!(
            "intervals in tables do not cover the spread over seeds; those of claims do, as seen in the headline's rows and \
             taken to be that of all (a standard deviation of {deviation:.4} bits/byte in a difference, {degrees} degrees of \
             freedom), and a claim also needs every seed on its side"
        ),
        None => {
            "with one seed of each row nothing is known of the spread over seeds, which they do not cover"
                .into()
        }
    };
    format!(
        "bits/byte: mean over the test documents, lower is better, with the seed that all rows of the table have; below it \
         the mean of all seeds ± their standard deviation. Differences are paired by document and by every seed that both \
         rows have, below 0 is better; intervals are 95 % of a bootstrap over groups of documents; {seeds}. Step times are \
         per token, medians of steps taken in turn with the baseline's in one process, relative to the row that the \
         difference is taken from. Letters stand for where a number of the paper was found; an empty cell was not found. The paper's numbers are \
         of other data and other sizes: what can be compared is the order of rows, not the values."
    )
}
