//! The report: Markdown with plots beside it, and one page of HTML with everything in it.

use brt_report::plot::escape;

use super::{
    charts,
    claims::{self, Checked, Verdict},
    experiments::Experiment,
    facts, layout,
    records::Records,
    word_text,
    words::Gain,
};
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
    pub(super) checked: Vec<Checked>,
    /// The claims in Markdown, for the terminal.
    pub(super) claims: String,
    pub(super) verdict: String,
}

impl Report {
    /// Writes the report of all records.
    pub(super) fn new(records: &Records) -> Self {
        let checked = claims::check(records);
        let verdict = layout::verdict(&checked);
        let title = format!("{}: {}", records.file.title, records.corpus);
        let mut sections: Vec<Section> = records.tables().map(|table| section(records, table)).collect();
        sections.extend(words(records));
        let mut forms = Forms::default();
        forms.lead(&title, &verdict, &facts::notes(records));
        forms.findings(&records.findings);
        let claims = layout::claims(records, &checked);
        forms.claims(&checked, &claims, &facts::legend(records));
        for section in &sections {
            forms.add(&section.markdown(), &section.html());
        }
        let heading = "What the numbers stand on";
        forms.list((2, heading), facts::facts(records).iter().map(|(name, value)| (*name, value.as_str())));
        let sources = records.paper.sources.iter().map(|(letter, source)| (letter.as_str(), source.as_str()));
        forms.list((3, "Where numbers of the paper were found"), sources);
        forms.failures(records);
        let plots = sections.into_iter().flat_map(|section| section.plots).collect();
        Self {
            markdown: forms.markdown,
            html: report::page(&title, &forms.body),
            plots,
            checked,
            claims: without_links(&in_one_line(&claims)).markdown(),
            verdict,
        }
    }
}

/// A text that grows in both forms.
#[derive(Default)]
struct Forms {
    markdown: String,
    body: String,
}

impl Forms {
    fn add(&mut self, markdown: &str, html: &str) {
        self.markdown += markdown;
        self.body += html;
    }

    fn lead(&mut self, title: &str, verdict: &str, notes: &[String]) {
        let [html_title, html_verdict] = [title, verdict].map(escape);
        let html = format!(
            "<header class=\"lead\">\n<h1>{html_title}</h1>\n<p class=\"verdict\">{html_verdict}.</p>\n"
        );
        self.add(&format!("# {title}\n\n**{verdict}.**\n\n"), &html);
        for note in notes {
            self.add(&format!("> Note: {note}\n\n"), &format!("<p class=\"note\">{}</p>\n", escape(note)));
        }
        self.add("", "</header>\n");
    }

    fn claims(&mut self, checked: &[Checked], table: &Table, legend: &str) {
        let class = |row: usize| match checked[row].verdict {
            Verdict::Holds => "holds",
            Verdict::DoesNotHold => "fails",
            Verdict::Undecided | Verdict::Open => "undecided",
        };
        if !checked.is_empty() {
            let html = table.html(class).replace("<table>", "<table class=\"claims\">");
            let heading = "Conclusions of the paper";
            self.add(
                &format!("## {heading}\n\n{}\n", in_one_line(table).markdown()),
                &format!("<h2>{heading}</h2>\n{html}"),
            );
        }
        self.add(&format!("{legend}\n"), &format!("<p class=\"legend\">{}</p>\n", escape(legend)));
    }

    /// Adds what a person found, paragraph by paragraph.
    fn findings(&mut self, findings: &str) {
        if !findings.trim().is_empty() {
            let heading = "What was found";
            let paragraphs = findings.split("\n\n").map(str::trim).filter(|text| !text.is_empty());
            let html: String = paragraphs.map(|text| format!("<p>{}</p>\n", report::inline(text))).collect();
            let markdown = format!("## {heading}\n\n{}\n\n", findings.trim());
            self.add(&markdown, &format!("<section>\n<h2>{heading}</h2>\n{html}</section>\n"));
        }
    }

