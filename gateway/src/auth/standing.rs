//! Whether who was admitted would be admitted still.

use std::time::SystemTime;

use super::issuer::Requirement;
use super::judge::Identity;
use super::revocation::seconds;
use super::scopes;
use crate::rejection::{Reason, Rejection};

impl Requirement {
    /// Whether these rules, which may be newer than those that admitted `identity`, allow it still.
    /// Its token is not at hand any more, and its validity is a matter of time alone.
    ///
    /// # Errors
    ///
    /// `credentials/revoked`, `credentials/unknown_issuer` or `scope/insufficient_scope`.
    pub fn admits_still(&self, identity: &Identity, now: SystemTime) -> Result<(), Box<Rejection>> {
        let judged = if let Err(revoked) = self.check_revocations(&identity.marks(), seconds(now)) {
            Err(revoked)
        } else if self.issuers.iter().any(|issuer| issuer.rules.name == identity.issuer) {
            scopes::check(&self.scopes, &identity.scopes)
        } else {
            let note = format!("the route does not accept the issuer `{}` any more", identity.issuer);
            Err(Box::new(Rejection::new(Reason::CredentialsUnknownIssuer).note(note)))
        };
        judged.map_err(|mut rejection| {
            rejection.issuer = Some(identity.issuer.clone());
            rejection.subject = Some(identity.subject.clone());
            rejection
        })
    }
}
