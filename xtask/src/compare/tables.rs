//! The tables and facts of a report, as text that Markdown and HTML both print.

use std::collections::BTreeSet;

use brt_report::RunResult;

use super::{report::Report, statistics::ContestantStatistics};
use crate::report::{Difference, NONE, Table, signed, standard_deviation, thousands};

/// Returns one row per contestant, and one for the model that was only timed.
pub(super) fn contestants(report: &Report) -> Table {
    let baseline = &report.plan.baseline;
    let header = [
        "contestant".to_owned(),
        "model".into(),
        "parameters (M)".into(),
        "bits/byte".into(),
        format!("difference to {baseline} [95 %]"),
        "bits/byte, state reset".into(),
        format!("step time relative to {baseline}"),
        format!("tokens/s ({})", threads_of_timing(report)),
        "peak memory (MiB)".into(),
    ];
    let names = report.plan.request.contestants.iter();
    let mut rows: Vec<_> = names.map(|name| contestant(report, name)).collect();
    for timed in &report.plan.timing.contestants {
        if !report.plan.request.contestants.contains(&timed.name) {
            let mut row = empty_row(&timed.name, "only timed");
            row[6] = step_time(report.plan.relative_step_time(&timed.name));
            row[7] = tokens_per_sec(report, &timed.name);
            rows.push(row);
        }
    }
    Table::new(header, rows)
}

fn contestant(report: &Report, name: &str) -> Vec<String> {
    let (Some(entry), Some(result)) = (report.statistics.of(name), report.first_result(name)) else {
        let mut row = empty_row(name, "failed");
        row[6] = step_time(report.plan.relative_step_time(name));
        return row;
    };
    vec![
        name.to_owned(),
        result.model.description.clone(),
        format!("{:.2}", result.model.num_parameters as f64 / 1e6),
        bits_per_byte(entry),
        entry.difference.as_ref().map_or(NONE.into(), difference),
        entry.bits_per_byte_state_reset.map_or(NONE.into(), |bits| format!("{bits:.4}")),
        step_time(entry.relative_step_time),
        tokens_per_sec(report, name),
        thousands(entry.peak_bytes >> 20),
    ]
}

fn empty_row(name: &str, model: &str) -> Vec<String> {
    let mut row = vec![NONE.to_owned(); 9];
    row[0] = name.into();
    row[1] = model.into();
    row
}

fn bits_per_byte(entry: &ContestantStatistics) -> String {
    match standard_deviation(&entry.bits_per_byte_by_seed) {
        Some(deviation) => format!("{:.4} ± {deviation:.4}", entry.bits_per_byte),
        None => format!("{:.4}", entry.bits_per_byte),
    }
}

/// Returns a difference with its interval, for example `-0.0120 [-0.0200, -0.0050]`.
pub(super) fn difference(difference: &Difference) -> String {
    match difference.interval {
        Some([low, high]) => format!("{} [{}, {}]", signed(difference.mean), signed(low), signed(high)),
        None => signed(difference.mean),
    }
}

fn step_time(ratio: Option<f64>) -> String {
    ratio.map_or(NONE.into(), |ratio| format!("{ratio:.2}"))
}

fn threads_of_timing(report: &Report) -> String {
    match report.plan.timing.machine.num_threads {
        1 => "1 thread".into(),
        n => format!("{n} threads"),
    }
}

/// Returns the training speed of a contestant when it was timed: all contestants had the same threads then.
fn tokens_per_sec(report: &Report, name: &str) -> String {
    let timed = report.plan.timing.contestants.iter().find(|timed| timed.name == name);
    timed.map_or(NONE.into(), |t| thousands((t.tokens_per_step as f64 / t.median_step_secs()) as u64))
}

/// Returns the loss by position in the document, one row per bucket; absent where no run has buckets.
pub(super) fn positions(report: &Report) -> Option<Table> {
    let entries = &report.statistics.contestants;
    let longest =
        entries.iter().max_by_key(|entry| entry.by_position.len()).filter(|e| !e.by_position.is_empty())?;
    let pair = report.pair();
    let mut header = vec!["position (tokens)".to_owned()];
    header.extend(entries.iter().map(|entry| entry.name.clone()));
    header.extend(pair.map(|(challenger, baseline)| format!("{} − {}", challenger.name, baseline.name)));
    let at = |entry: &ContestantStatistics, start| {
        entry
            .by_position
            .iter()
            .find(|bucket| bucket.start_token == start)
            .map(|bucket| bucket.bits_per_token)
    };
    let row = |start: u64, end: u64| {
        let mut row = vec![format!("{} to {}", thousands(start), thousands(end.saturating_sub(1)))];
        row.extend(
            entries.iter().map(|entry| at(entry, start).map_or(NONE.into(), |bits| format!("{bits:.3}"))),
        );
        let difference = pair.map(|(one, other)| at(one, start).zip(at(other, start)).map(|(a, b)| a - b));
        row.extend(difference.map(|d| d.map_or(NONE.into(), |d| format!("{d:+.3}").replace('-', "−"))));
        row
    };
    let rows = longest.by_position.iter().map(|bucket| row(bucket.start_token, bucket.end_token)).collect();
    Some(Table::new(header, rows))
}

