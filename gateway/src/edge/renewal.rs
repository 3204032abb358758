//! A session goes on with a fresh token of the same subject.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::gate::Gate;
use super::open::Open;
use super::snapshot::Route;
use crate::audit::Entry;
use crate::auth::Token;
use crate::rejection::{Reason, Rejection};

/// The route of `open` now, which lets its sessions be renewed.
///
/// # Errors
///
/// `handshake/no_session`, or why the session is about to end.
pub(super) fn route(gate: &Gate, open: &Open) -> Result<Arc<Route>, Box<Rejection>> {
    let route = gate.snapshot().route(&open.path, open.origin.as_deref())?;
    if route.renewal {
        return Ok(route);
    }
    let rejection = Rejection::new(Reason::HandshakeNoSession);
    Err(Box::new(rejection.detail("Sessions on this route cannot be renewed.")))
}

/// Lets `open` go on with `token`, which a new handshake on its route would be admitted with; the
/// seconds that it is good for.
///
/// # Errors
///
/// Why it would not be, or `credentials/other_subject`. The session goes on as it was.
pub(super) async fn renew(
    gate: &Gate,
    open: &Open,
    route: &Route,
    token: &Token,
) -> Result<u64, Box<Rejection>> {
    let identity = route.requirement.authenticate(token, || gate.now()).await?;
    let before = open.identity();
    if (&identity.issuer, &identity.subject) != (&before.issuer, &before.subject) {
        let mut rejection = Rejection::new(Reason::CredentialsOtherSubject)
            .note(format!("the session {} is one of {:?} of {}", open.id, before.subject, before.issuer));
        (rejection.issuer, rejection.subject) = (Some(identity.issuer), Some(identity.subject));
        return Err(Box::new(rejection));
    }
    let now = gate.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let left = identity.expires.saturating_sub(now);
    gate.record(Entry::Renewed {
        id: open.id,
        client: open.client,
        route: open.path.clone(),
        subject: identity.subject.clone(),
        issuer: identity.issuer.clone(),
        expires: identity.expires,
    });
    open.renew(identity);
    Ok(left)
}

/// Records that the client of `open` was refused to renew it by a message.
pub(super) fn record_refusal(gate: &Gate, open: &Open, rejection: &Rejection) {
    let (route, rejection) = (Some(open.path.clone()), Box::new(rejection.clone()));
    gate.record(Entry::Rejected { id: open.id, client: open.client, route, rejection });
}
