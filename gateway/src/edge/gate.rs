//! What all connections share.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::endpoints::Tickets;
use super::open::Sessions;
use super::snapshot::{Route, Snapshot};
use crate::admin::sessions::{SessionFilter, SessionList};
use crate::audit::{AuditSink, Entry, HandshakeId};
use crate::config::Limits;
use crate::metrics::Times;
use crate::session::life::Terms;
use crate::session::limits::{Counts, Taken};
use crate::session::traffic::Traffic;

/// Connections at once that are told that there is no place for them. Beyond that they are closed
/// without an answer: being full must not cost more than being busy.
const OVERFLOW: usize = 256;
/// The same for connections that need a handshake of TLS for it, which costs a thousand times more.
const COSTLY_OVERFLOW: usize = 8;

/// Where time and randomness come from.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// The time of day.
    pub now: fn() -> SystemTime,
    /// Random bytes: they name a handshake, mask a farewell and spread the ends of sessions.
    pub random: fn() -> [u8; 10],
}

/// What all connections share: the snapshot in force, the limits, the audit trail.
pub struct Gate {
    snapshot: ArcSwap<Snapshot>,
    /// Tells open sessions that there is another snapshot.
    swaps: watch::Sender<()>,
    limits: ArcSwap<Limits>,
    counts: Arc<Counts>,
    overflow: Arc<Semaphore>,
    costly_overflow: Arc<Semaphore>,
    tickets: Tickets,
    open: Sessions,
    traffic: Traffic,
    audit: Arc<dyn AuditSink>,
    times: Times,
    sources: Sources,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate that starts with `snapshot`.
    pub fn new(snapshot: Snapshot, limits: Limits, audit: Arc<dyn AuditSink>, sources: Sources) -> Self {
        let counts = Arc::new(Counts::new(&limits));
        let tickets = Tickets::new(&limits);
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            swaps: watch::Sender::new(()),
            limits: ArcSwap::from_pointee(limits),
            counts,
            overflow: Arc::new(Semaphore::new(OVERFLOW)),
            costly_overflow: Arc::new(Semaphore::new(COSTLY_OVERFLOW)),
            tickets,
            open: Sessions::default(),
            traffic: Traffic::default(),
            audit,
            times: Times::default(),
            sources,
        }
    }

    /// How long handshakes took.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// Judges all handshakes from now on by `snapshot`, and every open session once more.
    pub fn swap(&self, mut snapshot: Snapshot) {
        snapshot.inherit(&self.snapshot.load());
        self.snapshot.store(Arc::new(snapshot));
        self.swaps.send_replace(());
    }

    /// Judges every open session once more: something has changed that the snapshot only refers to.
    pub fn judge_again(&self) {
        self.swaps.send_replace(());
    }

    /// Tells of every snapshot from now on.
    pub(super) fn swaps(&self) -> watch::Receiver<()> {
        self.swaps.subscribe()
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The limits in force.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// How long a session may live whose token is accepted until this second since 1970, and the
    /// certificate of whose client is valid until this one.
    pub(super) fn terms(&self, accepted_until: u64, certificate_until: Option<u64>) -> Terms {
        let limits = self.limits.load();
        Terms {
            accepted_until,
            certificate_until,
            lifetime: limits.session_lifetime,
            idle: limits.idle_timeout,
        }
    }

    /// Holds everybody to `limits` from now on. What is open counts as before, and stays.
    pub fn limit(&self, limits: Limits) {
        self.counts.follow(&limits);
        self.tickets.follow(&limits);
        self.limits.store(Arc::new(limits));
        // Sessions can have become too old or too quiet.
        self.judge_again();
    }

    /// Connections, those to upstreams included, may be so many files of the host from now on.
    pub fn bound_files(&self, most: usize) {
        self.counts.bound_files(most);
    }

    /// The sessions that there can be at once.
    pub fn most_sessions(&self) -> usize {
        self.counts.most_sessions()
    }

    /// Admitted sessions that are open.
    pub fn sessions(&self) -> usize {
        self.counts.sessions()
    }

    /// How much is taken of the limits that a client meets, see [`Counts::look`].
    pub fn taken(
        &self,
        address: Option<IpAddr>,
        subject: Option<(&str, &str)>,
        route: Option<&Route>,
    ) -> Vec<Taken> {
        self.counts.look(address, subject, route.map(|route| (route.path.as_str(), &route.limits)))
    }

    /// The open sessions that `filter` keeps.
    pub fn list_sessions(&self, filter: &SessionFilter) -> SessionList {
        self.open.look(filter)
    }

    /// Closes the session `id`; whether there is one.
    pub fn close_session(&self, id: HandshakeId) -> bool {
        self.open.close(id)
    }

    /// The addresses with open sessions, of IPv6 the first of each /64.
    pub fn clients(&self) -> Vec<IpAddr> {
        self.counts.clients()
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    pub(super) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// What clients may send.
    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The open sessions.
    pub(super) fn sessions_open(&self) -> &Sessions {
        &self.open
    }

    pub(super) fn now(&self) -> SystemTime {
        (self.sources.now)()
    }

    pub(super) fn id(&self) -> HandshakeId {
        HandshakeId::new((self.sources.random)())
    }

    pub(super) fn random(&self) -> [u8; 10] {
        (self.sources.random)()
    }

    pub(super) fn record(&self, entry: Entry) {
        self.audit.record(entry);
    }

    /// Leave to answer one connection that has no place.
    pub(super) fn overflow(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.overflow).try_acquire_owned().ok()
    }

    /// The same for one whose answer needs a handshake of TLS.
    pub(super) fn costly_overflow(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.costly_overflow).try_acquire_owned().ok()
    }
}
