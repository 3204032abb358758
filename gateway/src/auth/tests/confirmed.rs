//! JWTs of an issuer that is asked about them although it has keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::auth::Identity;
use crate::auth::introspection::{Answered, Introspect, Introspected, Outage};
use crate::config::{Asked, ClientAuth, Introspection};

/// Says the same of every token, and counts the questions; nothing: it is down.
#[derive(Debug)]
struct Oracle(Option<String>, AtomicUsize);

impl Introspect for Oracle {
    fn introspect<'a>(&'a self, _: &'a Token) -> Answered<'a> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let outage = || Outage { note: "down".to_owned(), retry_after: Duration::from_secs(7) };
            let body = self.0.as_ref().ok_or_else(outage)?;
            Ok(Introspected::parse(body.as_bytes()).unwrap())
        })
    }
}

fn asking(asked: Asked) -> config::Issuer {
    let introspection = Introspection {
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
    };
    config::Issuer { introspection: Some(introspection), ..rules() }
}

/// What becomes of `token` at an issuer that says `answer`, and how often it was asked.
async fn judged(
    asked: Asked,
    answer: Option<&str>,
    token: &str,
) -> (Result<Identity, Box<Rejection>>, usize) {
    let oracle = Arc::new(Oracle(answer.map(str::to_owned), AtomicUsize::new(0)));
    let introspector: Arc<dyn Introspect> = oracle.clone();
    let issuer = Issuer::new(asking(asked), keys(&Signer::ALL.map(Signer::jwk))).asked_by(Some(introspector));
    let gate = requirement(vec![issuer], &["chat:read"]);
    let outcome = gate.authenticate(&Token::parse(token.as_bytes()).unwrap(), now).await;
    (outcome, oracle.1.load(Ordering::Relaxed))
}

async fn always(answer: &str) -> Result<Identity, Reason> {
    let (outcome, questions) = judged(Asked::Always, Some(answer), &Forge::good().token()).await;
    assert_eq!(questions, 1);
    outcome.map_err(|rejection| {
        assert_eq!(rejection.issuer.as_deref(), Some("main"));
        rejection.reason
    })
}

#[tokio::test]
async fn a_good_jwt_is_asked_about_only_where_the_issuer_is_always_asked() {
    let token = Forge::good().token();
    let (outcome, questions) = judged(Asked::Opaque, Some("{\"active\":false}"), &token).await;
    assert_eq!((outcome.is_ok(), questions), (true, 0));
    assert_eq!(always("{\"active\":false}").await, Err(Reason::CredentialsInactive));
    assert!(always("{\"active\":true}").await.is_ok());
}

#[tokio::test]
async fn a_bad_jwt_is_refused_before_anybody_is_asked() {
    for token in [Forge::good().unsigned(), Forge::good().claim("exp", NOW - 3600).token()] {
        let (outcome, questions) = judged(Asked::Always, Some("{\"active\":true}"), &token).await;
        assert_eq!((outcome.is_err(), questions), (true, 0));
    }
}

#[tokio::test]
async fn an_issuer_that_contradicts_its_own_token_is_no_fault_of_the_client() {
    let subject = always("{\"active\":true}").await.unwrap().subject;
    assert!(always(&format!("{{\"active\":true,\"sub\":\"{subject}\"}}")).await.is_ok());
    for answer in [
        "{\"active\":true,\"sub\":\"somebody-else\"}",
        "{\"active\":true,\"iss\":\"https://other.example\"}",
        "{\"active\":true,\"sub\":7}",
        "{\"active\":true,\"exp\":\"soon\"}",
    ] {
        let expected = Reason::AuthSystemIntrospectionUnavailable;
        assert_eq!(always(answer).await, Err(expected), "{answer}");
    }
}

#[tokio::test]
async fn an_issuer_can_cut_the_life_of_its_token_short_and_not_make_it_longer() {
    let own = always("{\"active\":true}").await.unwrap();
    let shorter = always(&format!("{{\"active\":true,\"exp\":{}}}", NOW + 5)).await.unwrap();
    assert!(shorter.expires == NOW + 5 && shorter.accepted_until < own.accepted_until);
    let longer = always(&format!("{{\"active\":true,\"exp\":{}}}", NOW + 999_999)).await.unwrap();
    assert_eq!((longer.expires, longer.accepted_until), (own.expires, own.accepted_until));
    let gone = always(&format!("{{\"active\":true,\"exp\":{}}}", NOW - 3600)).await;
    assert_eq!(gone, Err(Reason::ExpiryExpired));
}

#[tokio::test]
async fn an_issuer_that_is_down_cannot_confirm_a_token_and_the_client_is_not_blamed() {
    let (outcome, _) = judged(Asked::Always, None, &Forge::good().token()).await;
    let rejection = outcome.unwrap_err();
    assert_eq!(rejection.reason, Reason::AuthSystemIntrospectionUnavailable);
    assert_eq!(rejection.retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn an_issuer_that_nobody_can_ask_confirms_nothing() {
    let issuer = Issuer::new(asking(Asked::Always), keys(&Signer::ALL.map(Signer::jwk)));
    let gate = requirement(vec![issuer], &["chat:read"]);
    let token = Token::parse(Forge::good().token().as_bytes()).unwrap();
    let rejection = gate.authenticate(&token, now).await.unwrap_err();
    assert_eq!(rejection.reason, Reason::AuthSystemIntrospectionUnavailable);
}
