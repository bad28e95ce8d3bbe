//! One page that needs nothing else: no script, no file beside it.

use brt_report::plot::escape;

use super::Table;

const STYLE: &str = include_str!("style.css");

/// Returns a whole page around a body.
pub(crate) fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

impl Table {
    /// Returns the table in HTML; what follows a line break in a cell is written small, links are those of Markdown.
    /// `class` names the class of a row.
    pub(crate) fn html(&self, class: impl Fn(usize) -> &'static str) -> String {
        let cells = |tag: &str, row: &[String]| -> String {
            let cell = |cell: &String| match cell.split_once('\n') {
                Some((name, more)) => {
                    let more = more.split('\n').map(inline).collect::<Vec<_>>().join("<br>");
                    format!("<{tag}>{}<small>{more}</small></{tag}>", inline(name))
                }
                None => format!("<{tag}>{}</{tag}>", inline(cell)),
            };
            row.iter().map(cell).collect()
        };
        let mut text = format!(
            "<div class=\"table\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n",
            cells("th", &self.header)
        );
        for (i, row) in self.rows.iter().enumerate() {
            let class = match class(i) {
                "" => String::new(),
                class => format!(" class=\"{class}\""),
            };
            text += &format!("<tr{class}>{}</tr>\n", cells("td", row));
        }
        text + "</tbody></table></div>\n"
    }
}

/// Returns text in which the links of Markdown, `[text](target)`, are those of HTML.
pub(crate) fn inline(text: &str) -> String {
    match first_link(text) {
        Some([before, label, target, after]) => {
            let [before, label, target] = [before, label, target].map(escape);
            format!("{before}<a href=\"{target}\">{label}</a>{}", inline(after))
        }
        None => escape(text),
    }
}

/// Returns text in which the links of Markdown are their texts.
pub(crate) fn link_texts(text: &str) -> String {
    match first_link(text) {
        Some([before, label, _, after]) => format!("{before}{label}{}", link_texts(after)),
        None => text.to_owned(),
    }
}

/// Returns what is before the first link, its text, its target, and what is behind it.
fn first_link(text: &str) -> Option<[&str; 4]> {
    let (label_end, rest) = text.split_once("](")?;
    let (before, label) = label_end.rsplit_once('[')?;
    let (target, after) = rest.split_once(')')?;
    Some([before, label, target, after])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_small_print() {
        assert_eq!(inline("1 < 2 [3]"), "1 &lt; 2 [3]");
        assert_eq!(
            inline("a [1.5](runs/x/) & [2](y)"),
            "a <a href=\"runs/x/\">1.5</a> &amp; <a href=\"y\">2</a>"
        );
        assert_eq!(inline("[1, 2] [a](b) [3, 4]"), "[1, 2] <a href=\"b\">a</a> [3, 4]");
        assert_eq!(link_texts("x [a](b) [3, 4] [c](d)."), "x a [3, 4] c.");
        let table = Table::new(["h"], vec![vec!["name\n[model](m)".into()]]);
        let html = table.html(|_| "best");
        assert!(
            html.contains("<tr class=\"best\"><td>name<small><a href=\"m\">model</a></small></td></tr>"),
            "{html}"
        );
    }
}
