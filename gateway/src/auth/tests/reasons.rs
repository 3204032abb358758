//! One promise for each reason that a token can give.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::*;
use crate::auth::introspection::{Answered, Introspect, Introspected};
use crate::auth::keys::KeySet;
use crate::auth::revocation::{InForce, Revocation, Revocations, Revoked};
use crate::auth::{Check, Step};
use crate::config::{ClaimPath, ClaimRule, ClaimTest, ClaimValue};
use crate::rejection::Layer;

const PUBLIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

#[test]
fn a_good_token_is_admitted_with_each_public_key_algorithm() {
    let mut rules = rules();
    rules.algorithms = PUBLIC.to_vec();
    let gate = requirement(vec![Issuer::new(rules, keys(&Signer::ALL.map(Signer::jwk)))], &["chat:read"]);
    for algorithm in PUBLIC {
        let identity = judge(&gate, &Forge::new(algorithm).token()).unwrap();
        assert_eq!(identity.issuer, "main");
        assert_eq!(identity.subject, "alice");
        assert_eq!(identity.scopes, ["chat:read", "chat:write"]);
        assert_eq!(identity.expires, NOW + 600);
        assert_eq!(identity.accepted_until, NOW + 600 + LEEWAY);
        assert_eq!(identity.token_id.as_deref(), Some("id-1"));
    }
}

#[test]
fn an_hmac_token_is_admitted_with_each_algorithm_that_the_secret_is_long_enough_for() {
    let algorithms = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    for (secret, good) in [(&forge::SECRET[..32], 1), (&forge::SECRET[..48], 2), (forge::SECRET, 3)] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, secret).unwrap();
        let loaded = KeySet::load(&KeySource::Secret(file.path().to_owned()), 1024).unwrap();
        let mut rules = rules();
        rules.algorithms = algorithms.to_vec();
        let gate = requirement(vec![Issuer::new(rules, Arc::new(loaded.keys))], &[]);
        for (index, algorithm) in algorithms.into_iter().enumerate() {
            let token = Forge::new(algorithm).hmac(secret);
            if index < good {
                assert_eq!(judge(&gate, &token).unwrap().subject, "alice");
            } else {
                rejected(&gate, &token, Reason::CredentialsUnknownKey);
            }
        }
    }
}

#[test]
fn a_token_without_a_key_id_is_tried_with_every_key_that_fits() {
    let other = Signer::P256.members();
    let entries = [Signer::P384.jwk(), other.to_string(), Signer::Ed25519.jwk()];
    let gate = requirement(vec![Issuer::new(rules(), keys(&entries))], &[]);
    assert!(judge(&gate, &Forge::good().without_header("kid").token()).is_ok());
    assert!(judge(&gate, &Forge::new(Algorithm::ES256).without_header("kid").token()).is_ok());
    // A key without a name fits a token with any.
    assert!(judge(&gate, &Forge::new(Algorithm::ES256).header("kid", "new").token()).is_ok());
}

#[test]
fn an_audience_in_a_list_is_found() {
    assert!(judge(&gate(), &Forge::good().claim("aud", json!(["other", "gate"])).token()).is_ok());
}

#[test]
fn an_opaque_or_encrypted_token_is_malformed_and_says_so() {
    let detail = |token| rejected(&gate(), token, Reason::CredentialsMalformed).detail.unwrap();
    assert!(detail("v2~opaque").contains("opaque"));
    assert!(detail("a.b.c.d.e").contains("JWE"));
    for token in ["a.b", "a.b.c.d", "..", ".", "a..c"] {
        rejected(&gate(), token, Reason::CredentialsMalformed);
    }
}

#[test]
fn an_algorithm_that_the_issuer_does_not_accept_is_refused_and_its_list_stays_in_the_journal() {
    let rejection = rejected(&gate(), &Forge::new(Algorithm::RS512).token(), Reason::CredentialsAlgorithm);
    assert_eq!(rejection.issuer.as_deref(), Some("main"));
    assert!(rejection.note.unwrap().contains("RS256"));
    assert!(rejection.detail.is_none());
}

