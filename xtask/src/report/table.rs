//! Tables of text, and how numbers are written in them.

/// A table of text; numbers are not interpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Number of columns of text, which are left-aligned and come first; the others are numbers.
    pub(crate) num_text_columns: usize,
}

/// What stands for a value that does not exist.
pub(crate) const NONE: &str = "–";

impl Table {
    /// Returns a table with one column of text and then numbers.
    pub(crate) fn new(header: impl IntoIterator<Item = impl Into<String>>, rows: Vec<Vec<String>>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows, num_text_columns: 1 }
    }

    /// Returns the table in Markdown, aligned so that it reads as plain text too.
    pub(crate) fn markdown(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| &row[column]).chain([&self.header[column]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<_> = (0..self.header.len()).map(width).collect();
        let line = |cells: &[String]| {
            let pad = |(column, cell): (usize, &String)| {
                let cell = cell.replace('|', "\\|");
                let width = widths[column];
                if column < self.num_text_columns {
                    format!("{cell:width$}")
                } else {
                    format!("{cell:>width$}")
                }
            };
            format!("| {} |\n", cells.iter().enumerate().map(pad).collect::<Vec<_>>().join(" | "))
        };
        let rule = |(column, width): (usize, &usize)| {
            if column < self.num_text_columns {
                "-".repeat(*width)
            } else {
                format!("{}:", "-".repeat(width - 1))
            }
        };
        let rules: Vec<_> = widths.iter().enumerate().map(rule).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}| {} |\n{rows}", line(&self.header), rules.join(" | "))
    }
}

/// Returns a difference in bits with its sign.
pub(crate) fn signed(value: f64) -> String {
    format!("{value:+.4}").replace('-', "−")
}

/// Returns a number with a thin space between groups of three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows = vec![vec!["long name".into(), "1|2".into()], vec!["–".into(), "".into()]];
        let table = Table::new(["a", "number"], rows);
        assert_eq!(
            table.markdown(),
            "| a         | number |\n| --------- | -----: |\n| long name |   1\\|2 |\n| –         |        |\n"
        );
    }

    #[test]
    fn groups_of_digits() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(123), "123");
        assert_eq!(thousands(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
