//! Gains of words as text that Markdown and HTML both print.

use std::collections::BTreeSet;

use super::words::{Gain, Share, WordGains};
use crate::report::{NONE, Table, signed, thousands};

/// Returns the mean gain of a word by the distance to its last occurrence.
pub(super) fn distances(words: &WordGains) -> Table {
    let header = ["last occurrence (tokens back)", "words", "gain (bits/word) [95 %]"];
    let rows = words.by_distance.iter().map(|gain| {
        let distance = match gain.end {
            None => "never before".into(),
            Some(end) => format!("{} to {}", thousands(gain.start.max(1)), thousands(end - 1)),
        };
        let interval = gain
            .interval
            .map_or(String::new(), |[low, high]| format!(" [{}, {}]", signed(low), signed(high)));
        vec![distance, thousands(gain.num_words as u64), format!("{}{interval}", signed(gain.bits))]
    });
    Table::new(header, rows.collect())
}

/// Returns what the words that gain most are, in one sentence.
pub(super) fn words(words: &WordGains) -> String {
    let percent = |share: Option<Share>| {
        share.map_or(NONE.into(), |Share { of_best, of_worst, of_all, .. }| {
            let [best, worst, all] = [of_best, of_worst, of_all].map(|share| 100. * share);
            format!("{best:.0} % ({worst:.0} % of those that lose most, {all:.0} % of all)")
        })
    };
    format!(
        "Of the {} words that gain most ({} in each of {} test documents), {} are names or identifiers, {} had not occurred \
         in the last {} tokens, and {} of these had occurred before",
        words.best.len(),
        words.per_document,
        words.num_documents,
        percent(words.names()),
        percent(words.outside_window()),
        words.window_len,
        words.num_recalled()
    )
}

/// Returns the documents and words that are shown: of as many documents as are wanted, spread over all of them.
pub(super) fn examples(words: &WordGains, num_documents: usize) -> Vec<&Gain> {
    let names: Vec<&str> =
        words.best.iter().map(|gain| gain.document.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    let num_shown = num_documents.min(names.len());
    let shown: Vec<&str> = (0..num_shown).map(|i| names[i * names.len() / num_shown]).collect();
    words.best.iter().filter(|gain| shown.contains(&gain.document.as_str())).collect()
}

/// Returns what is said of a word that gains.
pub(super) fn example(gain: &Gain) -> String {
    let last = match gain.distance {
        None => "it had not occurred".into(),
        Some(distance) => format!("it last occurred {} tokens before", thousands(distance)),
    };
    let kind = if gain.is_name { "a name or identifier; " } else { "" };
    format!("{:.1} bits saved of {:.1}; {kind}{last}", gain.bits, gain.bits + gain.model_bits)
}
