//! A text coloured by how much each of its tokens surprised a model: one page that needs nothing else.
//!
//! Each token is one short element whose classes are its levels in the three views, so that 100,000 of them are a few
//! megabytes; the exact numbers stand in one array, and a script shows those of one token at a time.

mod levels;
mod summary;

use std::f64::consts::LOG2_E;

use serde::Serialize;

use self::summary::{Views, overview, sentence};
use crate::plot::escape;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Number of tokens after which a block of the text ends at the next line feed: a browser lays out only the blocks that
/// are seen.
const MIN_BLOCK_LEN: usize = 200;

/// Number of tokens after which a block ends at the next white space, and at twice as many anywhere: the time that a
/// browser takes for a line grows with the square of its length.
const MAX_BLOCK_LEN: usize = 4000;

/// One token of a scored text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredToken {
    /// Its text; of several tokens for one character one has it, and the others have none.
    pub text: String,
    /// Its surprise in nats; `None` where nothing was predicted, as at the first token.
    pub nats: Option<f64>,
    /// The same with the recurrent states reset in every block; `None` where that was not scored.
    pub reset_nats: Option<f64>,
}

/// One text and the surprise of its tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredDocument {
    /// The document's name in its corpus.
    pub name: String,
    /// All its tokens, in order.
    pub tokens: Vec<ScoredToken>,
    /// Number of bytes of text that the scored tokens stand for.
    pub num_bytes: u64,
    /// Number of words that begin in those bytes: runs of characters that are not white space.
    pub num_words: u64,
}

impl ScoredToken {
    /// Returns how many bits the recurrent state saves, `None` where one of the two was not scored.
    pub fn gain_bits(&self) -> Option<f64> {
        Some(bits(self.reset_nats)? - bits(self.nats)?)
    }
}

impl ScoredDocument {
    /// Returns the number of tokens that were predicted.
    pub fn num_scored(&self) -> u64 {
        self.tokens.iter().filter(|token| token.nats.is_some()).count() as u64
    }

    /// Returns the sum of the surprise of all predicted tokens, in bits.
    pub fn total_bits(&self) -> f64 {
        self.tokens.iter().filter_map(|token| token.nats).sum::<f64>() * LOG2_E
    }

    /// Returns the same sum with the states reset; `None` unless every predicted token has been scored so.
    pub fn total_reset_bits(&self) -> Option<f64> {
        let predicted = self.tokens.iter().filter(|token| token.nats.is_some());
        let nats: Option<f64> = predicted.map(|token| token.reset_nats).sum();
        nats.map(|nats| nats * LOG2_E).filter(|_| self.num_scored() > 0)
    }
}

/// Returns the page: `title` and `model` above the texts, each token coloured by its surprise in bits.
///
/// Where a token has `reset_nats` the page has three views: with state, without, and what the state gains.
pub fn heatmap_html(title: &str, model: &str, documents: &[ScoredDocument]) -> String {
    let has_reset = documents.iter().flat_map(|d| &d.tokens).any(|token| token.reset_nats.is_some());
    let views = if has_reset { Views::WithReset } else { Views::StateOnly };
    let (title, model) = (escape(title), escape(model));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}{}</style>\n\
         <noscript><style>fieldset, .readout {{ display: none; }}</style></noscript>\n</head>\n<body class=va>\n\
         <header>\n<h1>{title}</h1>\n<p class=model>{model}</p>\n{}</header>\n{}<main>\n\
         <noscript><p class=note>The numbers of single tokens and other views need the script of this page.</p>\
         </noscript>\n",
        levels::css(),
        overview(documents, views),
        bar(views)
    );
    for (i, document) in documents.iter().enumerate() {
        push_section(&mut page, i, document, views);
    }
    page += "</main>\n<div class=readout><output>Point at a token or tap it; or move to a text with Tab, and in it \
             with the arrow keys.</output></div>\n";
    page + &format!("<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
}

/// Appends a document: its name, its summary, its text and its numbers.
fn push_section(page: &mut String, idx: usize, document: &ScoredDocument, views: Views) {
    let (name, summary) = (escape(&document.name), sentence(document, views));
    *page += &format!(
        "<section>\n<h2 id=d{idx}>{name}</h2>\n<p class=sum>{summary}</p>\n\
         <div class=text tabindex=0 role=group dir=auto translate=no \
         aria-label=\"Text of {name}. The arrow keys go from token to token.\">"
    );
    push_text(page, document, views);
    let values = values(document, views);
    *page += &format!("</div>\n<script type=\"application/json\">{values}</script>\n</section>\n");
}

