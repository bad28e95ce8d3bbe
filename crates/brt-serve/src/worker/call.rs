//! A request that the worker has taken.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use brt_lm::TextState;
use tokio::sync::mpsc::error::TrySendError;

use super::{job::Job, line::Event, sessions::Sessions};
use crate::{RequestError, request::GoesOn};

/// A request that the worker has taken; its prompts and rows share it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) job: Job,
    pub(super) goes_on: GoesOn,
    /// The session that must be given back.
    session: RefCell<Option<String>>,
    /// Since when the client has read nothing although something waits for it.
    stalled: Cell<Option<Instant>>,
    /// Whether there will be no more.
    is_over: Cell<bool>,
}

impl Call {
    /// Returns the request of a session that has been taken for it, or of none.
    pub(super) fn new(mut job: Job, goes_on: GoesOn) -> Self {
        let session = RefCell::new(job.session.take());
        Self { job, goes_on, session, stalled: Cell::default(), is_over: Cell::default() }
    }

    /// Returns whether the client has gone, or was told that there will be no more.
    pub(super) fn is_gone(&self) -> bool {
        self.is_over.get() || self.job.client.events.is_closed()
    }

    /// Returns whether the client was told that there will be no more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Sends an event; returns it where the client must read first. One whose client has gone is dropped.
    pub(super) fn send(&self, event: Event) -> Option<Event> {
        match self.job.client.events.try_send(event) {
            Ok(()) => self.stalled.set(None),
            Err(TrySendError::Closed(_)) => (),
            Err(TrySendError::Full(event)) => {
                self.stalled.set(self.stalled.get().or_else(|| Some(Instant::now())));
                return Some(event);
            }
        }
        None
    }

    /// Returns whether the client has read nothing for that long.
    pub(super) fn is_stalled(&self, limit: Duration) -> bool {
        self.stalled.get().is_some_and(|since| since.elapsed() >= limit)
    }

    /// Returns a copy of the state that its session has.
    pub(super) fn session_text(&self, sessions: &Sessions) -> Option<TextState> {
        self.session.borrow().as_ref().and_then(|name| sessions.copy(name))
    }

    pub(super) fn has_session(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Gives the session back with the state after the request.
    pub(super) fn keep(&self, text: TextState, sessions: &mut Sessions) {
        if let Some(name) = self.session.take() {
            sessions.keep(&name, text);
        }
    }

    /// Gives the session back as it was before the request.
    pub(super) fn give_up(&self, sessions: &mut Sessions) {
        if let Some(name) = self.session.take() {
            sessions.release(&name);
        }
    }

    /// Gives up with a reason, which the client reads after what was sent before.
    pub(super) fn fail(&self, error: RequestError, sessions: &mut Sessions) {
        let _ = self.job.client.reason.set(error); // The first reason is the one.
        self.is_over.set(true);
        self.give_up(sessions);
    }
}
