//! Tokens of an issuer whose keys are fetched.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use super::*;
use crate::auth::{LiveKeys, Refresh, Refreshed};

const MAX_STALE: u64 = 1000;

/// An issuer that answers as it was told to, and then not at all.
#[derive(Debug)]
struct Told {
    keys: Arc<LiveKeys>,
    answers: Mutex<Vec<(Refreshed, Option<Signer>)>>,
    asked: Mutex<Vec<String>>,
}

impl Refresh for Told {
    fn refresh<'a>(&'a self, key: &'a str) -> Pin<Box<dyn Future<Output = Refreshed> + Send + 'a>> {
        self.asked.lock().unwrap().push(key.to_owned());
        let mut answers = self.answers.lock().unwrap();
        assert!(!answers.is_empty(), "it was asked once too often");
        let (answer, fresh) = answers.remove(0);
        if let Some(signer) = fresh {
            self.keys.put(keys(&[signer.jwk()]), NOW);
        }
        Box::pin(std::future::ready(answer))
    }
}

/// A gate that knows `known`, and its issuer, which answers with `answers`.
fn gate_of(known: &[Signer], answers: &[(Refreshed, Option<Signer>)]) -> (Requirement, Arc<Told>) {
    let live = Arc::new(LiveKeys::new(Duration::from_secs(MAX_STALE)));
    if !known.is_empty() {
        let known: Vec<String> = known.iter().map(|signer| signer.jwk()).collect();
        live.put(keys(&known), NOW);
    }
    let told = Arc::new(Told {
        keys: Arc::clone(&live),
        answers: Mutex::new(answers.to_vec()),
        asked: Mutex::default(),
    });
    live.asked_by(told.clone());
    (requirement(vec![Issuer::live(rules(), live)], &["chat:read"]), told)
}

fn token(algorithm: Algorithm) -> Token {
    Token::parse(Forge::new(algorithm).token().as_bytes()).unwrap()
}

const DOWN: Refreshed = Refreshed::Unknown { retry_after: Duration::from_secs(7) };

#[tokio::test]
async fn a_token_with_a_known_key_asks_nobody() {
    let (gate, told) = gate_of(&[Signer::P256], &[]);
    assert!(gate.authenticate(&token(Algorithm::ES256), now).await.is_ok());
    assert!(told.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_token_with_a_brand_new_key_is_admitted_once_the_issuer_was_asked() {
    let (gate, told) = gate_of(&[Signer::P256], &[(Refreshed::Current, Some(Signer::Ed25519))]);
    assert!(gate.authenticate(&token(Algorithm::EdDSA), now).await.is_ok());
    let expected = format!("EdDSA ed25519 {}", token(Algorithm::EdDSA).as_str());
    assert_eq!(*told.asked.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn a_key_that_the_issuer_does_not_have_is_the_clients_fault() {
    let (gate, _) = gate_of(&[Signer::P256], &[(Refreshed::Current, None)]);
    let rejection = gate.authenticate(&token(Algorithm::EdDSA), now).await.unwrap_err();
    assert_eq!(rejection.reason, Reason::CredentialsUnknownKey);
}

#[tokio::test]
async fn an_unknown_key_of_an_issuer_that_is_down_is_our_outage() {
    let (gate, _) = gate_of(&[Signer::P256], &[(DOWN, None)]);
    let rejection = gate.authenticate(&token(Algorithm::EdDSA), now).await.unwrap_err();
    assert_eq!(rejection.reason, Reason::AuthSystemKeysUnavailable);
    assert_eq!(rejection.retry_after, Some(Duration::from_secs(7)));
    assert_eq!(rejection.issuer.as_deref(), Some("main"));
    assert!(rejection.detail.is_none() && rejection.note.unwrap().contains("ed25519"));
}

#[tokio::test]
async fn what_was_asked_before_the_token_came_is_asked_once_more() {
    let answers = [(Refreshed::Earlier, None), (Refreshed::Current, Some(Signer::Ed25519))];
    let (gate, told) = gate_of(&[Signer::P256], &answers);
    assert!(gate.authenticate(&token(Algorithm::EdDSA), now).await.is_ok());
    assert_eq!(told.asked.lock().unwrap().len(), 2);
    let (gate, told) = gate_of(&[Signer::P256], &[(Refreshed::Earlier, None), (Refreshed::Earlier, None)]);
    let rejection = gate.authenticate(&token(Algorithm::EdDSA), now).await.unwrap_err();
    assert_eq!(rejection.reason, Reason::CredentialsUnknownKey);
    assert_eq!(told.asked.lock().unwrap().len(), 2, "and not for ever");
}

#[tokio::test]
async fn an_issuer_without_any_key_is_asked_before_anybody_is_turned_away() {
    let (gate, _) = gate_of(&[], &[(Refreshed::Earlier, Some(Signer::P256))]);
    assert!(gate.authenticate(&token(Algorithm::ES256), now).await.is_ok());
    let (gate, _) = gate_of(&[], &[(DOWN, None)]);
    let rejection = gate.authenticate(&token(Algorithm::ES256), now).await.unwrap_err();
    assert_eq!(rejection.reason, Reason::AuthSystemKeysUnavailable);
}

#[tokio::test]
async fn keys_that_are_too_old_are_an_outage_even_for_a_good_token() {
    let late = || now() + Duration::from_secs(MAX_STALE + 1);
    let token = Forge::new(Algorithm::ES256).claim("exp", serde_json::json!(NOW + 9999)).token();
    let token = Token::parse(token.as_bytes()).unwrap();
    let (gate, _) = gate_of(&[Signer::P256], &[(DOWN, None)]);
    let rejection = gate.authenticate(&token, late).await.unwrap_err();
    assert_eq!(rejection.reason, Reason::AuthSystemKeysStale);
    assert!(rejection.retry_after.is_some());
}

#[tokio::test]
async fn a_token_that_is_wrong_in_itself_asks_nobody() {
    let (gate, told) = gate_of(&[Signer::P256], &[]);
    let good = Forge::new(Algorithm::ES256).token();
    let (signed, _) = good.rsplit_once('.').unwrap();
    for (token, reason) in [
        (format!("{signed}.AAAA"), Reason::CredentialsBadSignature),
        (Forge::new(Algorithm::RS384).token(), Reason::CredentialsAlgorithm),
        (
            Forge::new(Algorithm::ES256).claim("iss", serde_json::json!("x")).token(),
            Reason::CredentialsUnknownIssuer,
        ),
    ] {
        let token = Token::parse(token.as_bytes()).unwrap();
        assert_eq!(gate.authenticate(&token, now).await.unwrap_err().reason, reason);
    }
    assert!(told.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_bad_signature_at_one_issuer_does_not_hide_that_another_was_not_asked() {
    let (live, told) = gate_of(&[Signer::P256], &[(DOWN, None)]);
    let rules = config::Issuer { name: "twin".to_owned(), ..rules() };
    // Its key has no name, so it is tried for every token, and did not make this one.
    let twin = Issuer::new(
        rules,
        keys(&[serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        })
        .to_string()]),
    );
    let gate = Requirement { issuers: [live.issuers, vec![Arc::new(twin)]].concat(), ..live };
    let rejection = gate.authenticate(&token(Algorithm::EdDSA), now).await.unwrap_err();
    assert_eq!(rejection.reason, Reason::AuthSystemKeysUnavailable);
    assert_eq!(told.asked.lock().unwrap().len(), 1);
}
