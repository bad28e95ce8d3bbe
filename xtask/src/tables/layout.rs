//! Tables and claims as text that Markdown and HTML both print.

use std::collections::{BTreeMap, BTreeSet};

use brt_report::{Evaluation, ModelFacts};

use super::{
    claims::{Checked, Verdict},
    experiments::{Experiment, Row},
    paper::Number,
    records::Records,
    timing::Ratio,
};
use crate::report::{self, Difference, NONE, Scores, Table, difference, mean, signed, standard_deviation};

/// Returns the rows of one table, each number linked to the folder of its run.
pub(super) fn table(records: &Records, table: &Experiment) -> Table {
    let paper_rows: Vec<&str> = table.rows.iter().filter_map(|row| row.paper.as_deref()).collect();
    let mut paper = records.paper.quantities(&paper_rows);
    paper.retain(|(quantity, _)| table.quantities.iter().any(|wanted| wanted == quantity));
    let has_reset =
        !table.whole_split && table.rows.iter().any(|row| !records.reset_scores(&row.config).is_empty());
    let mut header: Vec<String> = ["row", "parameters (M)"].map(String::from).into();
    if table.whole_split {
        header.push("word perplexity".into());
    }
    header.push("bits/byte".into());
    header.push(match table.rows.iter().any(|row| row.against.is_some()) {
        true => "difference to its own baseline [95 %]".into(),
        false => format!("difference to {} [95 %]", label_of(table, &table.reference)),
    });
    header.extend(has_reset.then(|| "bits/byte, state reset".to_owned()));
    header.push("step time [95 %]".into());
    header.extend(paper.iter().map(|(_, name)| format!("paper: {name}")));
    let seeds = records.common_seeds(table.rows.iter().map(|row| row.config.as_str()));
    let rows = table.rows.iter().map(|row| {
        let mut cells = measured(records, table, row, has_reset, &seeds);
        let number = |quantity| records.paper.number(row.paper.as_deref()?, quantity);
        cells.extend(paper.iter().map(|(quantity, _)| number(quantity).map_or(NONE.into(), published)));
        cells
    });
    Table::new(header, rows.collect())
}

/// Returns a number of the paper with its source; what follows a line break is small print.
fn published(number: &Number) -> String {
    let Number { value, source } = number;
    match value.split_once('\n') {
        Some((value, more)) => format!("{value} ({source})\n{more}"),
        None => format!("{value} ({source})"),
    }
}

/// Returns what a row of a table is called.
fn label_of<'a>(table: &'a Experiment, config: &'a str) -> &'a str {
    table.rows.iter().find(|row| row.config == config).map_or(config, Row::label)
}

/// Returns what was measured of a row; losses with the seeds that all rows of the table have, so that they can be
/// compared.
fn measured(
    records: &Records,
    table: &Experiment,
    row: &Row,
    has_reset: bool,
    seeds: &BTreeSet<u64>,
) -> Vec<String> {
    let scores = records.scores(&row.config, table.whole_split);
    let first = records.first(&row.config);
    let losses = |scores: &Scores<'_>| by_seed(records, &row.config, &bits(scores), seeds, 4);
    let about = first.map_or_else(|| state_of(records, row), |result| result.model.description.clone());
    let mut cells = vec![format!("{}\n{about}", row.label())];
    // Embeddings count for nothing in the scaling of layers.
    let counts_all = table.series.is_empty();
    cells.push(first.map_or(NONE.into(), |result| {
        let ModelFacts { num_parameters, num_parameters_without_embedding, .. } = result.model;
        let num = if counts_all { num_parameters } else { num_parameters_without_embedding };
        format!("{:.3}", num as f64 / 1e6)
    }));
    if table.whole_split {
        let perplexity = |(seed, scores): (&u64, &&Evaluation)| Some((*seed, scores.word_perplexity()?.0));
        let perplexities = scores.iter().filter_map(perplexity).collect();
        cells.push(by_seed(records, &row.config, &perplexities, seeds, 2));
    }
    cells.push(losses(&scores));
    let reference = table.reference_of(row);
    let of_reference = (reference != row.config).then(|| records.scores(reference, table.whole_split));
    let found = of_reference.and_then(|other| difference(&[(scores, other)]));
    cells.push(found.as_ref().map_or(NONE.into(), with_interval));
    if has_reset {
        cells.push(losses(&records.reset_scores(&row.config)));
    }
    let time = records.timings.ratio(&row.config, reference).map_or(NONE.into(), ratio);
    cells.push(linked(time, Some(format!("timing/{}.json", row.config))));
    cells
}

