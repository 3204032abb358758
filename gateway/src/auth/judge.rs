//! The judgement about a token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::claims::{self, Round};
use super::excerpt;
use super::issuer::{Issuer, Keys, Requirement, names};
use super::jws::Jws;
use super::scopes;
use super::token::Token;
use super::trace::{Check, Explanation, Trace};
use crate::rejection::{Layer, Reason, Rejection};

/// When a client should ask again after an outage of ours: keys are reloaded within seconds of
/// being repaired.
const RETRY: Duration = Duration::from_secs(10);

/// Who an admitted client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The configured name of the issuer.
    pub issuer: String,
    /// `sub`: not empty, without control characters, at most 1024 bytes.
    pub subject: String,
    /// The scopes granted, each a `scope-token` of RFC 6749 §3.3.
    pub scopes: Vec<String>,
    /// `exp`, in seconds since 1970.
    pub expires: u64,
    /// `exp` and the issuer's leeway: from this second since 1970 on, the token is not accepted.
    pub accepted_until: u64,
    /// `jti`, where the token has one.
    pub token_id: Option<String>,
}

impl Requirement {
    /// Who `token` is for at the time `now`.
    ///
    /// The checks stand in this order, and the first that fails is the answer:
    ///
    /// 1. the form: three parts, a header and claims that are JSON objects of unique names, no
    ///    `crit`; `alg` is one that exists and is not `none`;
    /// 2. `iss` is there and names issuers of this requirement. It is not verified yet and only
    ///    selects: the keys of that issuer must confirm it;
    /// 3. the issuer accepts the algorithm, has any keys at all, has a key with the token's `kid`
    ///    for this algorithm, and that key made the signature;
    /// 4. `typ`; `sub`, `exp` and `aud` are there; `aud`, `nbf`, `exp`; the scopes.
    ///
    /// Several issuers may have the same `iss` (with different keys or audiences, say). Then one
    /// that accepts the token is enough, and else the one that got furthest answers.
    ///
    /// # Errors
    ///
    /// The rejection, of the layers `credentials`, `expiry`, `scope` or `auth_system`. It has the
    /// subject only when the signature is right.
    pub fn judge(&self, token: &Token, now: SystemTime) -> Result<Identity, Box<Rejection>> {
        self.judge_with(token, now, &mut ())
    }

    /// The same judgement, with the checks that lead to it.
    pub fn explain(&self, token: &Token, now: SystemTime) -> Explanation {
        let mut checks: Vec<Check> = Vec::new();
        let outcome = self.judge_with(token, now, &mut checks);
        Explanation { checks, outcome }
    }

    fn judge_with(
        &self,
        token: &Token,
        now: SystemTime,
        trace: &mut impl Trace,
    ) -> Result<Identity, Box<Rejection>> {
        // A clock before 1970 makes every token too new, which is the safe side.
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let jws = Jws::parse(token)?;
        trace.passed(Layer::Credentials, || match &jws.header.key_id {
            Some(id) => format!("a JWT, signed with {:?} and the key {}", jws.header.algorithm, excerpt(id)),
            None => format!("a JWT, signed with {:?} and a key without a name", jws.header.algorithm),
        });

        let iss = claims::required(claims::text(&jws.claims, "iss")?, "iss")?;
        let named = || self.issuers.iter().filter(|issuer| issuer.rules.issuer == iss);
        let mut unverified = None;
        let mut rejected = None;
        for issuer in named() {
            let outcome = match issuer.verify(&jws, now, trace) {
                Ok(()) => {
                    issuer.accept(&jws, self, now, trace).map_err(|rejection| (&mut rejected, rejection))
                }
                Err(rejection) => Err((&mut unverified, rejection)),
            };
            let (furthest, mut rejection) = match outcome {
                Ok(identity) => return Ok(identity),
                Err(failure) => failure,
            };
            rejection.issuer = Some(issuer.rules.name.clone());
            if named().count() > 1 {
                let reason = rejection.reason;
                trace.failed(reason.layer(), || {
                    format!("not for issuer `{}`: {}", issuer.rules.name, reason.title())
                });
            }
            keep_furthest(furthest, rejection);
        }
        Err(rejected.or(unverified).unwrap_or_else(|| {
            let note = format!("iss is {}, which no issuer of this route has", excerpt(iss));
            Box::new(Rejection::new(Reason::CredentialsUnknownIssuer).note(note))
        }))
    }
}

/// Rows of the registry stand in the order of the checks. Among issuers that could not verify the
/// token, this puts an outage last: whether the token is good is not known then.
fn keep_furthest(furthest: &mut Option<Box<Rejection>>, rejection: Box<Rejection>) {
    if furthest.as_ref().is_none_or(|other| other.reason < rejection.reason) {
        *furthest = Some(rejection);
    }
}

