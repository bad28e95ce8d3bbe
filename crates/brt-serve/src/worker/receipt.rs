//! Whether the last piece of an answer has reached the connection: a session moves only then.

use tokio::sync::oneshot;

/// What goes with the last piece; lost where it is dropped on the way.
#[derive(Debug)]
pub(crate) struct Receipt(oneshot::Sender<()>);

/// The worker's end of a receipt.
pub(super) type Awaited = oneshot::Receiver<()>;

impl Receipt {
    pub(super) fn new() -> (Self, Awaited) {
        let (sender, awaited) = oneshot::channel();
        (Self(sender), awaited)
    }

    /// Says that the connection has the last piece.
    pub(crate) fn sign(self) {
        let _ = self.0.send(()); // The worker may have ended.
    }
}