#[test]
fn an_unknown_issuer_is_refused_as_such_and_named_in_the_journal_only() {
    let token = Forge::good().claim("iss", "https://evil.example").token();
    let rejection = rejected(&gate(), &token, Reason::CredentialsUnknownIssuer);
    assert!(rejection.note.unwrap().contains("https://evil.example"));
    assert!(rejection.detail.is_none() && rejection.issuer.is_none() && rejection.subject.is_none());
    rejected(
        &gate(),
        &Forge::good().claim("iss", "https://idp.example/").token(),
        Reason::CredentialsUnknownIssuer,
    );
    rejected(&requirement(Vec::new(), &[]), &Forge::good().token(), Reason::CredentialsUnknownIssuer);
}

#[test]
fn an_unknown_key_is_told_from_a_wrong_signature() {
    let rejection =
        rejected(&gate(), &Forge::good().header("kid", "gone").token(), Reason::CredentialsUnknownKey);
    assert!(rejection.note.unwrap().contains("gone"));
    assert!(rejection.detail.is_none());

    let token = Forge::good().token();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let other = Forge::good().claim("sub", "mallory").token();
    let (_, stolen) = other.rsplit_once('.').unwrap();
    assert_ne!(signature, stolen);
    let rejection = rejected(&gate(), &format!("{message}.{stolen}"), Reason::CredentialsBadSignature);
    assert_eq!(rejection.issuer.as_deref(), Some("main"));
    assert!(rejection.subject.is_none(), "an unverified subject is reported");
}

#[test]
fn an_empty_key_set_is_an_outage_of_ours_whatever_is_wrong_with_the_token() {
    let gate = requirement(vec![Issuer::new(rules(), Arc::new(KeySet::default()))], &[]);
    for token in [Forge::good(), Forge::good().header("kid", "gone"), Forge::good().claim("exp", 1)] {
        let rejection = rejected(&gate, &token.token(), Reason::AuthSystemKeysUnavailable);
        assert!(rejection.retry_after.is_some());
        assert_eq!(rejection.issuer.as_deref(), Some("main"));
    }
}

#[test]
fn a_token_of_another_type_is_refused() {
    for forge in [
        Forge::good().header("typ", "JWT"),
        Forge::good().header("typ", "id+jwt"),
        Forge::good().header("typ", "text/at+jwt"),
        Forge::good().without_header("typ"),
    ] {
        let rejection = rejected(&gate(), &forge.token(), Reason::CredentialsWrongType);
        assert_eq!(rejection.subject.as_deref(), Some("alice"));
        assert!(rejection.note.unwrap().contains("at+jwt"));
    }
    for typ in ["AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        assert!(judge(&gate(), &Forge::good().header("typ", typ).token()).is_ok(), "{typ}");
    }
}

#[test]
fn the_type_can_be_relaxed_for_an_issuer() {
    let mut rules = rules();
    rules.typ = None;
    let gate = requirement(vec![Issuer::new(rules, keys(&[Signer::Ed25519.jwk()]))], &[]);
    assert!(judge(&gate, &Forge::good().without_header("typ").token()).is_ok());
    assert!(judge(&gate, &Forge::good().header("typ", "JWT").token()).is_ok());
}

#[test]
fn a_missing_claim_is_named() {
    for claim in ["iss", "sub", "aud", "exp"] {
        let rejection =
            rejected(&gate(), &Forge::good().without(claim).token(), Reason::CredentialsMissingClaim);
        assert!(rejection.detail.unwrap().contains(claim));
    }
    rejected(&gate(), &Forge::good().claim("sub", "").token(), Reason::CredentialsMissingClaim);
}

