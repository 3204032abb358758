//! Orders of the operator to the task that puts lists in force.

use tokio::sync::{mpsc, oneshot};

use crate::admin::lists::Accepted;

/// Orders that wait; each waits for its answer, so few suffice.
const ORDERS: usize = 4;

/// The order to put content in force that was held back.
#[derive(Debug)]
pub(super) struct Accept {
    /// The list.
    pub list: String,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Accepted, String>>,
}

/// Gives the order. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct AcceptHandle(mpsc::Sender<Accept>);

/// A handle, and where its orders arrive.
pub(super) fn orders() -> (AcceptHandle, mpsc::Receiver<Accept>) {
    let (sender, orders) = mpsc::channel(ORDERS);
    (AcceptHandle(sender), orders)
}

impl AcceptHandle {
    /// Puts the content of `list` in force that was held back.
    pub(super) async fn accept(&self, list: String) -> Result<Accepted, String> {
        let stopping = || "the daemon is stopping".to_owned();
        let (reply, answer) = oneshot::channel();
        self.0.send(Accept { list, reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}
