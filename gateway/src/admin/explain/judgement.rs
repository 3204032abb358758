//! How the token fares, check by check.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Report, TokenContents, live};
use crate::auth::{Contents, Explanation, Requirement, Step as Check, Token, bearer};

/// Adds what `requirement` makes of `token` at the time `now`.
pub(super) fn judge(report: &mut Report, requirement: &Requirement, token: &str, now: SystemTime) {
    let header = (!token.is_empty()).then(|| format!("Bearer {token}"));
    let token = match bearer(header.iter().map(|value| value.as_bytes())) {
        Ok(token) => token,
        Err(rejection) => return report.reject(&rejection),
    };
    let Explanation { checks, failed, contents, outcome } = requirement.explain(&token, now);
    report.token = contents.map(|Contents { header, claims }| TokenContents {
        verified: checks.iter().any(|check| check.step == Check::Signature && check.passed),
        header,
        claims,
    });
    for check in checks {
        report.step(check.step.layer(), Some(check.passed), check.text);
        report.name(check.step);
    }
    match outcome {
        Err(rejection) => {
            report.reject(&rejection);
            let Some(failed) = failed else { return };
            report.name(failed);
            if failed == Check::Expiry
                && let Some(good) = while_good(report)
            {
                return as_renewed(report, requirement, &token, good);
            }
            not_reached(report, failed);
        }
        Ok(identity) => {
            report.identity = Some((identity.issuer.clone(), identity.subject.clone()));
            live::confirmation(report, requirement, &identity);
        }
    }
}

/// The last second in which the token was good, by its `exp` (RFC 7519 §4.1.4).
fn while_good(report: &Report) -> Option<SystemTime> {
    let expires = report.token.as_ref()?.claims.get("exp")?.as_f64()?;
    let good = Duration::try_from_secs_f64(expires).ok()?.checked_sub(Duration::from_secs(1))?;
    UNIX_EPOCH.checked_add(good)
}

/// Adds the checks after the expiry, by what they found when the token was `good`: whoever renews it
/// learns now what will stop it next.
fn as_renewed(report: &mut Report, requirement: &Requirement, token: &Token, good: SystemTime) {
    let Explanation { checks, failed, outcome, .. } = requirement.explain(token, good);
    for check in checks.into_iter().filter(|check| check.step > Check::Expiry) {
        report.step(check.step.layer(), Some(check.passed), format!("{} (as before it expired)", check.text));
        report.name(check.step);
    }
    match (outcome, failed) {
        (Ok(identity), _) => report.identity = Some((identity.issuer, identity.subject)),
        (Err(rejection), Some(failed)) if failed > Check::Expiry => {
            report.reject(&rejection);
            report.name(failed);
            not_reached(report, failed);
        }
        (Err(_), _) => not_reached(report, Check::Expiry),
    }
}

/// Says that nothing after the check `failed` was asked.
fn not_reached(report: &mut Report, failed: Check) {
    for step in Check::ALL.into_iter().filter(|step| *step > failed) {
        report.step(step.layer(), None, "not reached");
        report.name(step);
    }
}
