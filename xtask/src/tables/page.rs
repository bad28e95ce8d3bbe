//! The report: Markdown with plots beside it, and one page of HTML with everything in it.

use brt_report::plot::escape;

use super::{charts, claims::Verdict, experiments::Experiment, layout, records::Records, words::Gain};
use crate::report::{self, Table};

/// A part of the report: what both forms of it show, in this order.
struct Section {
    title: String,
    text: String,
    tables: Vec<(Option<&'static str>, Table)>,
    plots: Vec<(String, String)>,
    examples: Vec<(String, Vec<Gain>)>,
}

/// The report in both forms, with the plots as files.
pub(super) struct Report {
    pub(super) markdown: String,
    pub(super) html: String,
    pub(super) plots: Vec<(String, String)>,
    /// The claims in Markdown, for the terminal.
    pub(super) claims: String,
    pub(super) verdict: String,
}

impl Report {
    /// Writes the report of all records.
    pub(super) fn new(records: &Records) -> Self {
        let checked = layout::checked(records);
        let verdict = layout::verdict(&checked);
        let claims = layout::claims(&checked);
        let classes: Vec<&'static str> = checked
            .iter()
            .map(|claim| match claim.verdict {
                Verdict::Holds => "holds",
                Verdict::DoesNotHold => "fails",
                Verdict::Undecided | Verdict::Open => "undecided",
            })
            .collect();
        let mut sections: Vec<Section> = records
            .file
            .tables
            .iter()
            .filter(|table| records.only.contains(&table.name))
            .map(|table| section(records, table))
            .collect();
        sections.extend(words(records));
        let title = format!("{}: {}", records.file.title, records.corpus);
        let notes = layout::notes(records);
        let facts = layout::facts(records);
        let mut markdown = format!("# {title}\n\n**{verdict}.**\n\n");
        let mut body = format!(
            "<header class=\"lead\">\n<h1>{}</h1>\n<p class=\"verdict\">{}.</p>\n",
            escape(&title),
            escape(&verdict)
        );
        for note in &notes {
            markdown += &format!("> Note: {note}\n\n");
            body += &format!("<p class=\"note\">{}</p>\n", escape(note));
        }
        body += "</header>\n";
        if !checked.is_empty() {
            markdown += &format!("## Conclusions of the paper\n\n{}\n", claims.markdown());
            body += &format!(
                "<h2>Conclusions of the paper</h2>\n{}",
                claims.html(|row| classes[row]).replace("<table>", "<table class=\"claims\">")
            );
        }
        markdown += &format!("{}\n", layout::legend());
        body += &format!("<p class=\"legend\">{}</p>\n", escape(layout::legend()));
        for section in &sections {
            markdown += &section.markdown();
            body += &section.html();
        }
        markdown += "\n## What the numbers stand on\n\n";
        body += "<h2>What the numbers stand on</h2>\n<dl>\n";
        for (name, value) in &facts {
            markdown += &format!("* {name}: {value}\n");
            body += &format!("<dt>{name}</dt><dd>{}</dd>\n", escape(value));
        }
        body += "</dl>\n";
        markdown += "\nNumbers of the paper were found in:\n\n";
        body += "<h3>Where numbers of the paper were found</h3>\n<dl>\n";
        for (letter, source) in &records.paper.sources {
            markdown += &format!("* ({letter}) {source}\n");
            body += &format!("<dt>({letter})</dt><dd>{}</dd>\n", escape(source));
        }
        body += "</dl>\n";
        for (name, failure) in &records.failures {
            markdown += &format!("\n## {name} failed\n\n```text\n{failure}\n```\n");
            body += &format!("<h2>{} failed</h2>\n<pre>{}</pre>\n", escape(name), escape(failure));
        }
        let plots = sections.into_iter().flat_map(|section| section.plots).collect();
        let html = report::page(&title, &body);
        Self { markdown, html, plots, claims: claims.markdown(), verdict }
    }
}

fn section(records: &Records, table: &Experiment) -> Section {
    let mut tables = vec![(None, layout::table(records, table))];
    if table.reference == records.file.baseline && table.series.is_empty() && !table.whole_split {
        let equal_time = layout::equal_time(records, table);
        tables.extend(equal_time.map(|table| (Some(EQUAL_TIME), table)));
    }
    if table.whole_split {
        tables.push((Some("What the paper gives for PG-19; other data and other words: not to be compared with the above."), layout::published_perplexities(records)));
    }
    let (title, text) = (table.title.clone(), table.text.trim().to_owned());
    Section { title, text, tables, plots: charts::of_table(records, table), examples: vec![] }
}

/// What the second table of models says.
const EQUAL_TIME: &str = "At equal time: the validation loss when the reference has ended, by the measured steps. A row that is slower \
    is then in the middle of its schedule, its rate still high, so it is better than it looks; `--budget` in minutes trains every row \
    for as long.";

fn words(records: &Records) -> Option<Section> {
    let (found, wanted) = (records.words.as_ref()?, records.file.words.as_ref()?);
    let shown = layout::examples(found, wanted.documents);
    let mut examples: Vec<(String, Vec<Gain>)> = vec![];
    for gain in shown {
        match examples.last_mut().filter(|(document, _)| *document == gain.document) {
            Some((_, gains)) => gains.push(gain.clone()),
            None => examples.push((gain.document.clone(), vec![gain.clone()])),
        }
    }
    let text = format!(
        "{} over {}, word by word: a word is a run of letters, digits and underscores, its gain the bits that the first saves. {}.",
        found.model,
        found.against,
        layout::words(found)
    );
    let plots = charts::words(records).map(|plot| ("words.svg".to_owned(), plot)).into_iter().collect();
    Some(Section {
        title: "Which words gain".into(),
        text,
        tables: vec![(None, layout::distances(found))],
        plots,
        examples,
    })
}

impl Section {
    fn markdown(&self) -> String {
        let mut text = format!("\n## {}\n\n", self.title);
        if !self.text.is_empty() {
            text += &format!("{}\n\n", self.text);
        }
        for (before, table) in &self.tables {
            text += &before.map_or(String::new(), |before| format!("\n{before}\n\n"));
            text += &in_one_line(table).markdown();
        }
        for (name, _) in &self.plots {
            text += &format!("\n![{}]({name})\n", name.trim_end_matches(".svg"));
        }
        for (document, gains) in &self.examples {
            text += &format!("\n**{document}**\n\n");
            for gain in gains {
                text +=
                    &format!("* {} **`{}`**: {}\n", quoted(&gain.before), gain.word, layout::example(gain));
                if let Some([before, after]) = &gain.last {
                    text += &format!("  * there: {} **`{}`** {}\n", quoted(before), gain.word, quoted(after));
                }
            }
        }
        text
    }

