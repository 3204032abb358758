//! Listening sockets that are given to the daemon (sd_listen_fds(3)): they outlive it, and connections
//! that come while no daemon runs wait in them for the next one.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use super::daemon::StartError;

/// The sockets that were given.
#[derive(Debug)]
pub(super) struct Given {
    bound: Vec<(SocketAddr, TcpListener)>,
    taken: HashSet<SocketAddr>,
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
        Self { bound: given, taken: HashSet::new(), unusable }
    }

    /// The one that is bound to `address`, if it was given. It can be had again: whoever has given it holds
    /// it, so that nobody could bind another one.
    pub(super) fn take(
        &mut self,
        address: SocketAddr,
    ) -> Result<Option<tokio::net::TcpListener>, StartError> {
        let Some((_, listener)) = self.bound.iter().find(|(own, _)| *own == address) else {
            return Ok(None);
        };
        self.taken.insert(address);
        let ready = listener.set_nonblocking(true).and_then(|()| listener.try_clone());
        let ready = ready.and_then(tokio::net::TcpListener::from_std);
        ready.map(Some).map_err(|source| StartError::Bind { address, source })
    }

    /// Says which ones nobody has taken: clients would wait there for ever.
    pub(super) fn complain(&self) {
        self.unusable.iter().for_each(|fault| log::warn!("{fault}"));
        for (address, _) in self.bound.iter().filter(|(address, _)| !self.taken.contains(address)) {
            log::warn!("a socket on {address} was given, but no [[listen]] has this address");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_given_socket_can_be_had_again_when_its_listener_has_come_and_gone() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("bound");
        let mut given = Given { bound: vec![(address, socket)], taken: HashSet::new(), unusable: Vec::new() };
        for _ in 0..2 {
            let listener = given.take(address).expect("usable").expect("given");
            let client = tokio::net::TcpStream::connect(address).await.expect("somebody listens");
            let (_, from) = listener.accept().await.expect("it comes here");
            assert_eq!(from, client.local_addr().expect("connected"));
        }
        assert!(given.take("127.0.0.1:1".parse().expect("an address")).expect("fine").is_none());
    }
}
