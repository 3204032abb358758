//! How a client hears that it is turned away: by an HTTP answer; by a Close frame, once its session is
//! open; or by a session that is opened for nothing else, because no page in a browser can see the
//! answer to a handshake.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::head::Head;
use super::opening::Opening;
use super::snapshot::{Route, Snapshot};
use crate::config::Browser;

/// How one client hears it; by an answer, as long as nothing else is said.
#[derive(Debug, Default)]
pub(super) struct Telling {
    open: AtomicBool,
    upgrade: OnceLock<Upgrade>,
}

/// What opens a session.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// `Sec-WebSocket-Key`
    pub(super) key: String,
    /// The subprotocol to select.
    pub(super) protocol: Option<String>,
}

/// How a client hears it.
pub(super) enum How<'a> {
    /// By an HTTP answer.
    Answer,
    /// By a Close frame: its session is open.
    Close,
    /// By a session that is opened for that, and closed.
    OpenAndClose(&'a Upgrade),
}

impl Telling {
    /// The session is open from now on.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// The client of `opening` is told in the way of `route`.
    pub(super) fn as_on(&self, route: &Route, opening: &Opening) {
        let by_close = match route.browser {
            Browser::Status => false,
            Browser::CloseCode => true,
            // Browsers always say it, and others hardly ever (RFC 6455 §4.1, item 8).
            Browser::Origin => opening.origin().is_some(),
        };
        if let (true, Some(upgrade)) = (by_close, upgrade(route, opening)) {
            // The first is as good as any later one: it is the same request.
            let _ = self.upgrade.set(upgrade);
        }
    }

    /// The client that asks by `head`, of at most `headers` headers, is told in the way of the route
    /// that it wants, where there is one.
    pub(super) fn as_asked(&self, head: Head, snapshot: &Snapshot, headers: usize) {
        if let Ok(opening) = Opening::judge(head, headers)
            && let Ok(route) = snapshot.route_of(&opening)
        {
            self.as_on(&route, &opening);
        }
    }

    /// How it is told.
    pub(super) fn how(&self) -> How<'_> {
        match self.upgrade.get() {
            _ if self.open.load(Ordering::Relaxed) => How::Close,
            Some(upgrade) => How::OpenAndClose(upgrade),
            None => How::Answer,
        }
    }
}

/// What opens a session for the client of `opening`. `None`: nothing that a browser would take for one:
/// of the subprotocols offered, one has to be selected (RFC 6455 §4.1), but none that is a token.
fn upgrade(route: &Route, opening: &Opening) -> Option<Upgrade> {
    let sources = &route.sources;
    let token = |name: &str| {
        sources.subprotocol_prefix.as_ref().is_some_and(|prefix| name.starts_with(prefix.as_str()))
    };
    let spoken = |name: &String| sources.subprotocols.as_ref().is_none_or(|known| known.contains(name));
    let protocol = opening.protocols().iter().find(|name| !token(name) && spoken(name));
    if protocol.is_none() && !opening.protocols().is_empty() {
        return None;
    }
    Some(Upgrade { key: opening.key().to_owned(), protocol: protocol.cloned() })
}
