//! Answers of introspection endpoints: nobody is admitted by one that does not say so, and no client
//! is blamed for one that says nothing.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

use gateway::auth::introspection::{Answered, Introspect, Introspected, Outage};
use gateway::auth::{Identity, Issuer, Requirement, Token};
use gateway::config::{Asked, ClientAuth, Introspection, KeySource, ScopeRule};
use gateway::rejection::{Layer, Reason, Rejection};
use serde_json::Value;

use crate::token::{AUDIENCE, ISSUER, NOW, SIGNED, keys, rules};

pub(crate) fn run(input: &[u8]) {
    let answer: Value = serde_json::from_slice(input).unwrap_or_default();
    if let Err(fault) = Introspected::parse(input) {
        assert!(crate::is_one_plain_line(fault), "{fault:?}");
    }
    match judged(input, Asked::Opaque, "opaque-token") {
        Ok(identity) => is_what_was_said(&identity, &answer),
        Err(rejection) => is_fair(&rejection, &answer),
    }
    // A token that is good by itself, of an issuer that is asked all the same.
    match judged(input, Asked::Always, SIGNED[0].trim_ascii()) {
        Ok(identity) => {
            assert_eq!(answer["active"], true);
            for (name, own) in [("sub", &*identity.subject), ("iss", ISSUER)] {
                assert!(matches!(&answer[name], Value::Null) || answer[name] == own, "{name} is another");
            }
        }
        Err(rejection) => is_fair(&rejection, &answer),
    }
}

/// RFC 7662 §2.2, and what the gate asks of every token.
fn is_what_was_said(identity: &Identity, answer: &Value) {
    assert_eq!(answer["active"], true);
    let subject = if answer["sub"].is_null() { &answer["client_id"] } else { &answer["sub"] };
    assert_eq!(*subject, *identity.subject);
    let audience = &answer["aud"];
    let is_for = |one: &Value| one == AUDIENCE;
    assert!(is_for(audience) || audience.as_array().is_some_and(|all| all.iter().any(is_for)), "{audience}");
    assert!(answer["exp"].as_f64().is_some_and(|exp| exp + 30.0 > NOW as f64) && identity.expires + 30 > NOW);
    assert!(matches!(&answer["iss"], Value::Null) || answer["iss"] == ISSUER);
    assert!(answer["cnf"].is_null(), "it is bound to a key");
    assert!(identity.scopes.iter().any(|scope| scope == "chat:read"), "{identity:?}");
    let kind = answer["token_type"].as_str();
    assert!(kind.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer")), "{kind:?}");
}

/// Only who says no has said something about the client.
fn is_fair(rejection: &Rejection, answer: &Value) {
    let layer = rejection.reason.layer();
    assert!(matches!(layer, Layer::Credentials | Layer::Expiry | Layer::Scope | Layer::AuthSystem));
    assert_ne!(rejection.reason, Reason::CredentialsMalformed, "the client has not written the answer");
    let no = answer["active"] == false;
    assert!((rejection.reason != Reason::CredentialsInactive) || no, "{rejection:?}");
    assert!(answer["active"].is_boolean() || layer == Layer::AuthSystem, "{rejection:?}");
    for said in [&rejection.detail, &rejection.note].into_iter().flatten() {
        assert!(crate::is_one_plain_line(said) && said.len() < 4096, "{rejection:?}");
    }
}

/// Says the same of every token.
#[derive(Debug)]
struct Oracle(Vec<u8>);

impl Introspect for Oracle {
    fn introspect<'a>(&'a self, _: &'a Token) -> Answered<'a> {
        let outage = |note: &str| Outage { note: note.to_owned(), retry_after: Duration::from_secs(5) };
        Box::pin(async move { Introspected::parse(&self.0).map_err(outage) })
    }
}

fn judged(input: &[u8], asked: Asked, token: &str) -> Result<Identity, Box<Rejection>> {
    let mut rules = rules();
    let keys = if asked == Asked::Always { keys() } else { Arc::default() };
    if asked == Asked::Opaque {
        rules.keys = KeySource::Nothing;
    }
    rules.introspection = Some(Introspection {
        endpoint: None,
        client_id: "gate".to_owned(),
        secret: "secret".into(),
        auth: ClientAuth::Basic,
        asked,
        cache: Duration::ZERO,
        inactive_cache: Duration::ZERO,
        failures: 1,
        rest: Duration::ZERO,
        retry: Duration::ZERO,
        ca: None,
    });
    let issuer = Issuer::new(rules, keys).asked_by(Some(Arc::new(Oracle(input.to_vec()))));
    let gate = Requirement {
        scopes: ScopeRule::all(vec!["chat:read".to_owned()]),
        ..Requirement::any_token(vec![Arc::new(issuer)])
    };
    let token = Token::parse(token.as_bytes())?;
    // Nobody is waited for: the answer is there.
    let now = || UNIX_EPOCH + Duration::from_secs(NOW);
    match pin!(gate.authenticate(&token, now)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => unreachable!("it waits for somebody"),
    }
}
