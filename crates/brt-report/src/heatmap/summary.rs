//! What a page says of whole documents.

use super::ScoredDocument;
use crate::plot::escape;

/// What stands where there is no number.
const NONE: &str = "–";

/// Which views a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Views {
    /// The surprise with the state alone.
    StateOnly,
    /// Also that with the state reset, and the difference.
    WithReset,
}

/// Returns the summary of one document.
pub(super) fn sentence(document: &ScoredDocument, views: Views) -> String {
    let bits = document.total_bits();
    let mut parts = match views {
        Views::StateOnly => vec![format!("<b>{}</b> bits/byte", per_byte(Some(bits), document))],
        Views::WithReset => {
            let reset = document.total_reset_bits();
            vec![
                format!("<b>{}</b> bits/byte with state", per_byte(Some(bits), document)),
                format!("<b>{}</b> without", per_byte(reset, document)),
                format!("the state saves <b>{}</b>", saving(bits, reset)),
            ]
        }
    };
    parts.push(format!("{} tokens", thousands(document.num_scored())));
    parts.push(format!("{} bytes", thousands(document.num_bytes)));
    parts.push(format!("{} words", thousands(document.num_words)));
    parts.into_iter().map(|part| format!("<span>{part}</span>")).collect::<Vec<_>>().join(" ")
}

/// Returns a table of the documents, if there are several.
pub(super) fn overview(documents: &[ScoredDocument], views: Views) -> String {
    if documents.len() < 2 {
        return String::new();
    }
    let row = |(i, document): (usize, &ScoredDocument)| {
        let name = format!("<a href=\"#d{i}\">{}</a>", escape(&document.name));
        let bits = document.total_bits();
        let mut cells = vec![name, thousands(document.num_scored()), per_byte(Some(bits), document)];
        if views == Views::WithReset {
            let reset = document.total_reset_bits();
            cells.extend([per_byte(reset, document), saving(bits, reset)]);
        }
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = documents.iter().enumerate().map(row).collect();
    let header = match views {
        Views::StateOnly => "<th>surprise</th>",
        Views::WithReset => "<th>with state</th><th>without</th><th>saved</th>",
    };
    format!(
        "<div class=table><table>\n<caption>Bits per byte</caption>\n\
         <thead><tr><th>document</th><th>tokens</th>{header}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

/// Returns bits per byte of a document.
fn per_byte(bits: Option<f64>, document: &ScoredDocument) -> String {
    let per_byte = bits.map(|bits| bits / document.num_bytes as f64).filter(|per_byte| per_byte.is_finite());
    per_byte.map_or(NONE.to_owned(), |per_byte| format!("{per_byte:.3}"))
}

/// Returns which part of the bits without state the state saves.
fn saving(bits: f64, reset: Option<f64>) -> String {
    let saving = reset.map(|reset| (reset - bits) / reset * 100.).filter(|saving| saving.is_finite());
    saving.map_or(NONE.to_owned(), |saving| format!("{saving:.1}\u{202f}%").replace('-', "−"))
}

/// Returns a number in groups of three digits.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let group = |(i, digit): (usize, char)| {
        let starts_group = i > 0 && (digits.len() - i).is_multiple_of(3);
        [starts_group.then_some('\u{202f}'), Some(digit)].into_iter().flatten()
    };
    digits.chars().enumerate().flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn digits_stand_in_threes() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands),
            ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
    }
}
