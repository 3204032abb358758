//! What the running daemon knows more than its files say.

use std::time::SystemTime;

use super::{Query, Report, report};
use crate::auth::Token;
use crate::edge::Snapshot;
use crate::rejection::{Layer, Rejection};

/// The same as [`report`], after everybody was asked whom a handshake with the token of `query` would
/// have asked.
pub async fn live(snapshot: &Snapshot, query: &Query, now: impl Fn() -> SystemTime) -> Report {
    let outage = asked(snapshot, query, &now).await;
    let mut report = Report { live: true, ..report(snapshot, query, now()) };
    let verdict = report.rejection.as_ref();
    // By what is known here the token is wrong, and by what could not be asked it may be good.
    if let Some(outage) =
        outage.filter(|_| verdict.is_some_and(|said| said.layer == Layer::Credentials.name()))
    {
        report.rejection = None;
        report.reject(&outage);
    }
    report
}

/// The outage of ours that keeps the token of `query` from being judged, if there is one.
async fn asked(snapshot: &Snapshot, query: &Query, now: &impl Fn() -> SystemTime) -> Option<Box<Rejection>> {
    let token = Token::parse(query.token.as_ref()?.as_bytes()).ok()?;
    let requirement = match &query.path {
        None => snapshot.any_route(),
        Some(path) => {
            snapshot.route(path.split('?').next()?, query.origin.as_deref()).ok()?.requirement.clone()
        }
    };
    let outcome = requirement.authenticate(&token, now).await;
    outcome.err().filter(|rejection| rejection.reason.layer() == Layer::AuthSystem)
}
