//! Tokens that only their issuer can read (RFC 7662): what it says about one is judged like the claims
//! of a JWT.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::issuer::{Issuer, Requirement};
use super::judge::Identity;
use super::jws::{Jws, Members};
use super::revocation::seconds;
use super::token::Token;
use crate::config::KeySource;
use crate::rejection::{Reason, Rejection};

/// What an issuer says about a token.
#[derive(Clone, Debug)]
pub enum Introspected {
    /// It is not good (any more); why is not said (RFC 7662 §2.2).
    Inactive,
    /// It is good, and this is known about it.
    Active(Arc<Members>),
}

/// The issuer could not be asked, or what it answered means nothing. Never the client's fault.
#[derive(Clone, Debug)]
pub struct Outage {
    /// What happened, for the journal.
    pub note: String,
    /// When it makes sense to come back.
    pub retry_after: Duration,
}

/// The answer to a question.
pub type Answered<'a> = Pin<Box<dyn Future<Output = Result<Introspected, Outage>> + Send + 'a>>;

/// Asks an issuer about tokens.
pub trait Introspect: Debug + Send + Sync {
    /// What the issuer says about `token`.
    fn introspect<'a>(&'a self, token: &'a Token) -> Answered<'a>;
}

impl Introspected {
    /// What the body of an answer says (RFC 7662 §2.2).
    ///
    /// # Errors
    ///
    /// What is wrong with it. Nothing of it is repeated: it is about a token.
    pub fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let members: Members = serde_json::from_slice(body)
            .map_err(|_| "its answer is not a JSON object of unique names: check the endpoint")?;
        match members.get("active") {
            Some(Value::Bool(true)) => Ok(Self::Active(Arc::new(members))),
            Some(Value::Bool(false)) => Ok(Self::Inactive),
            _ => Err("its answer does not say whether the token is active: check the endpoint"),
        }
    }
}

impl Requirement {
    /// The issuers that are asked about `token`. A JWT is shown to nobody but the issuer that it names,
    /// and to that one only where there are no keys of it; whose an opaque token is, nobody can see.
    fn asked<'a>(&'a self, token: &Token) -> impl Iterator<Item = &'a Arc<Issuer>> + use<'a> {
        let jwt = token.as_str().split('.').count() == 3;
        let contents = Jws::contents(token).filter(|_| jwt);
        let iss = contents.and_then(|contents| contents.claims.get("iss")?.as_str().map(str::to_owned));
        let able = self.issuers.iter().filter(|issuer| issuer.introspector.is_some());
        able.filter(move |issuer| {
            let named = iss.as_deref() == Some(issuer.rules.issuer.as_str());
            !jwt || named && issuer.rules.keys == KeySource::Nothing
        })
    }

    /// Whether some issuer is asked about `token`.
    pub fn introspects(&self, token: &Token) -> bool {
        self.asked(token).next().is_some()
    }

    /// Who `token` is for, by what its issuer says; `None`: no issuer of this route is asked about it.
    /// With several, one that accepts it is enough.
    pub(super) async fn introspect(
        &self,
        token: &Token,
        now: impl Fn() -> SystemTime,
    ) -> Option<Result<Identity, Box<Rejection>>> {
        let mut refused: Option<Box<Rejection>> = None;
        for issuer in self.asked(token) {
            let judged = issuer.ask(token).await.and_then(|claims| {
                issuer.judge_introspected(&claims, token.certificate(), self, seconds(now()))
            });
            let mut rejection = match judged {
                Ok(identity) => return Some(Ok(identity)),
                Err(rejection) => rejection,
            };
            rejection.issuer = Some(issuer.rules.name.clone());
            // An issuer that says no may not know the token of another, which could not be asked.
            if refused.as_ref().is_none_or(|known| known.reason < rejection.reason) {
                refused = Some(rejection);
            }
        }
        refused.map(Err)
    }
}

impl Issuer {
    /// What this issuer says about `token`, if it is active.
    ///
    /// # Errors
    ///
    /// `credentials/inactive`, or `auth_system/introspection_unavailable`.
    pub(super) async fn ask(&self, token: &Token) -> Result<Arc<Members>, Box<Rejection>> {
        let Some(introspector) = &self.introspector else {
            return Err(outage("the issuer is to be asked, and nobody can"));
        };
        match introspector.introspect(token).await {
            Ok(Introspected::Active(claims)) => Ok(claims),
            Ok(Introspected::Inactive) => Err(Box::new(Rejection::new(Reason::CredentialsInactive))),
            Err(Outage { note, retry_after }) => Err(Box::new(outage(note).retry_after(retry_after))),
        }
    }
}

/// The issuer could not be asked, or contradicts itself.
pub(super) fn outage(note: impl Into<String>) -> Box<Rejection> {
    Box::new(Rejection::new(Reason::AuthSystemIntrospectionUnavailable).note(note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_true_is_active_and_only_false_is_not() {
        let parse = |text: &str| Introspected::parse(text.as_bytes());
        assert!(matches!(parse(r#"{"active":true,"sub":"a"}"#), Ok(Introspected::Active(_))));
        assert!(matches!(parse(r#"{"active":false}"#), Ok(Introspected::Inactive)));
        for text in [
            "",
            "[]",
            "{}",
            "<html>",
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            r#"{"active":false,"active":true}"#,
            r#"{"active":true,"a":{"b":1,"b":2}}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Introspected::parse(&[0xff, 0xfe]).is_err());
    }
}
