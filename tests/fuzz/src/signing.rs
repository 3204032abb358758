//! Signing key files: what a key signs is what its public half verifies, and no fault repeats a key.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use gateway::auth::sign::{Claims, SigningKey};
use gateway::auth::{Issuer, KeySet, Requirement, Token};
use gateway::config::{self, KeySource, Profile};
use jsonwebtoken::Algorithm;

use crate::keys::says_nothing_secret;

/// The time of every signature, in seconds since 1970.
const NOW: u64 = 1_700_000_000;
/// Keys of one file that sign: it takes time.
const SIGNERS: usize = 2;

pub(crate) fn run(input: &[u8]) {
    let path = Path::new("/etc/gatehouse/issuer.pem");
    let source = KeySource::SigningKey(path.to_owned());
    let keys = match SigningKey::parse(path, input) {
        Ok(keys) => keys,
        Err(fault) => {
            says_nothing_secret(&fault, input);
            assert!(KeySet::parse(&source, input.to_vec()).is_err(), "who verifies finds keys in it");
            return;
        }
    };
    let Ok(loaded) = KeySet::parse(&source, input.to_vec()) else {
        unreachable!("who verifies finds no key")
    };
    assert_eq!(loaded.keys.len(), keys.len());
    assert!((1..keys.len()).all(|at| keys[..at].iter().all(|key| key.id() != keys[at].id())), "a kid twice");
    let gate = Requirement::any_token(vec![Arc::new(Issuer::new(rules(source), Arc::new(loaded.keys)))]);
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    for key in keys.iter().take(SIGNERS) {
        assert!(!format!("{key:?}").contains("PRIVATE") && key.jwk().get("d").is_none());
        let claims = Claims {
            issuer: "https://idp.example".to_owned(),
            subject: "alice".to_owned(),
            audience: vec!["https://gw.example".to_owned()],
            scopes: Vec::new(),
            ttl: Duration::from_secs(60),
            more: serde_json::Map::new(),
        };
        let Ok(token) = key.sign(&claims, now, [7; 16]) else { unreachable!("it cannot sign") };
        let Ok(token) = Token::parse(token.as_bytes()) else { unreachable!("what it signed is no token") };
        let judged = gate.judge(&token, now);
        assert!(judged.is_ok_and(|identity| identity.key_id.as_deref() == Some(key.id())));
    }
}

fn rules(keys: KeySource) -> config::Issuer {
    config::Issuer {
        name: "own".to_owned(),
        issuer: "https://idp.example".to_owned(),
        audience: vec!["https://gw.example".to_owned()],
        keys,
        algorithms: vec![Algorithm::ES256, Algorithm::EdDSA],
        typ: Some(vec!["at+jwt".to_owned()]),
        leeway: Duration::ZERO,
        scope_claim: None,
        introspection: None,
        serve_keys: false,
        profile: Profile::Rfc9068,
        require: Vec::new(),
        max_lifetime: None,
    }
}
