//! Tokens forged and judged.

mod attacks;
mod confirmed;
mod crafted;
mod fetched;
mod forge;
mod properties;
mod reasons;
mod remembered;
mod signing;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm;

pub(super) use forge::{Forge, Signer};

use super::{Issuer, KeySet, Requirement, Token};
use crate::config::{self, KeySource, Profile, ScopeRule};
use crate::rejection::{Reason, Rejection};

const NOW: u64 = 1_700_000_000;
const LEEWAY: u64 = 30;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn rules() -> config::Issuer {
    config::Issuer {
        name: "main".to_owned(),
        issuer: "https://idp.example".to_owned(),
        audience: vec!["https://gw.example".to_owned(), "gate".to_owned()],
        keys: KeySource::JwkSet("jwks.json".into()),
        algorithms: vec![
            Algorithm::RS256,
            Algorithm::PS256,
            Algorithm::ES256,
            Algorithm::ES384,
            Algorithm::EdDSA,
        ],
        typ: Some(vec!["at+jwt".to_owned()]),
        leeway: Duration::from_secs(LEEWAY),
        scope_claim: None,
        introspection: None,
        serve_keys: false,
        profile: Profile::Rfc9068,
        require: Vec::new(),
        max_lifetime: None,
    }
}

/// The keys in a JWK set of these entries.
fn keys(entries: &[String]) -> Arc<KeySet> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, format!("{{\"keys\": [{}]}}", entries.join(","))).unwrap();
    Arc::new(KeySet::load(&KeySource::JwkSet(file.path().to_owned()), 1 << 20).unwrap().keys)
}

fn requirement(issuers: Vec<Issuer>, scopes: &[&str]) -> Requirement {
    Requirement {
        scopes: ScopeRule::all(scopes.iter().map(|scope| (*scope).to_owned()).collect()),
        ..Requirement::any_token(issuers.into_iter().map(Arc::new).collect())
    }
}

/// What a route demands that believes one issuer with one key of each kind.
fn gate() -> Requirement {
    static GATE: LazyLock<Requirement> = LazyLock::new(|| {
        requirement(vec![Issuer::new(rules(), keys(&Signer::ALL.map(Signer::jwk)))], &["chat:read"])
    });
    GATE.clone()
}

/// Judges, and checks that the explanation comes to the same end.
fn judge(gate: &Requirement, token: &str) -> Result<super::Identity, Box<Rejection>> {
    let token = Token::parse(token.as_bytes())?;
    let outcome = gate.judge(&token, now());
    let explained = gate.explain(&token, now()).outcome;
    assert_eq!(format!("{outcome:?}"), format!("{explained:?}"));
    outcome
}

#[track_caller]
fn rejected(gate: &Requirement, token: &str, reason: Reason) -> Box<Rejection> {
    let rejection = judge(gate, token).unwrap_err();
    assert_eq!(rejection.reason, reason, "{rejection:?}");
    rejection
}
