//! What holds for any input.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use proptest::prelude::*;

use super::forge::raw;
use super::*;
use crate::auth::bearer;

/// The fault, if any, in whatever bytes a client sends.
fn fate(gate: &Requirement, value: &[u8]) -> Option<Reason> {
    match bearer([value]).and_then(|token| gate.judge(&token, now())) {
        Ok(_) => None,
        Err(rejection) => Some(rejection.reason),
    }
}

/// Members to put into a header or into claims: often none, often such as matter.
fn members() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let name = prop::sample::select(vec![
        "alg", "kid", "typ", "crit", "iss", "sub", "aud", "exp", "nbf", "scope", "scp", "jti", "other",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "\"EdDSA\"",
            "\"at+jwt\"",
            "\"ed25519\"",
            "\"https://idp.example\"",
            "\"gate\"",
            "\"chat:read\"",
            "[\"gate\", \"chat:read\"]",
            "1700000000.5",
            "null",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        (NOW - 100..NOW + 100).prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no such number", |number| number.is_finite())
            .prop_map(|number| format!("{number:e}")),
        "[a-z\"{}\\[\\],:]{0,8}",
    ];
    prop::collection::vec((name, value), 0..4)
}

/// `object` with `members` in the place of those of the same name, or besides them.
fn altered(object: &str, members: &[(&str, String)], replace: bool) -> String {
    let mut kept: serde_json::Map<String, serde_json::Value> = serde_json::from_str(object).unwrap();
    kept.retain(|own, _| !(replace && members.iter().any(|(name, _)| name == own)));
    let kept = kept.into_iter().map(|(name, value)| format!("\"{name}\":{value}"));
    let added = members.iter().map(|(name, value)| format!("\"{name}\":{value}"));
    format!("{{{}}}", kept.chain(added).collect::<Vec<_>>().join(","))
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_never_admitted(value in prop::collection::vec(any::<u8>(), 0..200)) {
        let gate = gate();
        prop_assert!(fate(&gate, &value).is_some());
        prop_assert!(fate(&gate, &[b"Bearer ".as_slice(), &value].concat()).is_some());
    }

    #[test]
    fn three_arbitrary_parts_are_never_admitted(header: Vec<u8>, claims: Vec<u8>, signature: Vec<u8>) {
        let parts = [header, claims, signature].map(|part| URL_SAFE_NO_PAD.encode(part));
        let value = format!("Bearer {}", parts.join("."));
        prop_assert!(fate(&gate(), value.as_bytes()).is_some());
    }

    #[test]
    fn a_changed_token_is_never_admitted(position: prop::sample::Index, with in any::<u8>()) {
        let token = Forge::good().token();
        let mut changed = token.clone().into_bytes();
        let position = position.index(changed.len());
        prop_assume!(changed[position] != with);
        changed[position] = with;
        prop_assert!(fate(&gate(), &[b"Bearer ".as_slice(), &changed].concat()).is_some());
        // The same gate admits the token as it was.
        prop_assert_eq!(fate(&gate(), format!("Bearer {token}").as_bytes()), None);
    }

    /// Nothing that is signed makes the judge panic, and whatever is admitted is good in the eyes
    /// of an independent implementation too. (A `jwk` that is no key would be a difference: it is
    /// not even read here.)
    #[test]
    fn what_is_admitted_is_a_valid_token_elsewhere_too(
        header in members(),
        claims in members(),
        replace: bool,
    ) {
        let good = Forge::good();
        let header = altered(&good.header_json(), &header, replace);
        let claims = altered(&good.claims_json(), &claims, replace);
        let token = raw(&header, &claims);
        if fate(&gate(), format!("Bearer {token}").as_bytes()).is_none() {
            let elsewhere = decode(&token, Signer::Ed25519, Algorithm::EdDSA);
            prop_assert!(elsewhere.is_ok(), "{} {}: {:?}", header, claims, elsewhere);
        }
    }
}

fn decode(token: &str, signer: Signer, algorithm: Algorithm) -> jsonwebtoken::errors::Result<()> {
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&["https://gw.example", "gate"]);
    validation.set_issuer(&["https://idp.example"]);
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    // It asks the clock of the machine.
    validation.validate_exp = false;
    jsonwebtoken::decode::<serde_json::Value>(token, &signer.decoding_key(), &validation).map(|_| ())
}

#[test]
fn an_independent_implementation_agrees_about_every_algorithm() {
    let mut rules = rules();
    let algorithms =
        [Algorithm::RS512, Algorithm::PS384, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
    rules.algorithms = algorithms.to_vec();
    let gate = requirement(vec![Issuer::new(rules, keys(&Signer::ALL.map(Signer::jwk)))], &[]);
    for algorithm in algorithms {
        let token = Forge::new(algorithm).token();
        assert!(decode(&token, Signer::of(algorithm).unwrap(), algorithm).is_ok(), "{algorithm:?}");
        assert!(judge(&gate, &token).is_ok(), "{algorithm:?}");
    }
}
