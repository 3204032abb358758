//! JWTs that are good by their issuer's keys, and that it is asked about all the same: whether it has
//! revoked one is nothing that a signature can say (RFC 7662 §4).

use std::time::SystemTime;

use super::claims::{self, Round};
use super::excerpt;
use super::introspection::outage;
use super::issuer::{Issuer, Requirement};
use super::judge::Identity;
use super::jws::Members;
use super::revocation::seconds;
use super::token::Token;
use crate::config::Asked;
use crate::rejection::{Reason, Rejection};

impl Requirement {
    /// `identity`, that of `token`, if its issuer confirms it or is not asked about JWTs.
    ///
    /// # Errors
    ///
    /// `credentials/inactive`, `expiry/expired`, `credentials/revoked` for what was revoked meanwhile, or
    /// `auth_system/introspection_unavailable`, also where the issuer contradicts its own token.
    pub(super) async fn confirm(
        &self,
        token: &Token,
        identity: Identity,
        now: impl Fn() -> SystemTime,
    ) -> Result<Identity, Box<Rejection>> {
        let named = self.issuers.iter().find(|issuer| issuer.rules.name == identity.issuer);
        let Some(issuer) = named.filter(|issuer| issuer.confirms()) else { return Ok(identity) };
        let (name, subject) = (identity.issuer.clone(), identity.subject.clone());
        let confirmed = match issuer.ask(token).await {
            Ok(claims) => issuer.agree(identity, &claims, seconds(now())),
            Err(rejection) => Err(rejection),
        };
        let checked = confirmed.and_then(|identity| {
            // The answer may have taken its time.
            self.check_revocations(&identity.marks(), seconds(now()))?;
            Ok(identity)
        });
        checked.map_err(|mut rejection| {
            (rejection.issuer, rejection.subject) = (Some(name), Some(subject));
            rejection
        })
    }
}

impl Issuer {
    /// Whether it is asked about JWTs that are good by its keys.
    pub fn confirms(&self) -> bool {
        self.rules.introspection.as_ref().is_some_and(|rules| rules.asked == Asked::Always)
    }

    /// `identity`, if the issuer's `claims` do not say that the token is another one. The client has
    /// written neither of them.
    fn agree(&self, identity: Identity, claims: &Members, now: u64) -> Result<Identity, Box<Rejection>> {
        let of_ours = |rejection: Box<Rejection>| {
            outage(format!("the issuer's answer: {}", rejection.detail.unwrap_or_default()))
        };
        for (name, own) in [("sub", &identity.subject), ("iss", &identity.issuer_id)] {
            if let Some(said) = claims::text(claims, name).map_err(of_ours)?
                && said != own
            {
                let note =
                    format!("the token's {name} is {}, the issuer says {}", excerpt(own), excerpt(said));
                return Err(outage(note));
            }
        }
        let Some(expires) = claims::date(claims, "exp", Round::Down).map_err(of_ours)? else {
            return Ok(identity);
        };
        // The issuer may have cut its life short.
        let expires = expires.min(identity.expires);
        let accepted_until = expires.saturating_add(self.rules.leeway.as_secs());
        if now >= accepted_until {
            let note = "the issuer says that the token has expired, which its own exp does not".to_owned();
            return Err(Box::new(Rejection::new(Reason::ExpiryExpired).note(note)));
        }
        Ok(Identity { expires, accepted_until, ..identity })
    }
}
