//! The report as Markdown.

use super::{report::Report, tables};

/// Returns `report.md`; the plots are files beside it.
pub(super) fn report(report: &Report, plots: &[(&str, String)]) -> String {
    let mut text = format!("# {}\n\n**{}.**\n\n", title(report), report.statistics.verdict);
    for note in &report.statistics.notes {
        text += &format!("> Note: {note}\n\n");
    }
    text += &tables::contestants(report).markdown();
    text += &format!("\n{}\n", legend(report));
    for (name, _) in plots {
        text += &format!("\n![{}]({name})\n", name.trim_end_matches(".svg"));
    }
    if let Some(positions) = tables::positions(report) {
        text += "\n## Loss by position in the document\n\nBits per token.\n\n";
        text += &positions.markdown();
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
            format!("{challenger} against {} on {}", report.plan.baseline, report.plan.request.corpus_name)
        }
        None => format!("{} on {}", report.plan.baseline, report.plan.request.corpus_name),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::fixture;

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