/// Returns bits/byte for each seed.
fn bits(scores: &Scores<'_>) -> BTreeMap<u64, f64> {
    scores.iter().map(|(seed, scores)| (*seed, report::mean_bits(scores))).collect()
}

/// Returns the mean bits/byte of a row over seeds; nothing where it has none of them.
pub(super) fn mean_bits(records: &Records, row: &str, seeds: &BTreeSet<u64>) -> Option<f64> {
    let all = bits(&records.scores(row, false));
    let bits = mean(seeds.iter().filter_map(|seed| all.get(seed)).copied());
    bits.is_finite().then_some(bits)
}

/// Links a number to a folder, but for what is written small below it.
fn linked(number: String, folder: Option<String>) -> String {
    let Some(folder) = folder.filter(|_| number != NONE) else { return number };
    match number.split_once('\n') {
        Some((number, more)) => format!("[{number}]({folder})\n{more}"),
        None => format!("[{number}]({folder})"),
    }
}

/// Returns why a row has no result.
fn state_of(records: &Records, row: &Row) -> String {
    let prefix = format!("{}-seed", row.config);
    if records.failures.keys().any(|name| *name == row.config || name.starts_with(&prefix)) {
        "failed".into()
    } else {
        "not run".into()
    }
}

/// Returns the mean of a row's values over `seeds` (of all, where it has none of those), linked to the first run; below
/// it, where the row has several seeds, the mean of all with their standard deviation and a link to each.
fn by_seed(
    records: &Records,
    row: &str,
    values: &BTreeMap<u64, f64>,
    seeds: &BTreeSet<u64>,
    decimals: usize,
) -> String {
    if values.is_empty() {
        return NONE.into();
    }
    let all: Vec<f64> = values.values().copied().collect();
    let shown: Vec<f64> = values.iter().filter(|(seed, _)| seeds.contains(seed)).map(|(_, v)| *v).collect();
    let of_all = mean(all.iter().copied());
    let shown = if shown.is_empty() { of_all } else { mean(shown) };
    let number = linked(format!("{shown:.decimals$}"), records.folder(row));
    let Some(deviation) = standard_deviation(&all) else { return number };
    let links: Vec<_> = values.keys().map(|seed| format!("[{seed}](runs/{row}-seed{seed}/)")).collect();
    format!("{number}\nseeds {}: {of_all:.decimals$} ± {deviation:.decimals$}", links.join(", "))
}

fn with_interval(difference: &Difference) -> String {
    let ends = difference.interval.map(|ends| ends.map(signed));
    let interval = ends.map_or(String::new(), |[low, high]| format!("[{low}, {high}], "));
    let seeds = match difference.by_seed.len() {
        1 => "1 seed".into(),
        n => format!("{n} seeds"),
    };
    format!("{}\n{interval}{seeds}", signed(difference.mean))
}

fn ratio(ratio: Ratio) -> String {
    match ratio.interval {
        Some([low, high]) if low < high => format!("{:.2}\n[{low:.2}, {high:.2}]", ratio.value),
        _ => format!("{:.2}", ratio.value),
    }
}

/// Returns the claims: each with its verdict, what was measured and what the paper says.
pub(super) fn claims(records: &Records, checked: &[Checked]) -> Table {
    let header = ["claim", "here", "measured [95 %]", "the paper"];
    let row = |checked: &Checked| {
        let numbers = match checked.measured.is_empty() {
            true => NONE.into(),
            false => checked.numbers(records),
        };
        vec![
            format!("{}\n{}", checked.claim.text, checked.region()),
            checked.verdict.name().into(),
            numbers,
            checked.claim.paper.clone().unwrap_or_else(|| "(ours)".into()),
        ]
    };
    let rows: Vec<_> = checked.iter().map(row).collect();
    Table { num_text_columns: header.len(), ..Table::new(header, rows) }
}

