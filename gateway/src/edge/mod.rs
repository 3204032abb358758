//! The edge: accepts connections, reads and judges the opening handshake, and answers.
//!
//! A connection goes through stages, each a type that only the stage before can make:
//! [`head::Head`] (the bytes of a request head) → [`opening::Opening`] (a valid opening handshake)
//! → an [`crate::auth::Identity`] on a [`snapshot::Route`] → a session.

mod answer;
mod arrival;
mod connection;
pub mod endpoints;
mod first_message;
pub mod forwarded;
mod gate;
pub mod head;
mod hold;
mod http2;
mod listener;
mod open;
pub mod opening;
pub mod proxy_header;
mod renewal;
mod snapshot;
mod telling;
mod tenure;
mod tls;
mod visitor;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::session::socket;

use arrival::Entrance;
pub use gate::{Gate, Sources};
pub use listener::Listener;
pub use snapshot::{Route, Snapshot};
pub use tls::{Material, MaterialError, Tls, validity};

/// Before the next attempt to accept, after one that failed for want of something.
const PAUSE: Duration = Duration::from_millis(100);

/// How a connection hears that the gate ends.
#[derive(Clone, Debug)]
struct Ends {
    /// Nobody is accepted any more.
    stopping: CancellationToken,
    /// The drain timeout is over.
    cut: CancellationToken,
}

/// Serves `listener`, which the snapshots know by `address`, until `closing`, which `stop` implies: then
/// nobody is accepted any more, and sessions stay. With `stop`, open sessions are told one by one, and what
/// is left of them at the drain timeout is cut.
///
/// Connections count against `[limits] sessions` from the moment they are accepted: handshakes that
/// are not decided yet are part of it.
pub async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    gate: Arc<Gate>,
    closing: CancellationToken,
    stop: CancellationToken,
) {
    socket::prepare(&listener);
    let connections = TaskTracker::new();
    // Sessions end with the gate, each in its moment; what is left of them is cut.
    let ends = Ends { stopping: stop.clone(), cut: CancellationToken::new() };
    let entrance = Entrance {
        gate: Arc::clone(&gate),
        address,
        ends: ends.clone(),
        closing: closing.clone(),
        connections: connections.clone(),
    };
    let mut rules = gate.snapshot().listener(&address).map(Arc::clone).unwrap_or_default();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                if std::mem::take(&mut failing) {
                    log::info!("connections are accepted again");
                }
                // On a listener for both families IPv4 clients come as ::ffff:a.b.c.d.
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                // Who comes while the listener is closing is still served, as it was before.
                if let Some(present) = gate.snapshot().listener(&address) {
                    rules = Arc::clone(present);
                }
                arrival::accept(&entrance, stream, client, Arc::clone(&rules));
            }
            // One connection that was reset while it waited costs nothing.
            Err(error) if of_one_connection(&error) => {}
            // What the host lacks (too many open files, say) would be lacking again at once: that
            // is reported once, and tried again with a pause.
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    log::error!("connections cannot be accepted: {error}; trying again until it works");
                }
                tokio::select! {
                    () = closing.cancelled() => break,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
    // Clients that still come are refused by the kernel, rather than left waiting in its queue.
    drop(listener);
    connections.close();
    tokio::select! {
        () = stop.cancelled() => {}
        () = connections.wait() => return,
    }
    if tokio::time::timeout(gate.limits().drain_timeout, connections.wait()).await.is_err() {
        ends.cut.cancel();
        connections.wait().await;
    }
}

/// accept(2): errors of the new connection itself, to be treated like a lack of connections.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    ) || matches!(
        error.raw_os_error(),
        Some(
            libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::ENONET
                | libc::EOPNOTSUPP
        )
    )
}

#[cfg(test)]
mod tests;
