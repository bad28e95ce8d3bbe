//! Whether the last piece of an answer has reached the connection: a session moves only then.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::SeqCst},
};

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const LOST: u8 = 2;

/// What goes with the last piece; unsigned where it is dropped on the way.
#[derive(Debug)]
pub(crate) struct Receipt(Arc<AtomicU8>);

/// The worker's copy.
#[derive(Debug)]
pub(super) struct Awaited(Arc<AtomicU8>);

/// What has become of a last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is on its way.
    Waiting,
    /// The connection has it.
    Taken,
    /// The client left before it came.
    Lost,
}

impl Receipt {
    pub(super) fn new() -> (Self, Awaited) {
        let fate = Arc::new(AtomicU8::new(WAITING));
        (Self(Arc::clone(&fate)), Awaited(fate))
    }

    /// Says that the connection has the last piece.
    pub(crate) fn sign(self) {
        self.0.store(TAKEN, SeqCst);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let _ = self.0.compare_exchange(WAITING, LOST, SeqCst, SeqCst); // Signed or not, the fate is settled.
    }
}

impl Awaited {
    pub(super) fn fate(&self) -> Fate {
        match self.0.load(SeqCst) {
            WAITING => Fate::Waiting,
            TAKEN => Fate::Taken,
            _ => Fate::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_signed_or_lost() {
        let (receipt, awaited) = Receipt::new();
        assert_eq!(awaited.fate(), Fate::Waiting);
        receipt.sign();
        assert_eq!(awaited.fate(), Fate::Taken);
        let (receipt, awaited) = Receipt::new();
        drop(receipt);
        assert_eq!(awaited.fate(), Fate::Lost);
    }
}
