//! The open sessions: what each is let in for, which can be renewed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::tls::Vouched;
use crate::admin::sessions::{SessionFilter, SessionList, SessionStatus};
use crate::audit::HandshakeId;
use crate::auth::Identity;
use crate::auth::revocation::seconds;
use crate::session::relay::Moved;

/// One open session.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: HandshakeId,
    pub(super) client: SocketAddr,
    /// The path of its route.
    pub(super) path: String,
    /// The `Origin` of its page.
    pub(super) origin: Option<String>,
    /// What its client showed in the handshake of TLS.
    pub(super) certificate: Option<Arc<Vouched>>,
    /// When it was let in.
    pub(super) since: SystemTime,
    /// What it has moved.
    pub(super) moved: Moved,
    identity: ArcSwap<Identity>,
    closed: AtomicBool,
}

impl Open {
    /// A session of `client`, which is let in as `identity`.
    pub(super) fn new(
        id: HandshakeId,
        client: SocketAddr,
        path: String,
        origin: Option<String>,
        certificate: Option<Arc<Vouched>>,
        identity: Identity,
        since: SystemTime,
    ) -> Self {
        Self {
            id,
            client,
            path,
            origin,
            certificate,
            since,
            moved: Moved::default(),
            identity: ArcSwap::from_pointee(identity),
            closed: AtomicBool::new(false),
        }
    }

    /// Who is let in, by the newest token.
    pub(super) fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// From this second since 1970 on the certificate of its client is not valid; `None`: it showed none.
    pub(super) fn certificate_until(&self) -> Option<u64> {
        self.certificate.as_ref().map(|vouched| vouched.certificate.ended())
    }

    /// From now on it is let in as `identity`, who is the same.
    pub(super) fn renew(&self, identity: Identity) {
        self.identity.store(Arc::new(identity));
        self.moved.notice();
    }

    /// An operator closes it.
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.moved.notice();
    }

    /// Whether an operator has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn status(&self) -> SessionStatus {
        let identity = self.identity();
        let [bytes_up, bytes_down] = self.moved.bytes();
        SessionStatus {
            id: self.id.to_string(),
            client: self.client,
            route: self.path.clone(),
            origin: self.origin.clone(),
            subject: identity.subject.clone(),
            issuer: identity.issuer.clone(),
            since: seconds(self.since),
            expires: identity.expires,
            accepted_until: identity.accepted_until,
            certificate_until: self.certificate_until(),
            bytes_up,
            bytes_down,
        }
    }
}

/// All open sessions, by the names that their clients were told.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<HandshakeId, Arc<Open>>>);

/// Keeps a session among the open ones until it is dropped.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    sessions: &'a Sessions,
    id: HandshakeId,
}

impl Sessions {
    /// Lists `open`.
    pub(super) fn list(&self, open: &Arc<Open>) -> Listed<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(open.id, Arc::clone(open));
        Listed { sessions: self, id: open.id }
    }

    /// Those that `filter` keeps, the newest first, and how many there are of them.
    pub(super) fn look(&self, filter: &SessionFilter) -> SessionList {
        // Shared, and looked at after the lock is free: nobody's handshake waits for it.
        let all: Vec<Arc<Open>> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        let mut sessions: Vec<SessionStatus> =
            all.iter().map(|open| open.status()).filter(|session| filter.keeps(session)).collect();
        sessions.sort_by(|one, other| other.since.cmp(&one.since).then_with(|| one.id.cmp(&other.id)));
        let count = sessions.len();
        sessions.truncate(filter.limit.unwrap_or(SessionFilter::MOST).min(SessionFilter::MOST));
        SessionList { open: all.len(), found: count, sessions }
    }

    /// Lets an operator close the session with this name; whether there is one.
    pub(super) fn close(&self, id: HandshakeId) -> bool {
        self.find(id).inspect(|open| open.close()).is_some()
    }

    /// The open session with this name.
    pub(super) fn find(&self, id: HandshakeId) -> Option<Arc<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).map(Arc::clone)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