#[test]
fn a_claim_of_another_type_is_malformed() {
    for (name, value) in [
        ("iss", json!(1)),
        ("sub", json!(["alice"])),
        ("sub", json!("a\r\nX-Admin: 1")),
        ("sub", json!("a".repeat(2000))),
        ("aud", json!({"a": 1})),
        ("aud", json!(["gate", 1])),
        ("exp", json!((NOW + 600).to_string())),
        ("exp", json!(null)),
        ("exp", json!((NOW + 600) * 1000)),
        ("exp", json!(-1)),
        ("nbf", json!("soon")),
        ("jti", json!(7)),
        ("scope", json!(7)),
    ] {
        let token = Forge::good().claim(name, value.clone()).token();
        let rejection = rejected(&gate(), &token, Reason::CredentialsMalformed);
        assert!(rejection.detail.unwrap().contains(name), "{name}: {value}");
    }
}

#[test]
fn a_token_for_another_service_is_refused_and_ours_is_not_told() {
    for audience in [json!("https://other.example"), json!(["a", "b"]), json!([]), json!("GATE")] {
        let token = Forge::good().claim("aud", audience).token();
        let rejection = rejected(&gate(), &token, Reason::CredentialsWrongAudience);
        assert!(rejection.note.unwrap().contains("https://gw.example"));
        assert!(rejection.detail.is_none());
    }
}

#[test]
fn a_token_is_good_from_nbf_less_the_leeway() {
    assert!(judge(&gate(), &Forge::good().claim("nbf", NOW + LEEWAY).token()).is_ok());
    let rejection = rejected(
        &gate(),
        &Forge::good().claim("nbf", NOW + LEEWAY + 1).token(),
        Reason::CredentialsNotYetValid,
    );
    assert_eq!(rejection.detail.as_deref(), Some("The token becomes valid in 31 s."));
    rejected(&gate(), &Forge::good().claim("nbf", NOW as f64 + 30.5).token(), Reason::CredentialsNotYetValid);
}

#[test]
fn an_expired_token_is_refused_as_expiry_and_says_since_when() {
    assert!(judge(&gate(), &Forge::good().claim("exp", NOW - LEEWAY + 1).token()).is_ok());
    let rejection = rejected(&gate(), &Forge::good().claim("exp", NOW - 42).token(), Reason::ExpiryExpired);
    assert_eq!(rejection.detail.as_deref(), Some("The token expired 42 s ago."));
    assert_eq!(rejection.reason.layer(), Layer::Expiry);
    assert_eq!(rejection.subject.as_deref(), Some("alice"));
    rejected(&gate(), &Forge::good().claim("exp", NOW - LEEWAY).token(), Reason::ExpiryExpired);
    rejected(&gate(), &Forge::good().claim("exp", 0).token(), Reason::ExpiryExpired);
    let fraction = (NOW - LEEWAY) as f64 + 0.5;
    rejected(&gate(), &Forge::good().claim("exp", fraction).token(), Reason::ExpiryExpired);
}

#[test]
fn a_missing_scope_is_refused_with_the_scopes_to_ask_for() {
    let gate =
        requirement(vec![Issuer::new(rules(), keys(&[Signer::Ed25519.jwk()]))], &["chat:read", "chat:admin"]);
    let rejection = rejected(&gate, &Forge::good().token(), Reason::ScopeInsufficient);
    assert_eq!(rejection.scope.as_deref(), Some("chat:read chat:admin"));
    assert_eq!(rejection.detail.as_deref(), Some("The token lacks the scope chat:admin."));
    assert_eq!(rejection.subject.as_deref(), Some("alice"));
    rejected(&gate, &Forge::good().without("scope").token(), Reason::ScopeInsufficient);
}

#[test]
fn of_two_faults_the_earlier_check_answers() {
    let forge = Forge::good().claim("exp", 1).claim("aud", "other").without("scope");
    rejected(&gate(), &forge.token(), Reason::CredentialsWrongAudience);
    rejected(&gate(), &forge.clone().header("typ", "JWT").token(), Reason::CredentialsWrongType);
    let unsigned = forge.token().rsplit_once('.').unwrap().0.to_owned() + ".AAAA";
    rejected(&gate(), &unsigned, Reason::CredentialsBadSignature);
    rejected(&gate(), &Forge::good().claim("exp", 1).without("scope").token(), Reason::ExpiryExpired);
}

