//! Rejections: the registry of layers and reasons, and its renderings.

mod catalog;
pub mod close;
pub mod http;
mod manual;
mod message_id;
mod registry;

use std::time::Duration;

pub use catalog::catalog;
pub use manual::manual;
pub use message_id::message_id;
pub use registry::{Layer, Reason};

/// One client turned away: the reason from the registry and the circumstances.
///
/// `detail` is for the client and goes over the wire. `note` is for the operator and stays in the
/// journal: expected audiences, key ids, list files. Neither ever holds a token, a cookie or a
/// query string.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Why, from the registry.
    pub reason: Reason,
    /// What exactly was wrong, in words that the client may see.
    pub detail: Option<String>,
    /// What exactly was wrong, for the journal only.
    pub note: Option<String>,
    /// After how long a retry makes sense; becomes `Retry-After` in whole seconds.
    pub retry_after: Option<Duration>,
    /// Until when it holds, in seconds since 1970, where that is known: then a retry makes sense.
    pub until: Option<u64>,
    /// The scopes that the route needs, space-delimited, for the challenge (RFC 6750 §3).
    pub scope: Option<String>,
    /// Where to read who gives tokens for the route (RFC 9728 §5.1).
    pub resource_metadata: Option<String>,
    /// The origin of a page that may read the answer, which is not one to a handshake.
    pub page: Option<String>,
    /// How long ago the user may have signed in, for the challenge (RFC 9470 §3).
    pub max_age: Option<Duration>,
    /// The configured name of the issuer that the token claims, once it is known.
    pub issuer: Option<String>,
    /// Where the token stood, for the journal.
    pub source: Option<crate::auth::sources::Source>,
    /// The token's subject, only when its signature was verified.
    pub subject: Option<String>,
    /// The address rule that decided, for the layer `firewall`.
    pub rule: Option<crate::policy::MatchedRule>,
    /// The status of the upstream's own answer, for `upstream/refused`.
    pub upstream_status: Option<u16>,
}

impl Rejection {
    /// A rejection for `reason`, with no circumstances yet.
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            detail: None,
            note: None,
            retry_after: None,
            until: None,
            scope: None,
            max_age: None,
            resource_metadata: None,
            page: None,
            issuer: None,
            source: None,
            subject: None,
            rule: None,
            upstream_status: None,
        }
    }

    /// Adds what the client may know.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds what only the operator may know.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Says when a retry makes sense.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The HTTP status of the answer: the registry's, or the upstream's own for
    /// `upstream/refused`.
    pub fn status(&self) -> u16 {
        match (self.reason, self.upstream_status) {
            (Reason::UpstreamRefused, Some(status)) => status,
            _ => self.reason.status(),
        }
    }
}
