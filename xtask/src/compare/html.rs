//! The report as one page that needs nothing else: no script, no file beside it.

use brt_report::plot::escape;

use super::{
    markdown::{legend, title},
    report::Report,
    tables::{self, Table},
};

const STYLE: &str = include_str!("report.css");
/// The plot that stands beside the verdict.
const LEAD_PLOT: &str = "differences.svg";

/// Returns `report.html`.
pub(super) fn page(report: &Report, plots: &[(&str, String)]) -> String {
    let title = escape(&title(report));
    let mut body = lead(report, &title, plots);
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
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// Returns title, verdict and notes, beside them the plot of the differences.
fn lead(report: &Report, title: &str, plots: &[(&str, String)]) -> String {
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
    let cells = |tag: &str, row: &[String]| -> String {
        let cell = |cell: &String| match escape(cell).split_once('\n') {
            Some((name, model)) => format!("<{tag}>{name}<small>{model}</small></{tag}>"),
            None => format!("<{tag}>{}</{tag}>", escape(cell)),
        };
        row.iter().map(cell).collect()
    };
    let mut text = format!(
        "<div class=\"table\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n",
        cells("th", &table.header)
    );
    for row in &table.rows {
        let name = row.first().and_then(|cell| cell.lines().next());
        let class = if report.plan.challenger.as_deref() == name { " class=\"challenger\"" } else { "" };
        text += &format!("<tr{class}>{}</tr>\n", cells("td", row));
    }
    text + "</tbody></table></div>\n"
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
