//! The report as one page that needs nothing else: no script, no file beside it.

use brt_report::plot::escape;

use super::{
    markdown::{self, legend},
    report::Report,
    tables,
};
use crate::report::{self, Table};

/// The plot that stands beside the verdict.
const LEAD_PLOT: &str = "differences.svg";

/// Returns `report.html`.
pub(super) fn page(report: &Report, plots: &[(&str, String)]) -> String {
    let mut body = lead(report, plots);
    body += &table(&model_under_name(tables::contestants(report)), report);
    body += &format!("<p class=\"legend\">{}</p>\n<div class=\"plots\">\n", escape(&legend(report)));
    for (_, svg) in plots.iter().filter(|(name, _)| *name != LEAD_PLOT) {
        body += &format!("<figure>{svg}</figure>\n");
    }
    body += "</div>\n";
    if let Some(positions) = tables::positions(report) {
        body += "<h2>Loss by position in the document</h2>\n<p class=\"legend\">Bits per token.</p>\n";
        body += &table(&positions, report);
    }
    body += "<h2>What the numbers stand on</h2>\n<dl>\n";
    for (name, value) in tables::facts(report) {
        body += &format!("<dt>{name}</dt><dd>{}</dd>\n", escape(&value));
    }
    body += "</dl>\n";
    body += &failures(report);
    body += &configurations(report);
    report::page(&markdown::title(report), &body)
}

/// Returns title, verdict and notes, beside them the plot of the differences.
fn lead(report: &Report, plots: &[(&str, String)]) -> String {
    let title = escape(&markdown::title(report));
    let verdict = escape(&report.statistics.verdict);
    let mut text = format!("<header>\n<div>\n<h1>{title}</h1>\n<p class=\"verdict\">{verdict}.</p>\n");
    for note in &report.statistics.notes {
        text += &format!("<p class=\"note\">{}</p>\n", escape(note));
    }
    text += "</div>\n";
    for (_, svg) in plots.iter().filter(|(name, _)| *name == LEAD_PLOT) {
        text += &format!("<figure>{svg}</figure>\n");
    }
    text + "</header>\n"
}

/// Moves the second column into the first, on a line of its own, so that the table fits the page.
fn model_under_name(mut table: Table) -> Table {
    table.header.remove(1);
    for row in &mut table.rows {
        let model = row.remove(1);
        row[0] = format!("{}\n{model}", row[0]);
    }
    table
}

fn table(table: &Table, report: &Report) -> String {
    table.html(|row| {
        let name = table.rows[row].first().and_then(|cell| cell.lines().next());
        if report.plan.challenger.as_deref() == name { "challenger" } else { "" }
    })
}

fn failures(report: &Report) -> String {
    let mut text = String::new();
    for outcome in &report.outcomes {
        if let Some(failure) = &outcome.failure {
            let name = escape(&outcome.run.name());
            text += &format!("<h2>{name} failed</h2>\n<pre>{}</pre>\n", escape(failure));
        }
    }
    text
}

/// Returns the resolved configuration of each contestant, folded.
fn configurations(report: &Report) -> String {
    let mut text = String::from("<h2>Configurations</h2>\n");
    for name in &report.plan.request.contestants {
        if let Some(result) = report.first_result(name) {
            let (name, config) = (escape(name), escape(&result.config_toml));
            text += &format!("<details><summary>{name}</summary><pre>{config}</pre></details>\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{charts, fixture};

    #[test]
    fn the_page_is_whole_and_needs_nothing_else() {
        let names = ["xl", "slide", "rec"];
        let mut outcomes: Vec<_> =
            names[1..].iter().map(|name| fixture::outcome(name, 1, &[2., 2.5])).collect();
        outcomes.push(fixture::failed("xl", 1));
        let report = Report::new(fixture::plan(&names, 1), outcomes);
        let plots = charts::all(&report);
        let page = page(&report, &plots);
        assert!(plots.iter().all(|(_, svg)| page.contains(svg.as_str())));
        assert!(page.contains("out of &lt;memory&gt;"));
        for outside in ["<script", "<link", "src=", "@import", "url(http"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for tag in ["table", "tr", "td", "figure", "svg", "dl", "details", "div"] {
            assert_eq!(
                page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count(),
                page.matches(&format!("</{tag}>")).count(),
                "{tag}"
            );
        }
    }
}
