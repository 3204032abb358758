//! Where clients connect: the listening sockets, which come and go with the configuration.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::daemon::StartError;
use super::given::Given;
use crate::config::Config;
use crate::edge::{self, Gate};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// The listeners that are open.
#[derive(Debug)]
pub(super) struct Listeners {
    given: Given,
    /// What ends each of them.
    open: HashMap<SocketAddr, CancellationToken>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Sockets on which clients can connect already, but nobody accepts them yet.
#[derive(Debug)]
pub(super) struct Bound(Vec<(SocketAddr, TcpListener)>);

impl Listeners {
    /// None yet. Those of `given` are taken for the addresses that they are bound to. Each is a task of
    /// `tasks` until `stop`.
    pub(super) fn new(given: Given, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        Self { given, open: HashMap::new(), tasks: tasks.clone(), stop: stop.clone() }
    }

    /// Sockets for the addresses of `config` that are not open yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When one cannot be had; then there are none, and those that are open stay.
    pub(super) fn bind(&mut self, config: &Config) -> Result<Bound, StartError> {
        let new = config.listen.iter().map(|listen| listen.address);
        let new: Vec<SocketAddr> = new.filter(|address| !self.open.contains_key(address)).collect();
        let mut bound = Vec::with_capacity(new.len());
        for address in new {
            let listener = match self.given.take(address)? {
                Some(given) => given,
                None => bind(address)?,
            };
            bound.push((address, listener));
        }
        Ok(Bound(bound))
    }

    /// Says which sockets were given and are not used.
    pub(super) fn complain(&self) {
        self.given.complain();
    }

    /// Accepts nobody any more on addresses that are not in `config`. Sessions that came there stay.
    pub(super) fn close_others(&mut self, config: &Config) {
        self.open.retain(|address, closing| {
            let stays = config.listen.iter().any(|listen| listen.address == *address);
            if !stays {
                closing.cancel();
                log::info!("nobody is accepted on {address} any more; sessions stay");
            }
            stays
        });
    }

    /// Accepts clients on `bound`, which the snapshot of `gate` knows.
    pub(super) fn open(&mut self, Bound(bound): Bound, gate: &Arc<Gate>) {
        for (address, listener) in bound {
            let closing = self.stop.child_token();
            self.open.insert(address, closing.clone());
            self.tasks.spawn(edge::serve(listener, address, Arc::clone(gate), closing, self.stop.clone()));
        }
    }
}

/// A socket on which clients can connect to `address`.
pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    listen(address).map_err(|source| StartError::Bind { address, source })
}

/// The same, with the bare error.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
