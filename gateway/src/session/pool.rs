//! The upstreams of the routes: how many sessions each carries, and whether it can be reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::tls::{self, TlsError};
use crate::config;

/// One upstream. Snapshots that follow each other share it, and so do routes that lead to it.
#[derive(Debug)]
pub struct Node {
    /// Where it is.
    pub upstream: config::Upstream,
    sessions: AtomicUsize,
    down: AtomicBool,
    tls: OnceCell<Arc<ClientConfig>>,
}

impl Node {
    /// Nothing is known of it: it is taken to be up.
    pub fn new(upstream: config::Upstream) -> Self {
        Self { upstream, sessions: AtomicUsize::new(0), down: AtomicBool::new(false), tls: OnceCell::new() }
    }

    /// Whether the last attempt to connect to it failed.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// The sessions that it carries.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Notes how an attempt to connect to it went; a change is said once.
    pub fn note(&self, reached: Result<(), &dyn std::fmt::Display>) {
        let was_down = self.down.swap(reached.is_err(), Ordering::Relaxed);
        match reached {
            Ok(()) if was_down => log::info!("the upstream {} is reachable again", self.upstream),
            Err(error) if !was_down => {
                log::error!("the upstream {} is not reachable: {error}", self.upstream)
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// What speaks TLS to it; made at the first use.
    pub(super) async fn connector(&self, tls: &config::UpstreamTls) -> Result<TlsConnector, TlsError> {
        let make = || async { tls::client(tls.ca.as_deref()) };
        Ok(TlsConnector::from(Arc::clone(self.tls.get_or_try_init(make).await?)))
    }

    /// Counts a session until the seat is dropped.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Seat(Arc::clone(self))
    }
}

/// The place of a session at its upstream.
#[derive(Debug)]
pub struct Seat(Arc<Node>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The order in which `nodes` are tried: those that are up first, and among them the one with the
/// fewest sessions; of equals the first in the configuration.
pub(super) fn order(nodes: &[Arc<Node>]) -> Vec<&Arc<Node>> {
    let mut order: Vec<_> = nodes.iter().collect();
    // Counts may change meanwhile: each is looked at once.
    order.sort_by_cached_key(|node| (node.is_down(), node.sessions()));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Place, Upstream};

    fn node(port: u16) -> Arc<Node> {
        let place = Place::Tcp { host: "127.0.0.1".to_owned(), port };
        Arc::new(Node::new(Upstream { place, tls: None, path: None }))
    }

    #[test]
    fn the_upstream_with_the_fewest_sessions_is_tried_first_and_one_that_is_down_last() {
        let nodes = [node(1), node(2), node(3)];
        let ports =
            || -> Vec<String> { order(&nodes).iter().map(|node| node.upstream.to_string()).collect() };
        assert_eq!(ports(), ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        let _one = nodes[0].seat();
        let two = (nodes[1].seat(), nodes[1].seat());
        assert_eq!(ports(), ["127.0.0.1:3", "127.0.0.1:1", "127.0.0.1:2"]);
        nodes[2].note(Err(&"refused"));
        drop(two);
        assert_eq!(ports(), ["127.0.0.1:2", "127.0.0.1:1", "127.0.0.1:3"]);
        nodes[2].note(Ok(()));
        assert!(!nodes[2].is_down());
    }
}
