//! What the running daemon knows more than its files say.

use std::time::SystemTime;

use super::{Query, Report, Step, report};
use crate::auth::{Identity, Requirement, Token};
use crate::edge::Snapshot;
use crate::rejection::{Layer, Rejection};

/// The name of the check that an issuer makes which is asked about good JWTs, too.
const CONFIRMATION: &str = "confirmation";

/// The same as [`report`], after everybody was asked whom a handshake with the token of `query` would
/// have asked.
pub async fn live(snapshot: &Snapshot, query: &Query, now: impl Fn() -> SystemTime) -> Report {
    let outcome = match judged(snapshot, query, &now).await {
        Some((true, outcome)) => return introspected(snapshot, query, now(), outcome),
        Some((false, outcome)) => Some(outcome),
        None => None,
    };
    let mut report = Report { live: true, ..report(snapshot, query, now()) };
    if confirmed(&mut report, outcome.as_ref()) {
        return report;
    }
    let outage = outcome.and_then(Result::err).filter(|said| said.reason.layer() == Layer::AuthSystem);
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

/// Says that `identity`, good by the keys of its issuer, depends on what that says, where it is asked.
pub(super) fn confirmation(report: &mut Report, requirement: &Requirement, identity: &Identity) {
    let issuer = requirement.issuers.iter().find(|issuer| issuer.name() == identity.issuer);
    if issuer.is_some_and(|issuer| issuer.confirms()) {
        let text = format!(
            "the daemon asks the issuer `{}` as well, which may have revoked the token: that was not asked",
            identity.issuer
        );
        report.step(Layer::Credentials, None, text);
        if let Some(step) = report.steps.last_mut() {
            step.check = Some(CONFIRMATION.to_owned());
        }
    }
}

/// Puts what came of asking in place of the step that says that nobody was asked, if it is there.
fn confirmed(report: &mut Report, outcome: Option<&Result<Identity, Box<Rejection>>>) -> bool {
    let is_open = |check: &Option<String>| check.as_deref() == Some(CONFIRMATION);
    let (Some(outcome), Some(last)) = (outcome, report.steps.pop_if(|step| is_open(&step.check))) else {
        return false;
    };
    match outcome {
        Ok(identity) => {
            let text = format!("the issuer `{}` says that the token is active", identity.issuer);
            report.steps.push(Step { text, passed: Some(true), ..last });
        }
        Err(rejection) => {
            report.reject(rejection);
            if let Some(step) = report.steps.last_mut() {
                step.check = last.check;
            }
        }
    }
    true
}

/// The same where an issuer said what is known about the token.
fn introspected(
    snapshot: &Snapshot,
    query: &Query,
    now: SystemTime,
    outcome: Result<Identity, Box<Rejection>>,
) -> Report {
    let without = Query { token: None, ..query.clone() };
    let mut report = Report { live: true, ..report(snapshot, &without, now) };
    report.steps.retain(|step| step.layer != Layer::Credentials.name());
    match outcome {
        Ok(Identity { issuer, subject, scopes, .. }) => {
            let text = format!("the issuer `{issuer}` says that the token is good, for {subject:?}");
            report.step(Layer::Credentials, Some(true), text);
            let text = format!("the scopes and claims suffice: {:?}", scopes.join(" "));
            report.step(Layer::Scope, Some(true), text);
        }
        Err(rejection) => report.reject(&rejection),
    }
    report
}

/// What a handshake with the token of `query` would come to, and whether an issuer is asked about it.
async fn judged(
    snapshot: &Snapshot,
    query: &Query,
    now: &impl Fn() -> SystemTime,
) -> Option<(bool, Result<Identity, Box<Rejection>>)> {
    let token = Token::parse(query.token.as_ref()?.as_bytes()).ok()?;
    let requirement = match &query.path {
        None => snapshot.any_route(),
        // Whatever the page: it was judged before, and the token is judged all the same.
        Some(path) => snapshot.route(path.split('?').next()?, None).ok()?.requirement.clone(),
    };
    let introspects = requirement.introspects(&token);
    Some((introspects, requirement.authenticate(&token, now).await))
}