/// Returns the choice of views and their legends.
fn bar(views: Views) -> String {
    let mut bar = "<div class=bar>\n".to_owned();
    let choices =
        [("va", "With state", " checked"), ("vb", "Without state", ""), ("vc", "What the state gains", "")];
    if views == Views::WithReset {
        let choice = |(value, label, checked): &(&str, &str, &str)| {
            format!("<label><input type=radio name=view value={value}{checked}>{label}</label>\n")
        };
        let choices: String = choices.iter().map(choice).collect();
        bar += &format!("<fieldset aria-label=\"What the colours show\">\n{choices}</fieldset>\n");
    }
    bar += &levels::surprise_legend('a', "Surprise of each token, in bits");
    if views == Views::WithReset {
        bar +=
            &levels::surprise_legend('b', "Surprise with the recurrent state reset in every block, in bits");
        bar += &levels::gain_legend("Bits that the recurrent state saves (+, blue) or costs (−, orange)");
    }
    bar + "</div>\n"
}

/// Appends the tokens as elements with the classes of their levels, in blocks that end at line feeds.
fn push_text(page: &mut String, document: &ScoredDocument, views: Views) {
    let (mut start, mut rest) = (0, document.tokens.as_slice());
    let mut goes_on = "";
    while !rest.is_empty() {
        let (block, others) = rest.split_at(block_len(rest));
        *page += &format!("<div{goes_on} data-start={start}>");
        for token in block {
            let classes = classes(token, views);
            match classes.split_once(' ') {
                None if classes.is_empty() => *page += "<i>",
                None => *page += &format!("<i class={classes}>"),
                Some(_) => *page += &format!("<i class=\"{classes}\">"),
            }
            *page += &visible(&token.text);
            *page += "</i>";
        }
        *page += "</div>";
        goes_on = if block.last().is_some_and(|token| token.text.ends_with('\n')) { "" } else { " class=on" };
        (start, rest) = (start + block.len(), others);
    }
}

/// Returns how many of the tokens are one block.
fn block_len(tokens: &[ScoredToken]) -> usize {
    let is_end = |len: &usize| {
        let (last, next) = (&tokens[len - 1].text, &tokens[*len].text);
        let is_space = || last.ends_with(char::is_whitespace) || next.starts_with(char::is_whitespace);
        last.ends_with('\n') || *len >= 2 * MAX_BLOCK_LEN || (*len >= MAX_BLOCK_LEN && is_space())
    };
    (MIN_BLOCK_LEN..tokens.len()).find(is_end).unwrap_or(tokens.len())
}

/// Returns the classes of a token.
fn classes(token: &ScoredToken, views: Views) -> String {
    let level = |view: char, nats: Option<f64>| {
        let level = levels::of_surprise(bits(nats)?);
        (level > 0).then(|| format!("{view}{level}"))
    };
    let reset = (views == Views::WithReset).then(|| level('b', token.reset_nats)).flatten();
    let gain = token.gain_bits().and_then(levels::class_of_gain);
    let unknown = token.nats.is_none().then(|| "u".to_owned());
    let line_feed = token.text.starts_with('\n').then(|| "n".to_owned());
    let all = [level('a', token.nats), reset, gain, unknown, line_feed];
    all.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Returns the numbers of a document for the script: bits with two decimals.
fn values(document: &ScoredDocument, views: Views) -> String {
    let list = |of: fn(&ScoredToken) -> Option<f64>| {
        let number = |token| match bits(of(token)) {
            Some(bits) => ((bits * 100.).round() / 100.).to_string(),
            None => "null".to_owned(),
        };
        document.tokens.iter().map(number).collect::<Vec<_>>().join(",")
    };
    let reset = match views {
        Views::WithReset => format!(",\"reset\":[{}]", list(|token| token.reset_nats)),
        Views::StateOnly => String::new(),
    };
    format!("{{\"state\":[{}]{reset}}}", list(|token| token.nats))
}

/// Returns nats as bits; what is not a number is missing.
fn bits(nats: Option<f64>) -> Option<f64> {
    nats.map(|nats| nats * LOG2_E).filter(|bits| bits.is_finite())
}

/// Returns text that a page shows as it is, with pictures of control characters.
fn visible(text: &str) -> String {
    let picture = |c: char| match c {
        '\n' | '\t' => c,
        '\0'..' ' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(c),
        '\u{7F}' => '\u{2421}',
        '\u{80}'..'\u{A0}' => char::REPLACEMENT_CHARACTER,
        _ => c,
    };
    escape(&text.chars().map(picture).collect::<String>())
}

#[cfg(test)]
mod tests;