/// Returns the answer in one sentence: what became of the paper's conclusions, without our own.
pub(super) fn verdict(checked: &[Checked]) -> String {
    let of_paper: Vec<&Checked> = checked.iter().filter(|checked| checked.claim.paper.is_some()).collect();
    let count = |verdict| of_paper.iter().filter(|claim| claim.verdict == verdict).count();
    let [hold, fail, undecided, open] =
        [Verdict::Holds, Verdict::DoesNotHold, Verdict::Undecided, Verdict::Open].map(count);
    let mut text = format!(
        "Of {} conclusions of the paper {hold} hold at this size, {fail} do not, {undecided} are undecided",
        of_paper.len()
    );
    if open > 0 {
        text += &format!(", {open} are open: their rows have not been trained, or too short");
    }
    text
}

/// Returns validation loss after as long as the reference takes, from the curves; nothing without step times or curves.
pub(super) fn equal_time(records: &Records, table: &Experiment) -> Option<Table> {
    let reference = &table.reference;
    let end = |row: &str| {
        let num_tokens = records.first(row)?.training.num_tokens;
        Some(num_tokens as f64 * records.timings.secs_per_token(row)?)
    };
    let time = end(reference)?;
    let at = |row: &str, secs: f64| -> Option<f64> {
        let per_token = records.timings.secs_per_token(row)?;
        let curve = records.first(row)?.curve.iter();
        let points = curve
            .filter_map(|line| Some((line.num_tokens as f64 * per_token, line.validation_bits_per_byte?)));
        interpolated(&points.collect::<Vec<_>>(), secs)
    };
    let base = at(reference, time)?;
    let header = ["row", "training (s)", "validation bits/byte at its end", "at equal time", "difference"];
    let rows = table.rows.iter().filter_map(|row| {
        let (secs, there) = (end(&row.config)?, at(&row.config, time)?);
        let last = format!("{:.4}", at(&row.config, secs)?);
        // A step's worth of difference is none.
        let there_text = match secs < 0.99 * time {
            true => format!("{there:.4}\nended at {secs:.0} s"),
            false => format!("{there:.4}"),
        };
        let difference = if row.config == *reference { NONE.into() } else { signed(there - base) };
        Some(vec![row.label().into(), format!("{secs:.0}"), last, there_text, difference])
    });
    Some(Table::new(header, rows.collect()))
}

/// Returns the value of a curve at `x`, between its points on a line; its last one behind its end.
fn interpolated(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = points.iter().position(|(at, _)| *at >= x * (1. - 1e-9));
    match after {
        None => points.last().map(|(_, y)| *y),
        Some(0) => points.first().filter(|(at, _)| *at <= x).map(|(_, y)| *y),
        Some(i) => {
            let ((x0, y0), (x1, y1)) = (points[i - 1], points[i]);
            Some(y0 + (y1 - y0) * ((x - x0) / (x1 - x0)).min(1.))
        }
    }
}

/// Returns other systems' word perplexities that the paper gives beside its own.
pub(super) fn published_perplexities(records: &Records) -> Table {
    let header = ["published", "word perplexity, PG-19 test", "source"];
    let rows = records.paper.all("pg19_word_perplexity").into_iter();
    let row =
        |(name, number): (&str, &Number)| vec![name.to_owned(), number.value.clone(), number.source.clone()];
    Table::new(header, rows.map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_read_between_their_points() {
        let curve = [(1., 4.), (2., 3.), (4., 2.)];
        for (x, expected) in
            [(1., Some(4.)), (1.5, Some(3.5)), (3., Some(2.5)), (4., Some(2.)), (9., Some(2.)), (0.5, None)]
        {
            assert_eq!(interpolated(&curve, x), expected, "{x}");
        }
        assert_eq!(interpolated(&[], 1.), None);
    }

    #[test]
    fn numbers_are_linked_without_their_small_print() {
        assert_eq!(linked("1.5\n± 0.1".into(), Some("runs/a/".into())), "[1.5](runs/a/)\n± 0.1");
        assert_eq!(linked(NONE.into(), Some("runs/a/".into())), NONE);
    }
}