#[test]
fn issuers_with_the_same_iss_are_told_apart_by_their_keys() {
    let named = |name: &str, audience: &str, key: Signer| {
        let mut rules = rules();
        rules.name = name.to_owned();
        rules.audience = vec![audience.to_owned()];
        Issuer::new(rules, keys(&[key.jwk()]))
    };
    let gate = requirement(
        vec![
            named("one", "a", Signer::Ed25519),
            named("two", "b", Signer::P256),
            named("three", "c", Signer::P256),
        ],
        &[],
    );
    let token = |algorithm, audience: &str| Forge::new(algorithm).claim("aud", audience).token();
    assert_eq!(judge(&gate, &token(Algorithm::EdDSA, "a")).unwrap().issuer, "one");
    assert_eq!(judge(&gate, &token(Algorithm::ES256, "b")).unwrap().issuer, "two");
    assert_eq!(judge(&gate, &token(Algorithm::ES256, "c")).unwrap().issuer, "three");
    // The key of one says nothing for the audience of another.
    let rejection = rejected(&gate, &token(Algorithm::EdDSA, "b"), Reason::CredentialsWrongAudience);
    assert_eq!(rejection.issuer.as_deref(), Some("one"));
    rejected(&gate, &token(Algorithm::ES384, "a"), Reason::CredentialsUnknownKey);
}

#[test]
fn an_outage_of_one_of_two_issuers_is_not_blamed_on_the_client() {
    let gate = requirement(
        vec![
            Issuer::new(rules(), Arc::new(KeySet::default())),
            Issuer::new(rules(), keys(&[Signer::P256.jwk()])),
        ],
        &[],
    );
    rejected(&gate, &Forge::good().token(), Reason::AuthSystemKeysUnavailable);
    assert!(judge(&gate, &Forge::new(Algorithm::ES256).token()).is_ok());
    rejected(&gate, &Forge::new(Algorithm::ES256).claim("exp", 1).token(), Reason::ExpiryExpired);
}

#[test]
fn an_explanation_names_every_check_up_to_the_one_that_decides() {
    let explain = |forge: Forge| {
        let token = Token::parse(forge.token().as_bytes()).unwrap();
        gate().explain(&token, now())
    };
    let steps = |checks: &[Check]| checks.iter().map(|check| check.step).collect::<Vec<_>>();

    let admitted = explain(Forge::good());
    assert!(admitted.outcome.is_ok() && admitted.failed.is_none());
    assert!(admitted.checks.iter().all(|check| check.passed));
    assert_eq!(steps(&admitted.checks), Step::ALL);
    assert_eq!(admitted.contents.unwrap().claims["sub"], "alice");

    for (forge, failed, reason) in [
        (Forge::good().header("crit", json!([])), Step::Form, Reason::CredentialsMalformed),
        (Forge::good().claim("iss", "x"), Step::Issuer, Reason::CredentialsUnknownIssuer),
        (Forge::new(Algorithm::RS384), Step::Algorithm, Reason::CredentialsAlgorithm),
        (Forge::good().header("kid", "x"), Step::Key, Reason::CredentialsUnknownKey),
        (Forge::good().header("typ", "JWT"), Step::Type, Reason::CredentialsWrongType),
        (Forge::good().without("jti"), Step::Claims, Reason::CredentialsMissingClaim),
        (Forge::good().claim("cnf", json!({"jkt": "x"})), Step::Binding, Reason::CredentialsBound),
        (Forge::good().claim("aud", "x"), Step::Audience, Reason::CredentialsWrongAudience),
        (Forge::good().claim("nbf", NOW + 100), Step::NotYet, Reason::CredentialsNotYetValid),
        (Forge::good().claim("exp", NOW - 100), Step::Expiry, Reason::ExpiryExpired),
        (Forge::good().claim("scope", "x"), Step::Scopes, Reason::ScopeInsufficient),
    ] {
        let explanation = explain(forge);
        assert_eq!(explanation.outcome.unwrap_err().reason, reason);
        assert_eq!(explanation.failed, Some(failed), "{reason}");
        let before: Vec<Step> = Step::ALL.into_iter().filter(|step| *step < failed).collect();
        assert_eq!(steps(&explanation.checks), before, "{reason}");
    }
    let forged = Token::parse(Forge::good().unsigned().as_bytes()).unwrap();
    assert_eq!(gate().explain(&forged, now()).failed, Some(Step::Signature));
}

