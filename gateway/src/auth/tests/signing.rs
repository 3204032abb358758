//! Tokens of the local issuer.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;
use crate::auth::sign::{Claims, SigningKey, sign};
use crate::config::Severity;

fn claims(audience: &[&str]) -> Claims {
    Claims {
        issuer: "https://idp.example".to_owned(),
        subject: "alice".to_owned(),
        audience: audience.iter().map(|audience| (*audience).to_owned()).collect(),
        scopes: vec!["chat:read".to_owned(), "chat:write".to_owned()],
        ttl: Duration::from_secs(600),
        more: serde_json::Map::new(),
    }
}

fn local(path: &Path) -> Requirement {
    let loaded = KeySet::load_or_create(&KeySource::SigningKey(path.to_owned()), 4096).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    requirement(vec![Issuer::new(rules(), Arc::new(loaded.keys))], &["chat:read"])
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("issuer.pem");
    (folder, path)
}

#[test]
fn a_token_of_the_local_issuer_is_admitted() {
    let (_folder, path) = folder();
    let gate = local(&path);
    for audience in [&["gate"][..], &["other", "gate"]] {
        let token = sign(&path, &claims(audience), now()).unwrap();
        let identity = judge(&gate, &token).unwrap();
        assert_eq!(identity.subject, "alice");
        assert_eq!(identity.scopes, ["chat:read", "chat:write"]);
        assert_eq!(identity.expires, NOW + 600);
    }
    let expired = sign(&path, &claims(&["gate"]), now() - Duration::from_secs(3600)).unwrap();
    rejected(&gate, &expired, Reason::ExpiryExpired);
}

#[test]
fn a_token_of_the_local_issuer_has_the_form_of_rfc_9068() {
    let (_folder, path) = folder();
    SigningKey::create(&path).unwrap();
    let (key, _) = SigningKey::load(&path, 4096, SystemTime::now()).unwrap();
    let token = key.sign(&claims(&["gate"]), now(), [7; 16]).unwrap();
    let part = |index: usize| -> serde_json::Value {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(part(0), json!({"typ": "at+jwt", "alg": "EdDSA", "kid": key.id()}));
    assert_eq!(
        part(1),
        json!({
            "iss": "https://idp.example",
            "sub": "alice",
            "aud": "gate",
            "iat": NOW,
            "exp": NOW + 600,
            "jti": "BwcHBwcHBwcHBwcHBwcHBw",
            "client_id": "gatehouse",
            "scope": "chat:read chat:write",
        })
    );
}

#[test]
fn every_token_has_its_own_id() {
    let (_folder, path) = folder();
    let gate = local(&path);
    let id = || judge(&gate, &sign(&path, &claims(&["gate"]), now()).unwrap()).unwrap().token_id;
    assert_ne!(id(), id());
}

#[test]
fn the_key_id_is_the_thumbprint_of_the_key() {
    // The key of RFC 8037 §A.1 and its thumbprint of §A.3.
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let pkcs8 = [&b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..], &seed].concat();
    let (_folder, path) = folder();
    std::fs::write(&path, pem::encode(&pem::Pem::new("PRIVATE KEY", pkcs8))).unwrap();
    let (key, _) = SigningKey::load(&path, 4096, SystemTime::now()).unwrap();
    assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn a_new_key_is_for_its_owner_only_and_nothing_else_is_left_behind() {
    let (folder, path) = folder();
    SigningKey::create(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, [path.with_extension("lock").file_name().unwrap(), path.file_name().unwrap()]);
}

#[test]
fn a_key_that_is_there_is_never_replaced() {
    let (_folder, path) = folder();
    SigningKey::create(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    SigningKey::create(&path).unwrap();
    local(&path);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn loading_without_creating_writes_nothing_and_says_that_the_key_is_to_come() {
    let (folder, path) = folder();
    let loaded = KeySet::load(&KeySource::SigningKey(path), 4096).unwrap();
    assert!(loaded.keys.is_empty());
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].severity, Severity::Warning);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_missing_folder_is_named_with_the_remedy() {
    let (folder, _) = folder();
    let path = folder.path().join("missing/issuer.pem");
    let fault = KeySet::load_or_create(&KeySource::SigningKey(path.clone()), 4096).unwrap_err();
    assert_eq!(fault.file, path);
    assert!(fault.message.contains("folder must exist"), "{fault}");
}

#[test]
fn what_is_not_an_ed25519_private_key_is_refused_as_signing_key() {
    let (_folder, path) = folder();
    for text in ["", "nonsense", &Signer::Ed25519.public_pem(), &Signer::rsa_private_pem()] {
        std::fs::write(&path, text).unwrap();
        let fault = SigningKey::load(&path, 4096, SystemTime::now()).unwrap_err();
        assert!(fault.message.contains("Ed25519"), "{fault}");
        assert!(sign(&path, &claims(&["gate"]), now()).is_err());
    }
}

#[test]
fn a_private_key_that_others_can_read_is_reported() {
    let (_folder, path) = folder();
    SigningKey::create(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let (_, warnings) = SigningKey::load(&path, 4096, SystemTime::now()).unwrap();
    assert!(warnings[0].message.contains("644"), "{}", warnings[0]);
}

#[test]
fn a_signing_key_is_never_printed() {
    let (_folder, path) = folder();
    SigningKey::create(&path).unwrap();
    let (key, _) = SigningKey::load(&path, 4096, SystemTime::now()).unwrap();
    assert_eq!(format!("{key:?}"), format!("SigningKey {{ id: {:?}, .. }}", key.id()));
}