    /// Adds names with their values below a heading of a level.
    fn list<'a>(
        &mut self,
        (level, heading): (usize, &str),
        entries: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        let hashes = "#".repeat(level);
        self.add(&format!("\n{hashes} {heading}\n\n"), &format!("<h{level}>{heading}</h{level}>\n<dl>\n"));
        for (name, value) in entries {
            let html = format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value));
            self.add(&format!("* {name}: {value}\n"), &html);
        }
        self.add("", "</dl>\n");
    }

    fn failures(&mut self, records: &Records) {
        for (name, failure) in &records.failures {
            let html = format!("<h2>{} failed</h2>\n<pre>{}</pre>\n", escape(name), escape(failure));
            self.add(&format!("\n## {name} failed\n\n```text\n{failure}\n```\n"), &html);
        }
    }
}

fn section(records: &Records, table: &Experiment) -> Section {
    let mut tables = vec![(None, layout::table(records, table))];
    if table.reference == records.file.baseline && table.series.is_empty() && !table.whole_split {
        let equal_time = layout::equal_time(records, table);
        tables.extend(equal_time.map(|table| (Some(EQUAL_TIME), table)));
    }
    if table.whole_split {
        tables.push((Some(PUBLISHED), layout::published_perplexities(records)));
    }
    let (title, text) = (table.title.clone(), table.text.trim().to_owned());
    Section { title, text, tables, plots: charts::of_table(records, table), examples: vec![] }
}

/// What is said before the paper's perplexities.
const PUBLISHED: &str =
    "What the paper gives for PG-19; other data and other words: not to be compared with the above.";

/// What the second table of models says.
const EQUAL_TIME: &str = "At equal time: the validation loss when the reference has ended, by the measured steps, one seed. A \
    slower row is then in the middle of its schedule, its rate still high, and is better than it looks; a faster one has ended \
    before and could have trained on. --budget in minutes trains every row for as long, to its end.";

fn words(records: &Records) -> Option<Section> {
    let (found, wanted) = (records.words.as_ref()?, records.file.words.as_ref()?);
    let shown = word_text::examples(found, wanted.documents);
    let mut examples: Vec<(String, Vec<Gain>)> = vec![];
    for gain in shown {
        match examples.last_mut().filter(|(document, _)| *document == gain.document) {
            Some((_, gains)) => gains.push(gain.clone()),
            None => examples.push((gain.document.clone(), vec![gain.clone()])),
        }
    }
    let text = format!(
        "{} over {}, word by word: a word is a run of letters, digits and underscores, its gain the bits that the first saves. {}.",
        records.label(&found.model),
        records.label(&found.against),
        word_text::words(found)
    );
    let plots = charts::words(records).map(|plot| ("words.svg".to_owned(), plot)).into_iter().collect();
    Some(Section {
        title: "Which words gain".into(),
        text,
        tables: vec![(None, word_text::distances(found))],
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
                text += &format!(
                    "* {} **`{}`**: {}\n",
                    quoted(&gain.before),
                    gain.word,
                    word_text::example(gain)
                );
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
                text += &format!("<footer>{}</footer></blockquote>\n", escape(&word_text::example(gain)));
            }
        }
        text + "</section>\n"
    }
}

/// Returns a table whose small print stands behind the rest, that of names in brackets: cells of Markdown have no
/// lines.
fn in_one_line(table: &Table) -> Table {
    let cell = |(column, cell): (usize, &String)| match cell.split_once('\n') {
        Some((name, more)) if column == 0 => format!("{name} ({more})"),
        Some((first, more)) if more.contains('\n') => format!("{first}: {}", more.replace('\n', "; ")),
        _ => cell.replace('\n', " "),
    };
    let rows = table.rows.iter().map(|row| row.iter().enumerate().map(cell).collect()).collect();
    Table { rows, ..table.clone() }
}

/// Returns a table in which links are their text, for the terminal.
fn without_links(table: &Table) -> Table {
    let cell = |cell: &String| report::link_texts(cell);
    let rows = table.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    Table { rows, ..table.clone() }
}

/// Returns a piece of text as code in one line of Markdown.
fn quoted(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { String::new() } else { format!("`` {text} ``") }
}
