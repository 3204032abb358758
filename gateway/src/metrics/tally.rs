//! Counts of what stands in the audit trail, and durations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::busiest::{Busiest, Busy};
use super::histogram::{Histogram, Latency};
use crate::audit::{AuditSink, Entry, Point};
use crate::rejection::Reason;

/// What became of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has a session.
    Admitted,
    /// It was turned away.
    Rejected,
}

/// How long handshakes took.
#[derive(Debug, Default)]
pub struct Times {
    admitted: Histogram,
    rejected: Histogram,
    dialled: Histogram,
}

impl Times {
    /// A handshake was decided so long after its connection was accepted; of one over TLS or from a
    /// proxy, after that was settled.
    pub fn decided(&self, outcome: Outcome, after: Duration) {
        match outcome {
            Outcome::Admitted => self.admitted.observe(after),
            Outcome::Rejected => self.rejected.observe(after),
        }
    }

    /// An upstream accepted a session so long after it was asked.
    pub fn dialled(&self, after: Duration) {
        self.dialled.observe(after);
    }

    /// Of handshakes with this outcome.
    pub fn handshakes(&self, outcome: Outcome) -> Latency {
        match outcome {
            Outcome::Admitted => self.admitted.read(),
            Outcome::Rejected => self.rejected.read(),
        }
    }

    /// Of upstreams that accepted a session.
    pub fn dials(&self) -> Latency {
        self.dialled.read()
    }
}

/// Where [`Tally`] has a reason.
pub(super) const fn index(reason: Reason) -> usize {
    reason as usize
}

const REASONS: usize = Reason::ALL.len();

#[derive(Debug, Default)]
struct Route {
    admitted: AtomicU64,
    open: AtomicI64,
}

/// Counts since the start of the daemon.
#[derive(Debug)]
pub struct Tally {
    /// Handshakes at the gateway, by reason. The card counts for itself.
    rejected: [AtomicU64; REASONS],
    /// Sessions that the gate ended, by reason.
    cut: [AtomicU64; REASONS],
    /// Sessions that ended otherwise.
    left: AtomicU64,
    renewed: AtomicU64,
    bytes: [AtomicU64; 2],
    messages: [AtomicU64; 2],
    /// By path of the route. There are no more than the configuration had since the start.
    routes: ArcSwap<BTreeMap<String, Arc<Route>>>,
    busiest: Busiest,
}

impl Default for Tally {
    fn default() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            rejected: zeros(),
            cut: zeros(),
            left: AtomicU64::new(0),
            renewed: AtomicU64::new(0),
            bytes: Default::default(),
            messages: Default::default(),
            routes: ArcSwap::default(),
            busiest: Busiest::default(),
        }
    }
}

/// How often clients were turned away for one reason at one point.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RejectionCount {
    /// The layer.
    pub layer: String,
    /// The reason.
    pub reason: String,
    /// `gateway`, where handshakes count, or `nic`, where packets do.
    pub point: String,
    /// How often, since the start of the daemon.
    pub count: u64,
}

/// What happened on one route.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RouteCount {
    /// Its path.
    pub route: String,
    /// Sessions admitted since the start of the daemon.
    pub admitted: u64,
    /// Sessions that are open.
    pub open: u64,
}

impl Tally {
    /// Counts `entry`.
    pub fn add(&self, entry: &Entry) {
        match entry {
            Entry::Rejected { client, rejection, .. } => {
                self.rejected[index(rejection.reason)].fetch_add(1, Ordering::Relaxed);
                self.busiest.add(client.ip(), rejection.reason, 1);
            }
            Entry::Dropped(dropped) => {
                let reason = dropped.rule.reason().unwrap_or(Reason::FirewallDeniedRange);
                self.busiest.add(dropped.client, reason, dropped.packets);
            }
            Entry::Admitted { route, .. } => {
                let route = self.route(route);
                route.admitted.fetch_add(1, Ordering::Relaxed);
                route.open.fetch_add(1, Ordering::Relaxed);
            }
            Entry::Ended { route, rejection, bytes_up, bytes_down, messages_up, messages_down, .. } => {
                self.route(route).open.fetch_sub(1, Ordering::Relaxed);
                let ended = match rejection {
                    Some(rejection) => &self.cut[index(rejection.reason)],
                    None => &self.left,
                };
                ended.fetch_add(1, Ordering::Relaxed);
                for (sum, more) in self.bytes.iter().zip([bytes_up, bytes_down]) {
                    sum.fetch_add(*more, Ordering::Relaxed);
                }
                for (sum, more) in self.messages.iter().zip([messages_up, messages_down]) {
                    sum.fetch_add(*more, Ordering::Relaxed);
                }
            }
            Entry::Renewed { .. } => {
                self.renewed.fetch_add(1, Ordering::Relaxed);
            }
            Entry::ObservedAtCard(_) | Entry::ObservedAtGateway { .. } | Entry::DroppedUnreported { .. } => {}
        }
    }

