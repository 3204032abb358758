//! Key files: no private key is taken for a public one, and no fault repeats what it found.

use std::path::PathBuf;

use gateway::auth::{KeySet, Loaded};
use gateway::config::{Diagnostic, KeySource};
use jsonwebtoken::Algorithm;
use serde_json::Value;

/// Every algorithm that a token can be signed with.
const ALGORITHMS: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
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

pub(crate) fn run(input: &[u8]) {
    let path = || PathBuf::from("/etc/gatehouse/keys");
    if let Some(loaded) = parse(&KeySource::JwkSet(path()), input) {
        is_what_the_set_says(&loaded, input);
    }
    if let Ok(loaded) = KeySet::published("https://idp.example/jwks", input.to_vec()) {
        is_what_the_set_says(&loaded, input);
        // What everybody can fetch is no secret.
        assert!(!ALGORITHMS[..3].iter().any(|algorithm| loaded.keys.fits(*algorithm)));
    }
    if let Some(loaded) = parse(&KeySource::Pem(path()), input) {
        assert!(!contains(input, b"PRIVATE KEY-----"), "a private key is among the public ones");
        assert!(!loaded.keys.is_empty());
        // PEM holds no secrets to compute with (a public key taken for one would be a disaster).
        assert!(!ALGORITHMS[..3].iter().any(|algorithm| loaded.keys.fits(*algorithm)));
    }
    if let Some(loaded) = parse(&KeySource::Secret(path()), input) {
        // RFC 7518 §3.2.
        assert!(input.len() >= 32 && loaded.keys.len() == 1);
        assert!(!ALGORITHMS[3..].iter().any(|algorithm| loaded.keys.fits(*algorithm)));
    }
    if let Some(loaded) = parse(&KeySource::SigningKey(path()), input) {
        assert!(contains(input, b"PRIVATE KEY-----") && !loaded.keys.is_empty());
        assert!(loaded.keys.fits(Algorithm::EdDSA) || loaded.keys.fits(Algorithm::ES256));
    }
}

fn parse(source: &KeySource, input: &[u8]) -> Option<Loaded> {
    match KeySet::parse(source, input.to_vec()) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| says_nothing_secret(warning, input));
            assert!(loaded.keys.is_empty() || ALGORITHMS.iter().any(|one| loaded.keys.fits(*one)));
            Some(loaded)
        }
        Err(fault) => {
            says_nothing_secret(&fault, input);
            None
        }
    }
}

/// A message repeats no long run of base64 that was in the file, except for a name (`kid`, `kty`,
/// `crv`, `alg`), which is quoted.
pub(crate) fn says_nothing_secret(diagnostic: &Diagnostic, input: &[u8]) {
    assert!(crate::is_one_plain_line(&diagnostic.to_string()), "{diagnostic:?}");
    let unquoted = diagnostic.message.split('"').step_by(2);
    let is_base64 = |character: char| character.is_ascii_alphanumeric() || "+/=".contains(character);
    let runs = unquoted.flat_map(|text| text.split(|character| !is_base64(character)));
    for run in runs.filter(|run| run.len() >= 24) {
        assert!(!contains(input, run.as_bytes()), "{diagnostic}");
    }
}

/// A set that is accepted is a JSON object with at least as many `keys`, none of them private.
fn is_what_the_set_says(loaded: &Loaded, input: &[u8]) {
    let set: Option<Value> = serde_json::from_slice(input).ok();
    let keys = set.as_ref().and_then(|set| set.get("keys")).and_then(Value::as_array);
    assert!(keys.is_some_and(|keys| loaded.keys.len() <= keys.len()));
    for key in keys.into_iter().flatten() {
        let kind = key.get("kty").and_then(Value::as_str).unwrap_or("");
        let private = ["RSA", "EC", "OKP"].contains(&kind) && key.get("d").is_some();
        assert!(!private, "a private key is in a set that was accepted");
    }
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}
