//! The report as Markdown, and its table as plain text for the terminal.

use super::{
    report::Report,
    tables::{self, Table},
};

/// Returns `report.md`; the plots are files beside it.
pub(super) fn report(report: &Report, plots: &[(&str, String)]) -> String {
    let mut text = format!("# {}\n\n**{}.**\n\n", title(report), report.statistics.verdict);
    for note in &report.statistics.notes {
        text += &format!("> Note: {note}\n\n");
    }
    text += &table(&tables::contestants(report));
    text += &format!("\n{}\n", legend(report));
    for (name, _) in plots {
        text += &format!("\n![{}]({name})\n", name.trim_end_matches(".svg"));
    }
    if let Some(positions) = tables::positions(report) {
        text += "\n## Loss by position in the document\n\nBits per token.\n\n";
        text += &table(&positions);
    }
    text += "\n## What the numbers stand on\n\n";
    for (name, value) in tables::facts(report) {
        text += &format!("* {name}: {value}\n");
    }
    for outcome in &report.outcomes {
        if let Some(failure) = &outcome.failure {
            text += &format!("\n## {} failed\n\n```text\n{failure}\n```\n", outcome.run.name());
        }
    }
    text
}

/// Returns the report's title.
pub(super) fn title(report: &Report) -> String {
    match &report.plan.challenger {
        Some(challenger) => {
            format!("{challenger} against {} on {}", report.plan.baseline, report.plan.request.corpus)
        }
        None => format!("{} on {}", report.plan.baseline, report.plan.request.corpus),
    }
}

/// Returns how the columns are to be read.
pub(super) fn legend(report: &Report) -> String {
    let baseline = &report.plan.baseline;
    format!(
        "bits/byte: mean over the test documents (and seeds, ± standard deviation), lower is better. Difference: paired \
         by document, below 0 is better than {baseline}; the interval is a bootstrap over groups of documents and does not cover \
         the spread over seeds. Step time and tokens/s: training steps taken in turn in \
         one process, medians; step time is per token."
    )
}

/// Returns a table in Markdown, aligned so that it reads as plain text too.
pub(super) fn table(table: &Table) -> String {
    let width = |column: usize| {
        let cells = table.rows.iter().map(|row| &row[column]).chain([&table.header[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<_> = (0..table.header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let pad = |(column, cell): (usize, &String)| {
            let cell = cell.replace('|', "\\|");
            let width = widths[column];
            if column < 1 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        };
        format!("| {} |\n", cells.iter().enumerate().map(pad).collect::<Vec<_>>().join(" | "))
    };
    let rule = |(column, width): (usize, &usize)| {
        if column < 1 { "-".repeat(*width) } else { format!("{}:", "-".repeat(width - 1)) }
    };
    let rules: Vec<_> = widths.iter().enumerate().map(rule).collect();
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    format!("{}| {} |\n{rows}", line(&table.header), rules.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::fixture;

    #[test]
    fn tables_are_aligned() {
        let text = table(&Table {
            header: vec!["a".into(), "number".into()],
            rows: vec![vec!["long name".into(), "1|2".into()], vec!["–".into(), "".into()]],
        });
        assert_eq!(
            text,
            "| a         | number |\n| --------- | -----: |\n| long name |   1\\|2 |\n| –         |        |\n"
        );
    }

    #[test]
    fn a_failed_run_keeps_the_end_of_its_log() {
        let plan = fixture::plan(&["slide", "rec"], 1);
        let outcomes = vec![fixture::outcome("slide", 1, &[2.]), fixture::failed("rec", 1)];
        let text = report(&Report::new(plan, outcomes), &[]);
        assert!(text.contains("**no verdict: rec has no finished run.**"), "{text}");
        assert!(text.contains(
            "## rec-seed1 failed\n\n```text\nexit status: 1, no result.json\nerror: out of <memory>"
        ));
    }
}
