//! Numbers that the worker thread and the connections share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use crate::RequestError;

/// How busy a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Texts that are read or continued now.
    pub running: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// Sessions in memory.
    pub sessions: usize,
    /// Requests without a whole answer.
    pub requests: usize,
}

#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) running: AtomicUsize,
    pub(super) sessions: AtomicUsize,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) requests: Arc<AtomicUsize>,
    pub(super) is_stopping: AtomicBool,
}

impl Gauges {
    pub(super) fn load(&self) -> Load {
        Load {
            running: self.running.load(SeqCst),
            waiting: self.waiting.load(SeqCst),
            sessions: self.sessions.load(SeqCst),
            requests: self.requests.load(SeqCst),
        }
    }

    /// Returns why a worker that is gone has no answer.
    pub(super) fn why_not(&self) -> RequestError {
        if self.is_stopping.load(SeqCst) { RequestError::Stopping } else { RequestError::Failed }
    }
}

/// One of what a number counts, until it is ended or dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    number: Arc<AtomicUsize>,
    is_over: AtomicBool,
}

impl Counted {
    /// Returns one more, unless there are `max`.
    pub(super) fn new(number: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let more = |count| (count < max).then_some(count + 1);
        let counted = number.fetch_update(SeqCst, SeqCst, more);
        counted.ok().map(|_| Self { number: Arc::clone(number), is_over: AtomicBool::new(false) })
    }

    /// Counts it no longer.
    pub(super) fn end(&self) {
        if !self.is_over.swap(true, SeqCst) {
            self.number.fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_may_be() {
        let number = Arc::default();
        let one = Counted::new(&number, 2);
        let two = Counted::new(&number, 2);
        assert!(two.is_some() && Counted::new(&number, 2).is_none());
        drop(one.inspect(Counted::end));
        assert!(Counted::new(&number, 2).is_some());
        assert_eq!(number.load(SeqCst), 1);
    }
}
