//! What ends an open session by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::admin::sessions::SessionStatus;
use crate::audit::query::rfc3339;
use crate::config::Limits;
use crate::rejection::Reason;

/// One thing that ends a session.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct End {
    /// The layer and the reason, as `expiry/session_expired`.
    pub by: String,
    /// When, in seconds since 1970; `None` where that is up to the session.
    pub at: Option<u64>,
    /// After so many seconds without a byte either way.
    pub quiet_s: Option<u64>,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.by)?;
        if let Some(at) = self.at {
            write!(f, " at {}", rfc3339(at))?;
        }
        if let Some(quiet) = self.quiet_s {
            write!(f, " after {quiet} s without a byte")?;
        }
        Ok(())
    }
}

/// What ends `session` under `limits`, the earliest first, unless its token is renewed or revoked, or its
/// client is turned away by a list that changes.
pub fn ends(session: &SessionStatus, limits: &Limits) -> Vec<End> {
    let at = |reason: Reason, at| End { by: reason.to_string(), at: Some(at), quiet_s: None };
    let mut all = vec![at(Reason::ExpirySessionExpired, session.accepted_until)];
    if let Some(until) = session.certificate_until {
        all.push(at(Reason::CredentialsCertificate, until));
    }
    if let Some(lifetime) = limits.session_lifetime {
        all.push(at(Reason::LimitSessionLifetime, session.since.saturating_add(lifetime.as_secs())));
    }
    all.sort_by_key(|end| end.at);
    if let Some(idle) = limits.idle_timeout {
        let by = Reason::LimitSessionIdle.to_string();
        all.push(End { by, at: None, quiet_s: Some(idle.as_secs()) });
    }
    all
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    pub(in super::super) fn session() -> SessionStatus {
        SessionStatus {
            id: "8f14e45fceea167a5a36".to_owned(),
            client: ([192, 0, 2, 9], 40_000).into(),
            route: "/chat".to_owned(),
            origin: None,
            subject: "alice".to_owned(),
            issuer: "main".to_owned(),
            since: 1_000,
            expires: 5_000,
            accepted_until: 5_030,
            certificate_until: None,
            bytes_up: 0,
            bytes_down: 0,
        }
    }

    #[test]
    fn what_ends_a_session_is_told_with_its_time_and_the_earliest_first() {
        let certificate_until = Some(4_000);
        let session = SessionStatus { certificate_until, ..session() };
        let told = |limits: &Limits| ends(&session, limits).iter().map(End::to_string).collect::<Vec<_>>();
        let none = Limits { session_lifetime: None, idle_timeout: None, ..Limits::default() };
        let expiry = "expiry/session_expired at 1970-01-01T01:23:50Z";
        let certificate = "credentials/certificate at 1970-01-01T01:06:40Z";
        assert_eq!(told(&none), [certificate, expiry]);
        let both = Limits {
            session_lifetime: Some(Duration::from_secs(60)),
            idle_timeout: Some(Duration::from_secs(600)),
            ..none
        };
        assert_eq!(
            told(&both),
            [
                "limit/session_lifetime at 1970-01-01T00:17:40Z",
                certificate,
                expiry,
                "limit/session_idle after 600 s without a byte"
            ]
        );
    }
}
