//! Listening sockets that are given to the daemon (sd_listen_fds(3)): they outlive it, and connections
//! that come while no daemon runs wait in them for the next one.

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use super::daemon::StartError;

/// The sockets that were given.
#[derive(Debug)]
pub(super) struct Given {
    bound: Vec<(SocketAddr, TcpListener)>,
    unusable: Vec<String>,
}

impl Given {
    /// Those of `LISTEN_FDS`, which systemd sets for a service with a socket unit. What is no listening TCP
    /// socket is left alone.
    pub(super) fn from_environment() -> Self {
        let mut all = ListenFd::from_env();
        let (mut given, mut unusable) = (Vec::new(), Vec::new());
        for index in 0..all.len() {
            let listener = all.take_tcp_listener(index);
            let bound = listener.and_then(|listener| {
                listener.map(|listener| Ok((listener.local_addr()?, listener))).transpose()
            });
            match bound {
                Ok(bound) => given.extend(bound),
                Err(error) => {
                    unusable.push(format!("socket {index} of LISTEN_FDS cannot be listened on: {error}"));
                }
            }
        }
        Self { bound: given, unusable }
    }

    /// The one that is bound to `address`, if it was given.
    pub(super) fn take(
        &mut self,
        address: SocketAddr,
    ) -> Result<Option<tokio::net::TcpListener>, StartError> {
        let Some(index) = self.bound.iter().position(|(own, _)| *own == address) else {
            return Ok(None);
        };
        let (_, listener) = self.bound.swap_remove(index);
        let ready = listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener));
        ready.map(Some).map_err(|source| StartError::Bind { address, source })
    }

    /// Says which ones nobody has taken: clients would wait there for ever.
    pub(super) fn complain(&self) {
        self.unusable.iter().for_each(|fault| log::warn!("{fault}"));
        for (address, _) in &self.bound {
            log::warn!("a socket on {address} was given, but no [[listen]] has this address");
        }
    }
}