#[test]
fn a_clock_before_the_epoch_admits_nothing_that_has_a_beginning() {
    let token = Token::parse(Forge::good().claim("nbf", NOW).token().as_bytes()).unwrap();
    let rejection = gate().judge(&token, UNIX_EPOCH - Duration::from_secs(1)).unwrap_err();
    assert_eq!(rejection.reason, Reason::CredentialsNotYetValid);
}

#[test]
fn algorithms_that_no_key_is_for_are_reported() {
    let mut rules = rules();
    rules.algorithms = vec![Algorithm::RS256];
    let issuer = Issuer::new(rules.clone(), keys(&[Signer::P256.jwk()]));
    assert!(issuer.mismatch().unwrap().contains("main"));
    assert!(Issuer::new(rules.clone(), keys(&[Signer::P256.jwk(), Signer::Rsa.jwk()])).mismatch().is_none());
    assert!(Issuer::new(rules, Arc::new(KeySet::default())).mismatch().is_none());
}

#[test]
fn an_issuer_can_demand_claims_values_and_a_short_life() {
    let mut rules = rules();
    rules.require = vec![ClaimTest {
        claim: ClaimPath(vec!["org".to_owned(), "tenant".to_owned()]),
        values: vec![ClaimValue::Text("acme".to_owned())],
    }];
    rules.max_lifetime = Some(Duration::from_secs(600));
    let gate = requirement(vec![Issuer::new(rules, keys(&Signer::ALL.map(Signer::jwk)))], &[]);
    let good = Forge::good().claim("org", json!({"tenant": "acme"})).claim("iat", NOW);
    assert!(judge(&gate, &good.token()).is_ok());
    rejected(&gate, &good.clone().claim("iat", NOW - 1).token(), Reason::CredentialsLifetime);
    rejected(&gate, &good.clone().without("org").token(), Reason::CredentialsMissingClaim);
    let other = good.claim("org", json!({"tenant": "other"}));
    let rejection = rejected(&gate, &other.token(), Reason::CredentialsWrongClaim);
    assert!(rejection.detail.is_none() && rejection.note.unwrap().contains("acme"));
}

#[test]
fn the_plain_profile_asks_for_less_and_takes_any_type() {
    let mut rules = rules();
    rules.profile = Profile::Jwt;
    rules.typ = None;
    let gate = requirement(vec![Issuer::new(rules, keys(&Signer::ALL.map(Signer::jwk)))], &[]);
    let plain = Forge::good().without("jti").without("client_id").without("iat").header("typ", "JWT");
    assert!(judge(&gate, &plain.token()).is_ok());
    rejected(&gate, &plain.without("sub").token(), Reason::CredentialsMissingClaim);
}

#[test]
fn a_bound_token_is_refused_and_one_from_the_future_tells_of_a_wrong_clock() {
    rejected(&gate(), &Forge::good().claim("cnf", json!({"jkt": "x"})).token(), Reason::CredentialsBound);
    let rejection =
        rejected(&gate(), &Forge::good().claim("iat", NOW + 300).token(), Reason::CredentialsNotYetValid);
    let detail = rejection.detail.unwrap();
    assert!(detail.contains("5 min") && detail.contains("clock"), "{detail}");
}

#[test]
fn a_sign_in_that_is_too_long_ago_is_refused_and_the_challenge_says_so() {
    let gate = Requirement { max_age: Some(Duration::from_secs(3600)), ..gate() };
    let signed_in = |ago: u64| Forge::good().claim("auth_time", NOW - ago).token();
    assert!(judge(&gate, &signed_in(3600 + LEEWAY)).is_ok());
    let rejection = rejected(&gate, &signed_in(3600 + LEEWAY + 1), Reason::ExpirySignIn);
    let answer = crate::rejection::http::response(&rejection, crate::audit::HandshakeId::new([0; 10]), now());
    let head = String::from_utf8(answer.head().to_vec()).unwrap();
    assert!(
        head.contains("error=\"insufficient_user_authentication\"") && head.contains("max_age=\"3600\""),
        "{head}"
    );
    rejected(&gate, &Forge::good().token(), Reason::CredentialsMissingClaim);
}

