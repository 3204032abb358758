//! Tokens: nobody without the key makes one that is admitted.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gateway::auth::{Issuer, KeySet, Requirement, Token, bearer};
use gateway::config::{self, KeySource, Profile, ScopeRule};
use gateway::rejection::{Layer, Reason, Rejection};
use jsonwebtoken::Algorithm;

/// Public keys whose private halves no longer exist: `signed` has all good tokens that there are.
const JWKS: &[u8] = include_bytes!("../keys/jwks.json");

/// Tokens that were signed before the private keys were thrown away, and should be admitted.
pub(crate) const SIGNED: [&str; 3] = [
    include_str!("../corpus/token/good-eddsa.txt"),
    include_str!("../corpus/token/good-es256.txt"),
    include_str!("../corpus/token/good-rs256.txt"),
];

/// The time of every judgement, in seconds since 1970.
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) const ISSUER: &str = "https://idp.example";
pub(crate) const AUDIENCE: &str = "https://gw.example";

static GATE: LazyLock<Requirement> = LazyLock::new(|| {
    let gate = Requirement {
        scopes: ScopeRule::all(vec!["chat:read".to_owned()]),
        ..Requirement::any_token(vec![Arc::new(Issuer::new(rules(), keys()))])
    };
    for token in SIGNED {
        let admitted = judge(&gate, token.trim_ascii().as_bytes());
        assert!(admitted.is_ok(), "a good token is refused: {admitted:?}");
    }
    gate
});

/// The keys of [`SIGNED`].
pub(crate) fn keys() -> Arc<KeySet> {
    static KEYS: LazyLock<Arc<KeySet>> = LazyLock::new(|| {
        let keys = KeySet::parse(&KeySource::JwkSet(PathBuf::from("jwks.json")), JWKS.to_vec());
        let keys = keys.map(|loaded| loaded.keys).unwrap_or_default();
        assert_eq!(keys.len(), 3, "the keys are broken");
        Arc::new(keys)
    });
    Arc::clone(&KEYS)
}

/// The issuer of [`SIGNED`].
pub(crate) fn rules() -> config::Issuer {
    config::Issuer {
        name: "main".to_owned(),
        issuer: ISSUER.to_owned(),
        audience: vec![AUDIENCE.to_owned()],
        keys: KeySource::JwkSet(PathBuf::from("jwks.json")),
        algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        typ: Some(vec!["at+jwt".to_owned()]),
        leeway: Duration::from_secs(30),
        scope_claim: None,
        introspection: None,
        serve_keys: false,
        profile: Profile::Jwt,
        require: Vec::new(),
        max_lifetime: None,
    }
}

pub(crate) fn run(input: &[u8]) {
    let input = input.trim_ascii_end();
    match judge(&GATE, input) {
        // Some signatures have more than one form (ECDSA), what is signed has not.
        Ok(()) => assert!(
            SIGNED.iter().any(|good| signed(good.trim_ascii().as_bytes()) == signed(input)),
            "a token is admitted that nobody signed"
        ),
        Err(rejection) => is_the_clients_fault(&rejection, input),
    }
    let header = [b"Bearer ".as_slice(), input].concat();
    let from_header = bearer([header.as_slice()]).map_err(|rejection| rejection.reason);
    let alone = Token::parse(input).map_err(|rejection| rejection.reason);
    if let Err(reason) = from_header {
        assert!(alone.is_err() || reason == Reason::CredentialsMultiple, "{reason:?}");
    }
}

/// Everything before the last dot.
fn signed(token: &[u8]) -> Option<&[u8]> {
    token.iter().rposition(|byte| *byte == b'.').map(|dot| &token[..dot])
}

fn judge(gate: &Requirement, input: &[u8]) -> Result<(), Box<Rejection>> {
    let now: SystemTime = UNIX_EPOCH + Duration::from_secs(NOW);
    let token = Token::parse(input)?;
    let outcome = gate.judge(&token, now);
    let explained = gate.explain(&token, now).outcome;
    assert_eq!(format!("{outcome:?}"), format!("{explained:?}"), "the explanation comes to another end");
    if let Ok(identity) = &outcome {
        assert!(identity.expires + 30 > NOW && !identity.subject.is_empty(), "{identity:?}");
        assert!(identity.scopes.iter().any(|scope| scope == "chat:read"), "{identity:?}");
    }
    outcome.map(drop)
}

/// The keys are there, so no token makes the gate doubt itself; and what it says about a token
/// cannot be used as one.
fn is_the_clients_fault(rejection: &Rejection, input: &[u8]) {
    let layer = rejection.reason.layer();
    assert!(matches!(layer, Layer::Credentials | Layer::Expiry | Layer::Scope), "{rejection:?}");
    for said in [&rejection.detail, &rejection.note].into_iter().flatten() {
        assert!(crate::is_one_plain_line(said), "{rejection:?}");
        let repeats = input.len() >= 32 && said.as_bytes().windows(input.len()).any(|window| window == input);
        assert!(!repeats, "{said}");
    }
}
