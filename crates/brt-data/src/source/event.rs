//! What reading a unit gives: documents in pieces, and what was left out.

use std::collections::VecDeque;

use super::{OnError, SourceError};
use crate::Split;

/// One step of reading. The events of a document follow one another.
///
/// Inputs, which [`Unit::open`](super::Unit::open) can leave out, are the documents that begin and the skips between
/// documents; a skip inside a document is a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A document begins.
    Begin {
        name: String,
        /// The documents of one group belong to one split.
        group: String,
        /// The split that the source says, if it does.
        split: Option<Split>,
    },
    /// The next piece of the document.
    Text {
        text: Vec<u8>,
        /// Whether the piece begins inside a word whose first part the piece before holds.
        in_word: bool,
    },
    /// The document is whole.
    End,
    /// The document turned out unusable: what came since `Begin` must be forgotten.
    Abandon { reason: String, place: String },
    /// An input, or a part of a document, was left out.
    Skip { reason: String, place: String },
}

/// The events of a unit. After an error there are none.
pub(crate) type Events = Box<dyn Iterator<Item = Result<Event, SourceError>> + Send>;

/// Whether a reader has more to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    More,
    Done,
}

/// A reader of one unit.
pub(super) trait Steps: Send {
    /// Reads on and adds the events that came of it. After an error the next step goes on behind the input that
    /// could not be read.
    fn step(&mut self, out: &mut Out) -> Result<Next, SourceError>;
}

/// Events that were read and not yet taken.
#[derive(Debug, Default)]
pub(super) struct Out {
    events: VecDeque<Event>,
    in_document: bool,
}

impl Out {
    /// Adds an event.
    pub(super) fn push(&mut self, event: Event) {
        match event {
            Event::Begin { .. } => self.in_document = true,
            Event::End | Event::Abandon { .. } => self.in_document = false,
            Event::Text { .. } | Event::Skip { .. } => {}
        }
        self.events.push_back(event);
    }

    /// Adds a piece, if there is one.
    pub(super) fn push_piece(&mut self, piece: Option<Event>) {
        self.events.extend(piece);
    }

    /// Leaves out what could not be read: the document that has begun, else the input that would have come.
    fn leave_out(&mut self, error: &SourceError) {
        let (reason, place) = (error.reason(), error.place());
        let event =
            if self.in_document { Event::Abandon { reason, place } } else { Event::Skip { reason, place } };
        self.push(event);
    }
}

/// The events of a reader; errors end it, or are left out.
struct Reading<S> {
    steps: S,
    on_error: OnError,
    out: Out,
    next: Next,
}

/// Returns the events of a reader.
pub(super) fn events(steps: impl Steps + 'static, on_error: OnError) -> Events {
    Box::new(Reading { steps, on_error, out: Out::default(), next: Next::More })
}

impl<S: Steps> Iterator for Reading<S> {
    type Item = Result<Event, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.out.events.pop_front() {
                return Some(Ok(event));
            }
            if self.next == Next::Done {
                return None;
            }
            match (self.steps.step(&mut self.out), self.on_error) {
                (Ok(next), _) => self.next = next,
                (Err(error), OnError::Skip) => self.out.leave_out(&error),
                (Err(error), OnError::Stop) => {
                    self.next = Next::Done;
                    self.out.events.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