#[test]
fn claims_of_a_route_are_judged_after_its_scopes() {
    let test = |claim: &str, value: &str| ClaimTest {
        claim: ClaimPath(vec![claim.to_owned()]),
        values: vec![ClaimValue::Text(value.to_owned())],
    };
    let rule = ClaimRule {
        all: vec![test("tenant", "acme")],
        none: vec![test("plan", "free")],
        ..ClaimRule::default()
    };
    let gate = Requirement { claims: rule, ..gate() };
    let good = Forge::good().claim("tenant", "acme").claim("plan", "paid");
    assert!(judge(&gate, &good.token()).is_ok());
    rejected(&gate, &good.clone().claim("plan", "free").token(), Reason::ScopeInsufficientClaims);
    rejected(&gate, &good.clone().without("plan").token(), Reason::ScopeInsufficientClaims);
    rejected(&gate, &good.claim("plan", "free").claim("scope", "").token(), Reason::ScopeInsufficient);
}

#[test]
fn a_revoked_key_revokes_its_tokens_whether_they_name_it_or_not() {
    let gate = gate();
    let named = Forge::good().token();
    let unnamed = Forge::good().without_header("kid").token();
    for token in [&named, &unnamed, &named, &unnamed] {
        assert!(judge(&gate, token).is_ok());
    }
    let key = Revocation {
        revoked: Revoked::Key(Signer::Ed25519.id().to_owned()),
        issuer: None,
        until: None,
        note: None,
    };
    let gate = Requirement { revocations: InForce::default(), ..gate };
    gate.revocations.set(Revocations::new([key], now()));
    for token in [&named, &unnamed] {
        rejected(&gate, token, Reason::CredentialsRevoked);
    }
    assert!(judge(&gate, &Forge::new(Algorithm::ES256).token()).is_ok(), "another key");
}

/// Says of every token that it is good, and counts the questions.
#[derive(Debug, Default)]
struct Oracle(AtomicUsize);

impl Introspect for Oracle {
    fn introspect<'a>(&'a self, _: &'a Token) -> Answered<'a> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let body = format!(
            "{{\"active\":true,\"sub\":\"alice\",\"aud\":\"gate\",\"exp\":{},\"scope\":\"chat:read\"}}",
            NOW + 60
        );
        Box::pin(async move { Ok(Introspected::parse(body.as_bytes()).unwrap()) })
    }
}

#[tokio::test]
async fn a_jwt_is_shown_to_nobody_but_the_issuer_that_it_names() {
    let oracle = Arc::new(Oracle::default());
    let mut other = rules();
    other.issuer = "https://opaque.example".to_owned();
    other.keys = KeySource::Nothing;
    let asked: Arc<dyn Introspect> = oracle.clone();
    let opaque = Issuer::new(other, Arc::new(KeySet::default())).asked_by(Some(asked));
    let own = Issuer::new(rules(), keys(&Signer::ALL.map(Signer::jwk)));
    let gate = requirement(vec![opaque, own], &["chat:read"]);
    let judge = async |token: &str| {
        let token = Token::parse(token.as_bytes()).unwrap();
        gate.authenticate(&token, now).await
    };
    let questions = || oracle.0.load(Ordering::Relaxed);
    assert_eq!(judge(&Forge::good().token()).await.unwrap().issuer, "main");
    let forged = judge(&Forge::good().unsigned()).await.unwrap_err();
    assert_eq!((forged.reason, questions()), (Reason::CredentialsBadSignature, 0));
    assert!(judge(&Forge::good().claim("iss", "https://opaque.example").token()).await.is_ok());
    assert!(judge("opaque").await.is_ok());
    assert_eq!(questions(), 2);
}