    fn route(&self, path: &str) -> Arc<Route> {
        if let Some(route) = self.routes.load().get(path) {
            return Arc::clone(route);
        }
        self.routes.rcu(|routes| {
            let mut routes = BTreeMap::clone(routes);
            routes.entry(path.to_owned()).or_default();
            routes
        });
        self.routes.load().get(path).map(Arc::clone).unwrap_or_default()
    }

    /// How often handshakes were turned away at the gateway, for every reason.
    pub fn rejections(&self) -> Vec<RejectionCount> {
        let count = |(reason, count): (&Reason, &AtomicU64)| RejectionCount {
            layer: reason.layer().name().to_owned(),
            reason: reason.name().to_owned(),
            point: Point::Gateway.name().to_owned(),
            count: count.load(Ordering::Relaxed),
        };
        Reason::ALL.iter().zip(&self.rejected).map(count).collect()
    }

    /// The sessions that ended, by cause: the layer and reason of the gate, or `None` for those that
    /// one of their ends closed.
    pub fn ends(&self) -> Vec<(Option<Reason>, u64)> {
        let cut = Reason::ALL.iter().zip(&self.cut);
        let cut = cut.map(|(reason, count)| (Some(*reason), count.load(Ordering::Relaxed)));
        std::iter::once((None, self.left.load(Ordering::Relaxed))).chain(cut).collect()
    }

    /// The routes that have had a session.
    pub fn routes(&self) -> Vec<RouteCount> {
        let routes = self.routes.load();
        let count = |(path, route): (&String, &Arc<Route>)| RouteCount {
            route: path.clone(),
            admitted: route.admitted.load(Ordering::Relaxed),
            open: u64::try_from(route.open.load(Ordering::Relaxed)).unwrap_or(0),
        };
        routes.iter().map(count).collect()
    }

    /// Sessions that went on with a fresh token.
    pub fn renewed(&self) -> u64 {
        self.renewed.load(Ordering::Relaxed)
    }

    /// Bytes of sessions that have ended, from clients and to them.
    pub fn bytes(&self) -> [u64; 2] {
        [self.bytes[0].load(Ordering::Relaxed), self.bytes[1].load(Ordering::Relaxed)]
    }

    /// Messages of sessions that have ended, from clients and to them.
    pub fn messages(&self) -> [u64; 2] {
        [self.messages[0].load(Ordering::Relaxed), self.messages[1].load(Ordering::Relaxed)]
    }

    /// The clients that were turned away most.
    pub fn busiest(&self) -> Vec<Busy> {
        self.busiest.read()
    }
}

/// Counts what it passes on.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    sink: S,
    tally: Arc<Tally>,
}

impl<S> Counted<S> {
    /// Counts in `tally`, and passes on to `sink`.
    pub fn new(sink: S, tally: Arc<Tally>) -> Self {
        Self { sink, tally }
    }
}

impl<S: AuditSink> AuditSink for Counted<S> {
    fn record(&self, entry: Entry) {
        self.tally.add(&entry);
        self.sink.record(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::HandshakeId;
    use crate::rejection::Rejection;

    struct Full;

    impl AuditSink for Full {
        fn record(&self, _: Entry) {}
    }

    #[test]
    fn what_the_trail_loses_is_counted_all_the_same() {
        let tally = Arc::new(Tally::default());
        let sink = Counted::new(Full, Arc::clone(&tally));
        for _ in 0..7 {
            sink.record(Entry::Rejected {
                id: HandshakeId::new([0; 10]),
                client: "192.0.2.1:9".parse().expect("an address"),
                route: None,
                rejection: Box::new(Rejection::new(Reason::ExpiryExpired)),
            });
        }
        let counted: Vec<_> = tally.rejections().into_iter().filter(|row| row.count > 0).collect();
        let row = RejectionCount {
            layer: "expiry".to_owned(),
            reason: "expired".to_owned(),
            point: "gateway".to_owned(),
            count: 7,
        };
        assert_eq!(counted, [row]);
        assert_eq!(tally.busiest()[0].count, 7);
    }
}
