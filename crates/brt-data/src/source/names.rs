//! The table of a PG-19 folder, from which the authors of its books are known.

use std::{collections::HashMap, path::Path};

/// Name of the table: a book's number, title, year and address on each line, without a header.
const TABLE: &str = "metadata.csv";

/// The authors of books, by number.
#[derive(Debug, Default)]
pub(super) struct Authors(HashMap<String, String>);

impl Authors {
    /// Reads the table of a folder. Without one, or where it cannot be read, no author is known.
    pub(super) fn read(folder: &Path) -> Self {
        let table = std::fs::read(folder.join(TABLE)).unwrap_or_default();
        let table = String::from_utf8_lossy(&table);
        let author = |fields: Vec<String>| {
            let [number, title] =
                <[String; 2]>::try_from(fields.into_iter().take(2).collect::<Vec<_>>()).ok()?;
            let (_, author) = title.rsplit_once(" by ")?;
            Some((number, author.trim().to_owned()))
        };
        Self(records(&table).into_iter().filter_map(author).collect())
    }

    /// Returns the author of the book in the file of this name.
    pub(super) fn author(&self, name: &str) -> Option<&str> {
        let file = name.rsplit('/').next()?;
        self.0.get(file.split('.').next()?).map(String::as_str)
    }
}

/// Returns the fields of each record; a field in quotes may have commas and ends of lines in it.
fn records(table: &str) -> Vec<Vec<String>> {
    let mut records = Vec::new();
    let (mut record, mut field) = (Vec::new(), String::new());
    let mut chars = table.chars().peekable();
    let mut in_quotes = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if in_quotes && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => in_quotes = !in_quotes,
            ',' if !in_quotes => record.push(std::mem::take(&mut field)),
            '\n' if !in_quotes => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            '\r' if !in_quotes => {}
            _ => field.push(c),
        }
    }
    record.push(field);
    records.push(record);
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authors_are_behind_the_last_by() {
        let folder = tempfile::tempdir().unwrap();
        let table =
            "1,\"Stand by Me, \"\"Again\"\" by A. B., Jr.\",1900,x\r\n2,No Author,1,x\n3,C by D,1865,x";
        std::fs::write(folder.path().join(TABLE), table).unwrap();
        let authors = Authors::read(folder.path());
        assert_eq!(authors.author("train/1.txt"), Some("A. B., Jr."));
        assert_eq!(authors.author("test/2.txt"), None);
        assert_eq!(authors.author("3.txt.gz"), Some("D"));
        assert_eq!(Authors::read(Path::new("/nowhere")).author("3.txt"), None);
    }
}