    fn html(&self) -> String {
        let mut text = format!("<section>\n<h2>{}</h2>\n", escape(&self.title));
        if !self.text.is_empty() {
            text += &format!("<p class=\"text\">{}</p>\n", escape(&self.text));
        }
        for (before, table) in &self.tables {
            text += &before
                .map_or(String::new(), |before| format!("<p class=\"legend\">{}</p>\n", escape(before)));
            text += &table.html(|_| "");
        }
        if !self.plots.is_empty() {
            let figures: String =
                self.plots.iter().map(|(_, svg)| format!("<figure>{svg}</figure>\n")).collect();
            text += &format!("<div class=\"plots\">\n{figures}</div>\n");
        }
        for (document, gains) in &self.examples {
            text += &format!("<h3>{}</h3>\n", escape(document));
            for gain in gains {
                let [before, word] = [&gain.before, &gain.word].map(|text| escape(text));
                text += &format!("<blockquote><p>…{before}<mark>{word}</mark></p>\n");
                if let Some([before, after]) = &gain.last {
                    let [before, after] = [before, after].map(|text| escape(text));
                    text += &format!(
                        "<p class=\"there\">…{before}<mark class=\"last\">{word}</mark>{after}…</p>\n"
                    );
                }
                text += &format!("<footer>{}</footer></blockquote>\n", escape(&layout::example(gain)));
            }
        }
        text + "</section>\n"
    }
}

/// Returns a table whose small print stands behind the rest, that of names in brackets: Markdown has no line breaks in cells.
fn in_one_line(table: &Table) -> Table {
    let cell = |(column, cell): (usize, &String)| match cell.split_once('\n') {
        Some((name, more)) if column < table.num_text_columns => format!("{name} ({more})"),
        _ => cell.replace('\n', " "),
    };
    let rows = table.rows.iter().map(|row| row.iter().enumerate().map(cell).collect()).collect();
    Table { rows, ..table.clone() }
}

/// Returns a piece of text as code in one line of Markdown.
fn quoted(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { String::new() } else { format!("`` {text} ``") }
}
