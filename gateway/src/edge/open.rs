//! The open sessions: what each is let in for, which can be renewed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::audit::HandshakeId;
use crate::auth::{Certificate, Identity};

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
    pub(super) certificate: Option<Arc<Certificate>>,
    identity: ArcSwap<Identity>,
    renewed: Notify,
}

impl Open {
    /// A session of `client`, which is let in as `identity`.
    pub(super) fn new(
        id: HandshakeId,
        client: SocketAddr,
        path: String,
        origin: Option<String>,
        certificate: Option<Arc<Certificate>>,
        identity: Identity,
    ) -> Self {
        let identity = ArcSwap::from_pointee(identity);
        Self { id, client, path, origin, certificate, identity, renewed: Notify::new() }
    }

    /// Who is let in, by the newest token.
    pub(super) fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// From now on it is let in as `identity`, who is the same.
    pub(super) fn renew(&self, identity: Identity) {
        self.identity.store(Arc::new(identity));
        self.renewed.notify_one();
    }

    /// Waits until it is renewed.
    pub(super) async fn renewed(&self) {
        self.renewed.notified().await;
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
