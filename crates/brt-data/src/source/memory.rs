//! A document that is in memory.

use super::{BytesRead, Event, InvalidUtf8, pieces::Pieces};
use crate::Split;

/// Returns the events of a document of known text.
pub(crate) fn document_events(
    name: &str,
    group: &str,
    split: Split,
    text: &[u8],
    bytes_read: &BytesRead,
) -> impl Iterator<Item = Event> + Send {
    bytes_read.add(text.len() as u64);
    let mut pieces = Pieces::new(InvalidUtf8::Bytes);
    pieces.push_checked(text);
    let begin = Event::Begin { name: name.to_owned(), group: group.to_owned(), split: Some(split) };
    let texts = std::iter::from_fn(move || pieces.next_piece().or_else(|| pieces.last_piece()));
    std::iter::once(begin).chain(texts).chain(std::iter::once(Event::End))
}
