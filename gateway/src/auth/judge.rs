//! The judgement about a token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::certificate::{Certificate, confirms};
use super::claims::{self, Round};
use super::excerpt;
use super::issuer::{Issuer, Keys, Requirement, names};
use super::jws::{Jws, Members};
use super::revocation::{Marks, print};
use super::rules::{self, Claims};
use super::scopes;
use super::token::Token;
use super::trace::{Check, Explanation, Step, Trace};
use crate::config::Profile;
use crate::rejection::{Reason, Rejection};

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
    /// `sid`, where the token has one (OpenID Connect Back-Channel Logout §2.1).
    pub session_id: Option<String>,
    /// The `kid` of the key that made the signature, where it has one.
    pub key_id: Option<String>,
    /// `iat`, in seconds since 1970, where the token has one.
    pub issued: Option<u64>,
    /// `iss`
    pub issuer_id: String,
}

impl Identity {
    /// What revocations know the token by.
    pub(super) fn marks(&self) -> Marks<'_> {
        Marks {
            issuer: &self.issuer_id,
            subject: &self.subject,
            token_id: self.token_id.as_deref(),
            session_id: self.session_id.as_deref(),
            key_id: self.key_id.as_deref(),
            issued: self.issued,
        }
    }
}

impl Requirement {
    /// Whether a token with these marks is revoked at `now`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// `credentials/revoked`. Which revocation it is stays in the journal.
    pub(super) fn check_revocations(&self, marks: &Marks<'_>, now: u64) -> Result<(), Box<Rejection>> {
        match self.revocations.get().of(marks, now) {
            None => Ok(()),
            Some(found) => {
                let note = format!("revocation {}: {}", found.id(), print(found));
                Err(Box::new(Rejection::new(Reason::CredentialsRevoked).note(note)))
            }
        }
    }
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
    /// 4. `typ`; the claims of the issuer's profile are there; no revocation; no `cnf`; the values that the issuer
    ///    demands; the life of the token; `aud`; `iat` and `nbf`;
    /// 5. `exp`; `auth_time` where the route has a `max_age`;
    /// 6. the scopes and the claims that the route needs.
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
        // Checks are taken down once passed: the one that failed comes after the last of them.
        let last = checks.iter().rev().find(|check| check.passed).map(|check| check.step);
        let failed = last.map_or(Some(Step::Form), Step::next).filter(|_| outcome.is_err());
        Explanation { checks, failed, contents: Jws::contents(token), outcome }
    }

    fn judge_with(
        &self,
        token: &Token,
        now: SystemTime,
        trace: &mut impl Trace,
    ) -> Result<Identity, Box<Rejection>> {
        // A clock before 1970 makes every token too new, which is the safe side.
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // Whichever keys verified it: the same bytes say the same.
        let known = self.issuers.iter().find_map(|issuer| issuer.keys.last().verified(token));
        let jws = known.map_or_else(|| Jws::parse(token), |content| Ok(Jws { token, content }))?;
        trace.passed(Step::Form, || match &jws.header.key_id {
            Some(id) => format!("a JWT, signed with {:?} and the key {}", jws.header.algorithm, excerpt(id)),
            None => format!("a JWT, signed with {:?} and a key without a name", jws.header.algorithm),
        });

        let iss = claims::required(claims::text(&jws.claims, "iss")?, "iss")?;
        let named = || self.issuers.iter().filter(|issuer| issuer.rules.issuer == iss);
        let mut unverified = None;
        let mut rejected = None;
        for issuer in named() {
            let outcome = match issuer.verify(&jws, now, trace) {
                Ok(key_id) => issuer
                    .accept(&jws, key_id.as_deref(), self, now, trace)
                    .map_err(|rejection| (&mut rejected, rejection)),
                Err(rejection) => Err((&mut unverified, rejection)),
            };
            let (furthest, mut rejection) = match outcome {
                Ok(identity) => return Ok(identity),
                Err(failure) => failure,
            };
            rejection.issuer = Some(issuer.rules.name.clone());
            if named().count() > 1 {
                let reason = rejection.reason;
                trace.failed(Step::Issuer, || {
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
    /// Whether a key of this issuer made the signature; the name of that key, where it has one.
    fn verify(
        &self,
        jws: &Jws<'_>,
        now: u64,
        trace: &mut impl Trace,
    ) -> Result<Option<String>, Box<Rejection>> {
        let rules = &self.rules;
        let algorithm = jws.header.algorithm;
        let key_id = jws.header.key_id.as_deref();
        trace.passed(Step::Issuer, || format!("iss is that of the issuer `{}`", rules.name));
        if !rules.algorithms.contains(&algorithm) {
            let note =
                format!("the token has {algorithm:?}, the issuer accepts {}", names(&rules.algorithms));
            return Err(Box::new(Rejection::new(Reason::CredentialsAlgorithm).note(note)));
        }
        trace.passed(Step::Algorithm, || format!("the issuer accepts {algorithm:?}"));
        let keys = self.keys.current(now).map_err(|lack| match &self.keys {
            Keys::Live(keys) => keys.outage(lack, now),
            Keys::Fixed(_) => {
                let rejection = Rejection::new(Reason::AuthSystemKeysUnavailable).retry_after(RETRY);
                Box::new(rejection.note("the issuer has no keys"))
            }
        })?;
        let id = || key_id.map_or("no kid".to_owned(), |id| format!("kid {}", excerpt(id)));
        // These very keys, so one of them has the token's name and algorithm.
        let known = keys.verified(jws.token).is_some();
        let mut tried = 0;
        for key in keys.candidates(key_id, algorithm) {
            if tried == 0 {
                trace.passed(Step::Key, || format!("the issuer has a key for {algorithm:?} and {}", id()));
            }
            if known || key.verifies(algorithm, jws.signed(), &jws.signature) {
                // Of a token that does not name its key, it would not be known which one it was.
                if !known && key_id.is_some() {
                    keys.remember(jws);
                }
                trace.passed(Step::Signature, || {
                    format!("the signature is that of a key of `{}`", rules.name)
                });
                return Ok(key.id.clone().or_else(|| key_id.map(str::to_owned)));
            }
            tried += 1;
        }
        let reason = if tried == 0 { Reason::CredentialsUnknownKey } else { Reason::CredentialsBadSignature };
        let note = format!(
            "the token has {} and {algorithm:?}; {tried} of the issuer's {} keys fit that{}",
            id(),
            keys.len(),
            if tried == 0 { "" } else { ", and none made the signature" }
        );
        Err(Box::new(Rejection::new(reason).note(note)))
    }

    /// Whether this issuer's rules accept the claims, whose signature is right.
    fn accept(
        &self,
        jws: &Jws<'_>,
        key_id: Option<&str>,
        requirement: &Requirement,
        now: u64,
        trace: &mut impl Trace,
    ) -> Result<Identity, Box<Rejection>> {
        self.check_claims(jws, key_id, requirement, now, trace).map_err(|mut rejection| {
            rejection.subject = claims::subject(&jws.claims).ok().map(str::to_owned);
            rejection
        })
    }

    fn check_claims(
        &self,
        jws: &Jws<'_>,
        key_id: Option<&str>,
        requirement: &Requirement,
        now: u64,
        trace: &mut impl Trace,
    ) -> Result<Identity, Box<Rejection>> {
        self.check_type(jws.header.typ.as_deref())?;
        trace.passed(Step::Type, || match &jws.header.typ {
            Some(typ) => format!("typ is {}", excerpt(typ)),
            None => "any typ is accepted, and there is none".to_owned(),
        });
        let shown = (&jws.claims, jws.token.certificate());
        self.judge_claims(self.rules.profile, shown, key_id, requirement, now, trace)
    }

    /// The same for what the issuer says about a token that only it can read (RFC 7662 §2.2). Such a
    /// token has no `typ`, and no claims of RFC 9068; where nobody is its subject, its client is.
    pub(super) fn judge_introspected(
        &self,
        claims: &Members,
        certificate: Option<&Certificate>,
        requirement: &Requirement,
        now: u64,
    ) -> Result<Identity, Box<Rejection>> {
        if let Some(iss) = claims::text(claims, "iss")?
            && iss != self.rules.issuer
        {
            let note = format!("the issuer says that the token is one of {}", excerpt(iss));
            return Err(Box::new(Rejection::new(Reason::CredentialsUnknownIssuer).note(note)));
        }
        let client = claims.get("client_id").filter(|_| claims.get("sub").is_none());
        let named = client.map(|client| claims.or("sub", client));
        let (claims, profile) = (named.as_ref().unwrap_or(claims), Profile::Jwt);
        self.check_kind(claims)?;
        let shown = (claims, certificate);
        self.judge_claims(profile, shown, None, requirement, now, &mut ()).map_err(|mut rejection| {
            // The client has not written this.
            if rejection.reason == Reason::CredentialsMalformed {
                let note = format!("the issuer's answer: {}", rejection.detail.unwrap_or_default());
                return Box::new(Rejection::new(Reason::AuthSystemIntrospectionUnavailable).note(note));
            }
            rejection.subject = claims::subject(claims).ok().map(str::to_owned);
            rejection
        })
    }

    /// An active refresh token is no access token (RFC 7662 §2.2; the type is that of RFC 6749 §7.1).
    fn check_kind(&self, claims: &Members) -> Result<(), Box<Rejection>> {
        match claims.get("token_type") {
            Some(Value::String(kind)) if !kind.eq_ignore_ascii_case("bearer") => {
                let note = format!("the issuer says that the token's type is {}", excerpt(kind));
                Err(Box::new(Rejection::new(Reason::CredentialsWrongType).note(note)))
            }
            _ => Ok(()),
        }
    }

    /// Whether these claims, which are the issuer's own, admit on a route with this `requirement`.
    fn judge_claims(
        &self,
        profile: Profile,
        (claims, certificate): (&Members, Option<&Certificate>),
        key_id: Option<&str>,
        requirement: &Requirement,
        now: u64,
        trace: &mut impl Trace,
    ) -> Result<Identity, Box<Rejection>> {
        let rules = &self.rules;
        let subject = claims::subject(claims)?;
        let expires = claims::required(claims::date(claims, "exp", Round::Down)?, "exp")?;
        let not_before = claims::date(claims, "nbf", Round::Up)?;
        let issued = claims::date(claims, "iat", Round::Up)?;
        let token_id = claims::text(claims, "jti")?.map(str::to_owned);
        if profile == Profile::Rfc9068 {
            claims::required(claims::text(claims, "client_id")?, "client_id")?;
            claims::required(issued, "iat")?;
            claims::required(token_id.as_ref(), "jti")?;
        }
        claims::required(claims.get("aud"), "aud")?;
        trace.passed(Step::Claims, || {
            format!("the claims of an access token are there, for {}", excerpt(subject))
        });

        let session_id = claims::text(claims, "sid")?.map(str::to_owned);
        let identity = Identity {
            issuer: rules.name.clone(),
            subject: subject.to_owned(),
            scopes: Vec::new(),
            expires,
            accepted_until: expires.saturating_add(rules.leeway.as_secs()),
            token_id,
            session_id,
            key_id: key_id.map(str::to_owned),
            issued: claims::date(claims, "iat", Round::Down)?,
            issuer_id: rules.issuer.clone(),
        };
        requirement.check_revocations(&identity.marks(), now)?;
        trace.passed(Step::Revocation, || "the token is not revoked".to_owned());
        // RFC 8705 §3, RFC 9449 §6: who cannot show the key stole the token, or was given the wrong
        // one.
        let confirmation = claims.get("cnf");
        if confirmation.is_some_and(|confirmation| !confirms(confirmation, certificate)) {
            return Err(Box::new(Rejection::new(Reason::CredentialsBound)));
        }
        trace.passed(Step::Binding, || match confirmation {
            Some(_) => "the token is bound to the certificate of the client".to_owned(),
            None => "the token is not bound to a key".to_owned(),
        });
        let shown = Claims { token: claims, certificate };
        rules::required(shown, &rules.require)?;
        trace.passed(Step::Values, || match rules.require.len() {
            0 => "the issuer demands no values of claims".to_owned(),
            count => format!("the claims have the values that the issuer demands of {count}"),
        });
        self.check_lifetime(issued, expires)?;
        trace.passed(Step::Lifetime, || match issued {
            Some(issued) => format!("the token was made to live {}", span(expires.saturating_sub(issued))),
            None => "the token may live for any time".to_owned(),
        });
        if !claims::is_for(claims, &rules.audience)? {
            let note = format!("aud has none of {}", rules.audience.join(", "));
            return Err(Box::new(Rejection::new(Reason::CredentialsWrongAudience).note(note)));
        }
        trace.passed(Step::Audience, || "aud names this service".to_owned());
        self.check_start(not_before, issued, now)?;
        trace.passed(Step::NotYet, || "the token is valid by now".to_owned());

        if now >= identity.accepted_until {
            let detail = format!("The token expired {} ago.", span(now - expires));
            return Err(Box::new(Rejection::new(Reason::ExpiryExpired).detail(detail)));
        }
        trace.passed(Step::Expiry, || match expires.checked_sub(now) {
            Some(left) => format!("the token expires in {}", span(left)),
            None => format!("the token expired {} ago, which is within the leeway", span(now - expires)),
        });
        self.check_sign_in(claims, requirement.max_age, now)?;
        trace.passed(Step::SignIn, || match requirement.max_age {
            Some(_) => "the user signed in recently enough".to_owned(),
            None => "the route does not ask when the user signed in".to_owned(),
        });

        let scopes = scopes::granted(claims, rules.scope_claim.as_ref())?;
        scopes::check(&requirement.scopes, &scopes)?;
        trace.passed(Step::Scopes, || format!("the scopes suffice: {}", excerpt(&scopes.join(" "))));
        rules::check(shown, &requirement.claims)?;
        trace.passed(Step::RouteClaims, || "the claims are those that the route needs".to_owned());
        Ok(Identity { scopes, ..identity })
    }

    fn check_lifetime(&self, issued: Option<u64>, expires: u64) -> Result<(), Box<Rejection>> {
        let Some(most) = self.rules.max_lifetime else {
            return Ok(());
        };
        let life = expires.saturating_sub(claims::required(issued, "iat")?);
        if life <= most.as_secs() {
            return Ok(());
        }
        let note = format!("it lives {}, the issuer's max_lifetime is {}", span(life), span(most.as_secs()));
        Err(Box::new(Rejection::new(Reason::CredentialsLifetime).note(note)))
    }

    /// A token from the future is one of a wrong clock, or a forged one.
    fn check_start(
        &self,
        not_before: Option<u64>,
        issued: Option<u64>,
        now: u64,
    ) -> Result<(), Box<Rejection>> {
        let leeway = self.rules.leeway.as_secs();
        let early =
            |date: Option<u64>| date.and_then(|date| date.checked_sub(now)).filter(|early| *early > leeway);
        let detail = if let Some(early) = early(issued) {
            format!(
                "The token says that it was issued {} from now: the clock of its issuer or of this service is wrong by \
                 that much.",
                span(early)
            )
        } else if let Some(early) = early(not_before) {
            format!("The token becomes valid in {}.", span(early))
        } else {
            return Ok(());
        };
        Err(Box::new(Rejection::new(Reason::CredentialsNotYetValid).detail(detail)))
    }

    /// `auth_time` (OpenID Connect Core §2; RFC 9470 §6.2) is not longer ago than `most`.
    fn check_sign_in(
        &self,
        claims: &Members,
        most: Option<Duration>,
        now: u64,
    ) -> Result<(), Box<Rejection>> {
        let Some(most) = most else { return Ok(()) };
        let signed_in = claims::required(claims::date(claims, "auth_time", Round::Down)?, "auth_time")?;
        let ago = now.saturating_sub(signed_in);
        if ago <= most.as_secs().saturating_add(self.rules.leeway.as_secs()) {
            return Ok(());
        }
        let detail =
            format!("The user signed in {} ago, at most {} is accepted.", span(ago), span(most.as_secs()));
        let mut rejection = Rejection::new(Reason::ExpirySignIn).detail(detail);
        rejection.max_age = Some(most);
        Err(Box::new(rejection))
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
