//! Tokens that come again: the signature is verified once, everything else each time.

use super::*;
use crate::auth::jws::Jws;
use crate::auth::keys::KeySet as Keys;

fn all_keys() -> Arc<Keys> {
    keys(&Signer::ALL.map(Signer::jwk))
}

fn gate_of(keys: &Arc<Keys>, scopes: &[&str]) -> Requirement {
    requirement(vec![Issuer::new(rules(), Arc::clone(keys))], scopes)
}

fn parsed(token: &str) -> Token {
    Token::parse(token.as_bytes()).unwrap()
}

#[test]
fn a_token_that_comes_again_is_not_verified_again() {
    let keys = all_keys();
    let gate = gate_of(&keys, &["chat:read"]);
    let token = Forge::good().token();
    assert!(keys.verified(&parsed(&token)).is_none());
    let first = judge(&gate, &token).unwrap();
    assert!(keys.verified(&parsed(&token)).is_some());
    assert_eq!(judge(&gate, &token).unwrap(), first);
    // Only somebody who does not look at the signature takes this one.
    let forged = Forge::good().unsigned();
    rejected(&gate, &forged, Reason::CredentialsBadSignature);
    let forged = parsed(&forged);
    keys.remember(&Jws::parse(&forged).unwrap());
    assert!(gate.judge(&forged, now()).is_ok());
}

#[test]
fn a_token_with_a_bad_signature_is_not_remembered() {
    let keys = all_keys();
    let gate = gate_of(&keys, &[]);
    let forged = Forge::good().unsigned();
    for _ in 0..2 {
        rejected(&gate, &forged, Reason::CredentialsBadSignature);
        assert!(keys.verified(&parsed(&forged)).is_none());
    }
}

#[test]
fn a_remembered_token_expires() {
    let gate = gate_of(&all_keys(), &[]);
    let token = parsed(&Forge::good().claim("exp", NOW + 10).token());
    assert!(gate.judge(&token, now()).is_ok());
    let late = now() + Duration::from_secs(10 + LEEWAY);
    assert_eq!(gate.judge(&token, late).unwrap_err().reason, Reason::ExpiryExpired);
    assert!(gate.judge(&token, late - Duration::from_secs(1)).is_ok());
}

#[test]
fn a_remembered_token_is_judged_by_the_rules_of_each_route_and_issuer() {
    let keys = all_keys();
    let token = Forge::good().token();
    assert!(judge(&gate_of(&keys, &["chat:read"]), &token).is_ok());
    rejected(&gate_of(&keys, &["other"]), &token, Reason::ScopeInsufficient);
    let with = |rules| requirement(vec![Issuer::new(rules, Arc::clone(&keys))], &[]);
    let elsewhere = config::Issuer { audience: vec!["elsewhere".to_owned()], ..rules() };
    rejected(&with(elsewhere), &token, Reason::CredentialsWrongAudience);
    let stranger = config::Issuer { issuer: "https://stranger.example".to_owned(), ..rules() };
    rejected(&with(stranger), &token, Reason::CredentialsUnknownIssuer);
    let only_rsa = config::Issuer { algorithms: vec![Algorithm::PS512], ..rules() };
    rejected(&with(only_rsa), &token, Reason::CredentialsAlgorithm);
}

#[test]
fn what_old_keys_verified_is_refused_by_new_ones() {
    let token = Forge::good().token();
    assert!(judge(&gate_of(&all_keys(), &[]), &token).is_ok());
    // The next key set of the issuer has not the key that signed it any more.
    let algorithm = Forge::good().header_json();
    let rotated: Vec<String> = Signer::ALL
        .into_iter()
        .filter(|signer| !algorithm.contains(&format!("\"{}\"", signer.id())))
        .map(Signer::jwk)
        .collect();
    assert_eq!(rotated.len(), 3);
    rejected(&gate_of(&keys(&rotated), &[]), &token, Reason::CredentialsUnknownKey);
}

#[test]
fn what_one_issuer_verified_says_nothing_about_the_keys_of_another() {
    let own = all_keys();
    let strange = keys(&[Signer::Rsa.jwk()]);
    let token = Forge::new(Algorithm::ES256).token();
    let issuer = |name: &str, keys: &Arc<Keys>, audience: &str| {
        let rules = config::Issuer { name: name.to_owned(), audience: vec![audience.to_owned()], ..rules() };
        Issuer::new(rules, Arc::clone(keys))
    };
    let gate = requirement(
        vec![issuer("strange", &strange, "https://gw.example"), issuer("own", &own, "https://gw.example")],
        &[],
    );
    for _ in 0..2 {
        assert_eq!(judge(&gate, &token).unwrap().issuer, "own");
    }
    assert!(own.verified(&parsed(&token)).is_some());
    assert!(strange.verified(&parsed(&token)).is_none());
    let gate = requirement(
        vec![issuer("strange", &strange, "https://gw.example"), issuer("own", &own, "nobody")],
        &[],
    );
    rejected(&gate, &token, Reason::CredentialsWrongAudience);
}
