//! The edge: accepts connections, reads and judges the opening handshake, and answers.
//!
//! A connection goes through stages, each a type that only the stage before can make:
//! [`head::Head`] (the bytes of a request head) → [`opening::Opening`] (a valid opening handshake)
//! → an [`crate::auth::Identity`] on a [`snapshot::Route`] → a session.

mod answer;
mod connection;
mod gate;
pub mod head;
pub mod opening;
mod snapshot;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use gate::{Gate, Sources};
pub use snapshot::{Route, Snapshot};

/// Serves `listener` until `stop`; then open sessions get the drain timeout, and are cut.
pub async fn serve(listener: TcpListener, gate: Arc<Gate>, stop: CancellationToken) {
    let sessions = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // From the queue's point of view the gate is full: nothing is read, nothing is
                // kept, and the next one gets its chance.
                let Some(place) = gate.counts().place() else {
                    gate.shed(stream, peer);
                    continue;
                };
                sessions.spawn(connection::handle(stream, peer, place, Arc::clone(&gate), cut.clone()));
            }
            Err(error) => pause(&error).await,
        }
    }
    sessions.close();
    if tokio::time::timeout(gate.limits().drain_timeout, sessions.wait()).await.is_err() {
        cut.cancel();
        sessions.wait().await;
    }
}

/// Errors of a single connection (it was reset while it waited) cost nothing; those of the host,
/// such as too many open files, would come back at full speed.
async fn pause(error: &io::Error) {
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    ) {
        log::error!("connections cannot be accepted: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests;