impl Issuer {
    /// Whether a key of this issuer made the signature.
    fn verify(&self, jws: &Jws<'_>, now: u64, trace: &mut impl Trace) -> Result<(), Box<Rejection>> {
        let rules = &self.rules;
        let algorithm = jws.header.algorithm;
        let key_id = jws.header.key_id.as_deref();
        trace.passed(Layer::Credentials, || format!("iss is that of the issuer `{}`", rules.name));
        if !rules.algorithms.contains(&algorithm) {
            let note =
                format!("the token has {algorithm:?}, the issuer accepts {}", names(&rules.algorithms));
            return Err(Box::new(Rejection::new(Reason::CredentialsAlgorithm).note(note)));
        }
        let keys = self.keys.current(now).map_err(|lack| match &self.keys {
            Keys::Live(keys) => keys.outage(lack, now),
            Keys::Fixed(_) => {
                let rejection = Rejection::new(Reason::AuthSystemKeysUnavailable).retry_after(RETRY);
                Box::new(rejection.note("the issuer has no keys"))
            }
        })?;
        let id = key_id.map_or("no kid".to_owned(), |id| format!("kid {}", excerpt(id)));
        let mut tried = 0;
        for key in keys.candidates(key_id, algorithm) {
            if key.verifies(algorithm, jws.signed, &jws.signature) {
                trace.passed(Layer::Credentials, || {
                    format!("the signature is that of a key of `{}`", rules.name)
                });
                return Ok(());
            }
            tried += 1;
        }
        let reason = if tried == 0 { Reason::CredentialsUnknownKey } else { Reason::CredentialsBadSignature };
        let note = format!(
            "the token has {id} and {algorithm:?}; {tried} of the issuer's {} keys fit that{}",
            keys.len(),
            if tried == 0 { "" } else { ", and none made the signature" }
        );
        Err(Box::new(Rejection::new(reason).note(note)))
    }

    /// Whether this issuer's rules accept the claims, whose signature is right.
    fn accept(
        &self,
        jws: &Jws<'_>,
        requirement: &Requirement,
        now: u64,
        trace: &mut impl Trace,
    ) -> Result<Identity, Box<Rejection>> {
        self.check_claims(jws, requirement, now, trace).map_err(|mut rejection| {
            rejection.subject = claims::subject(&jws.claims).ok().map(str::to_owned);
            rejection
        })
    }

    fn check_claims(
        &self,
        jws: &Jws<'_>,
        requirement: &Requirement,
        now: u64,
        trace: &mut impl Trace,
    ) -> Result<Identity, Box<Rejection>> {
        let rules = &self.rules;
        let leeway = rules.leeway.as_secs();
        self.check_type(jws.header.typ.as_deref())?;
        let subject = claims::subject(&jws.claims)?;
        let expires = claims::required(claims::date(&jws.claims, "exp", Round::Down)?, "exp")?;
        let not_before = claims::date(&jws.claims, "nbf", Round::Up)?;
        let token_id = claims::text(&jws.claims, "jti")?.map(str::to_owned);

        if !claims::is_for(&jws.claims, &rules.audience)? {
            let note = format!("aud has none of {}", rules.audience.join(", "));
            return Err(Box::new(Rejection::new(Reason::CredentialsWrongAudience).note(note)));
        }
        trace.passed(Layer::Credentials, || "aud names this service".to_owned());

        if let Some(early) = not_before.and_then(|date| date.checked_sub(now)).filter(|early| *early > leeway)
        {
            let detail = format!("The token becomes valid in {}.", span(early));
            return Err(Box::new(Rejection::new(Reason::CredentialsNotYetValid).detail(detail)));
        }
        let accepted_until = expires.saturating_add(leeway);
        if now >= accepted_until {
            let detail = format!("The token expired {} ago.", span(now - expires));
            return Err(Box::new(Rejection::new(Reason::ExpiryExpired).detail(detail)));
        }
        trace.passed(Layer::Expiry, || match expires.checked_sub(now) {
            Some(left) => format!("the token expires in {}", span(left)),
            None => format!("the token expired {} ago, which is within the leeway", span(now - expires)),
        });

        let scopes = scopes::granted(&jws.claims, rules.scope_claim.as_deref())?;
        scopes::check(&requirement.scopes, &scopes)?;
        trace.passed(Layer::Scope, || format!("the scopes suffice: {}", excerpt(&scopes.join(" "))));
        Ok(Identity {
            issuer: rules.name.clone(),
            subject: subject.to_owned(),
            scopes,
            expires,
            accepted_until,
            token_id,
        })
    }

    fn check_type(&self, typ: Option<&str>) -> Result<(), Box<Rejection>> {
        let Some(accepted) = &self.rules.typ else {
            return Ok(());
        };
        if typ.is_some_and(|typ| accepted.iter().any(|own| own == typ)) {
            return Ok(());
        }
        let detail = match typ {
            Some(typ) => format!("The token's typ is {}.", excerpt(typ)),
            None => "The token's header has no typ.".to_owned(),
        };
        let note = format!("the issuer's typ is {}", accepted.join(", "));
        Err(Box::new(Rejection::new(Reason::CredentialsWrongType).detail(detail).note(note)))
    }
}

/// A span of time for people, in the largest unit that has two of it.
fn span(seconds: u64) -> String {
    let (unit, size) = [("days", 86_400), ("h", 3_600), ("min", 60)]
        .into_iter()
        .find(|(_, size)| seconds >= 2 * size)
        .unwrap_or(("s", 1));
    format!("{} {unit}", seconds / size)
}
