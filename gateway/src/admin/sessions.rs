//! The open sessions: the answer to `gatehouse sessions`.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Which sessions are asked for; what is `None` does not matter.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct SessionFilter {
    /// Of clients in this network.
    pub client: Option<IpNet>,
    /// Of this subject.
    pub subject: Option<String>,
    /// On this route.
    pub route: Option<String>,
    /// With this identifier.
    pub id: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

impl SessionFilter {
    /// Sessions that are told at most.
    pub const MOST: usize = 1000;

    /// Whether `session` is asked for.
    pub fn keeps(&self, session: &SessionStatus) -> bool {
        self.client.is_none_or(|net| net.contains(&session.client.ip()))
            && self.subject.as_ref().is_none_or(|subject| *subject == session.subject)
            && self.route.as_ref().is_none_or(|route| *route == session.route)
            && self.id.as_ref().is_none_or(|id| *id == session.id)
    }
}

/// The sessions that were asked for. The JSON form of `gatehouse sessions --json`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct SessionList {
    /// All that are open.
    pub open: usize,
    /// Those that were asked for.
    pub found: usize,
    /// These, the newest first, as far as there is room.
    pub sessions: Vec<SessionStatus>,
}

/// One open session. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SessionStatus {
    /// Its identifier, which its client was told.
    pub id: String,
    /// Its client.
    pub client: SocketAddr,
    /// The path of its route.
    pub route: String,
    /// The `Origin` of its page.
    pub origin: Option<String>,
    /// The subject of its token.
    pub subject: String,
    /// The configured name of the token's issuer.
    pub issuer: String,
    /// When it was admitted.
    pub since: u64,
    /// When its token expires.
    pub expires: u64,
    /// Until when the gate accepts the token: with the clock difference that is tolerated of its issuer.
    pub accepted_until: u64,
    /// When the certificate of its client ceases to be valid; `None`: it showed none.
    #[serde(default)]
    pub certificate_until: Option<u64>,
    /// Bytes from the client so far.
    pub bytes_up: u64,
    /// Bytes to the client so far.
    pub bytes_down: u64,
}