/// Returns what the numbers stand on, as names and values.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let plan = &report.plan;
    let mut facts = vec![("corpus", plan.request.corpus_name.clone())];
    let Some(result) = report.results().next() else { return facts };
    facts.push(("corpus manifest, SHA-256", result.corpus_sha256.clone()));
    if let Some(entry) = report.statistics.contestants.first() {
        let documents = &result.test.documents;
        let bytes: u64 = documents.iter().map(|document| document.num_bytes).sum();
        let limit = match result.test.max_document_len {
            0 => String::new(),
            len => format!(", at most {} tokens of each", thousands(len)),
        };
        let size = format!("{} documents, {} bytes scored{limit}", documents.len(), thousands(bytes));
        facts.push(("test text", size));
        let seeds: Vec<_> = entry.seeds.iter().map(u64::to_string).collect();
        facts.push(("seeds", seeds.join(", ")));
    }
    facts.push(("training per run", training(report, result)));
    facts.push(("processor", format!("{}, {} processors", result.machine.cpu, result.machine.num_cpus)));
    facts.push(("device", format!("{}, {}", result.machine.device, result.machine.cpu_capability)));
    facts.push(("products in float32", result.machine.product_library().to_string()));
    facts.push(("system", result.machine.os.clone()));
    facts.push(("threads", threads(report)));
    facts.push(("load average before timing", format!("{:.2}", plan.timing.load_average)));
    let build = &result.build;
    facts.push((
        "program",
        format!(
            "brt {}, commit {}, libtorch {}, tch {}",
            build.brt_version, build.commit, build.libtorch_version, build.tch_version
        ),
    ));
    facts
}

fn training(report: &Report, result: &RunResult) -> String {
    let why = match report.plan.request.minutes {
        Some(minutes) => format!("chosen for {minutes} minutes in all"),
        None => "as configured".into(),
    };
    let training = &result.training;
    format!("{} steps, {} tokens ({why})", thousands(training.num_steps), thousands(training.num_tokens))
}

/// Returns how many threads the runs and the timing had.
fn threads(report: &Report) -> String {
    let names = report.plan.request.contestants.iter();
    let runs: Vec<_> = names.map(|name| format!("{name} {}", threads_of(report, name))).collect();
    let jobs = report.plan.jobs;
    format!("{}; {jobs} at a time; step times {}", runs.join(", "), report.plan.timing.machine.num_threads)
}

/// Returns the numbers of threads that a contestant's runs had, for example `1` or `1, 2`.
fn threads_of(report: &Report, name: &str) -> String {
    let runs = report.plan.runs.iter().filter(|run| run.contestant == name);
    let numbers: BTreeSet<_> = runs.map(|run| run.num_threads).collect();
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{fixture, report::Report};

    #[test]
    fn rows_of_finished_failed_and_timed_contestants() {
        let mut plan = fixture::plan(&["slide", "rec", "xl"], 1);
        plan.timing.contestants.extend(fixture::timing(&["xl_long"]).contestants);
        let outcomes = vec![
            fixture::outcome("slide", 1, &[2., 3.]),
            fixture::outcome("rec", 1, &[1.5, 2.9]),
            fixture::failed("xl", 1),
        ];
        let report = Report::new(plan, outcomes);
        let table = contestants(&report);
        assert!(table.rows.iter().all(|row| row.len() == table.header.len()));
        let text: Vec<_> = table.rows.iter().map(|row| row.join("|")).collect();
        assert_eq!(
            text,
            [
                "slide|slide, 3 layers, W 64|1.23|2.5000|–|–|1.00|8\u{202f}192|300",
                "rec|rec, 3 layers, W 64|1.23|2.2000|−0.3000 [−0.4500, −0.1500]|2.2300|1.00|8\u{202f}192|300",
                "xl|failed|–|–|–|–|1.00|–|–",
                "xl_long|only timed|–|–|–|–|1.00|8\u{202f}192|–",
            ]
        );
        let positions = positions(&report).unwrap();
        assert_eq!(positions.header, ["position (tokens)", "slide", "rec", "rec − slide"]);
        assert_eq!(positions.rows[1], ["64 to 127", "6.669", "6.639", "−0.030"]);
    }
}
