//! Key files, good ones and others.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::*;
use crate::auth::tests::Signer;
use crate::config::Severity;

const LIMIT: usize = 1 << 20;

fn file(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_ref()).unwrap();
    file
}

fn jwks(content: impl AsRef<[u8]>) -> Result<Loaded, Diagnostic> {
    KeySet::load(&KeySource::JwkSet(file(content).path().to_owned()), LIMIT)
}

fn set(keys: &[Value]) -> Result<Loaded, Diagnostic> {
    jwks(json!({"keys": keys}).to_string())
}

fn pem(content: &str) -> Result<Loaded, Diagnostic> {
    KeySet::load(&KeySource::Pem(file(content).path().to_owned()), LIMIT)
}

fn secret(content: &[u8]) -> Result<Loaded, Diagnostic> {
    KeySet::load(&KeySource::Secret(file(content).path().to_owned()), LIMIT)
}

fn with(signer: Signer, member: &str, value: impl Into<Value>) -> Value {
    let mut members = signer.members();
    members[member] = value.into();
    members
}

fn oct(bytes: &[u8]) -> Value {
    use base64::Engine as _;
    json!({"kty": "oct", "k": base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)})
}

#[test]
fn a_set_of_every_kind_of_key_is_read() {
    let mut entries: Vec<Value> = Signer::ALL.iter().map(|signer| signer.members()).collect();
    entries.push(oct(&[7; 32]));
    let loaded = set(&entries).unwrap();
    assert_eq!(loaded.keys.len(), 5);
    assert!(loaded.warnings.is_empty());
    for algorithm in
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256"]
    {
        assert!(loaded.keys.fits(algorithm.parse().unwrap()), "{algorithm}");
    }
}

#[test]
fn the_example_keys_of_the_standards_are_read() {
    // RFC 7517 §A.1 (its second key is RFC 7515 §A.2's), RFC 8037 §A.2.
    let p256 = json!({
        "kty": "EC", "crv": "P-256", "kid": "1",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    });
    let ed25519 = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    assert_eq!(set(&[p256, ed25519]).unwrap().keys.len(), 2);
}

#[test]
fn an_empty_set_is_accepted_with_a_warning() {
    let encryption = with(Signer::Rsa, "use", "enc");
    let signs_only = with(Signer::P256, "key_ops", json!(["sign"]));
    for keys in [&[][..], &[encryption, signs_only]] {
        let loaded = set(keys).unwrap();
        assert!(loaded.keys.is_empty());
        assert_eq!(loaded.warnings.len(), 1);
        assert_eq!(loaded.warnings[0].severity, Severity::Warning);
        assert!(loaded.warnings[0].message.contains("503"));
    }
}

#[test]
fn a_key_is_used_for_what_it_is_meant_for() {
    let entries = [
        with(Signer::Rsa, "use", "sig"),
        with(Signer::P256, "key_ops", json!(["verify"])),
        with(Signer::P384, "key_ops", json!(["deriveKey"])),
        with(Signer::Ed25519, "use", "enc"),
    ];
    let loaded = set(&entries).unwrap();
    assert_eq!(loaded.keys.len(), 2);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn a_kind_of_key_that_is_not_known_is_left_out_with_a_warning() {
    let entries = [
        json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq"}),
        json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        with(Signer::Rsa, "alg", "RSA-OAEP"),
        Signer::Ed25519.members(),
    ];
    let loaded = set(&entries).unwrap();
    assert_eq!(loaded.keys.len(), 1);
    assert_eq!(loaded.warnings.len(), 4);
    assert!(loaded.warnings[0].message.contains("key 1 of the set (kid \"pq\")"), "{}", loaded.warnings[0]);
}

#[test]
fn a_fault_in_a_set_is_reported_at_the_line_and_column_of_the_key() {
    let text = format!("{{\"keys\": [\n  {},\n  {{\"kty\": \"RSA\", \"kid\": \"b\"}}]}}", Signer::P256.jwk());
    let fault = jwks(text).unwrap_err();
    assert_eq!((fault.line, fault.column), (3, 3), "{fault}");
    assert!(fault.message.starts_with("key 2 of the set (kid \"b\")"), "{fault}");
    assert!(fault.message.contains("missing field `n`"), "{fault}");
}

#[test]
fn what_is_not_a_set_is_reported_at_its_line_and_column() {
    let fault = jwks("{\"keys\": [\n  }").unwrap_err();
    assert_eq!((fault.line, fault.column), (2, 3), "{fault}");
    for text in ["", "[]", "{}", "{\"keys\": {}}", "{\"keys\": [1]}", "{\"keys\": []} x", "\u{0}"] {
        let fault = jwks(text).unwrap_err();
        assert!(fault.line >= 1 || text.is_empty(), "{fault}");
    }
    assert!(jwks(b"\xff\xfe").unwrap_err().message.contains("UTF-8"));
    assert!(jwks(Signer::Rsa.public_pem()).unwrap_err().message.contains(".pem"));
    assert!(jwks(Signer::Rsa.jwk()).unwrap_err().message.contains("keys"));
}

#[test]
fn a_private_key_is_refused_wherever_a_public_one_belongs() {
    for (signer, member) in [
        (Signer::Rsa, "d"),
        (Signer::P256, "d"),
        (Signer::Ed25519, "d"),
        (Signer::Rsa, "p"),
        (Signer::Rsa, "dq"),
    ] {
        let fault = set(&[with(signer, member, "SECRET")]).unwrap_err();
        assert!(fault.message.contains("private"), "{fault}");
        assert!(!fault.message.contains("SECRET"), "{fault}");
    }
    // Even where the key would not have been used.
    let mut encryption = with(Signer::Rsa, "use", "enc");
    encryption["d"] = "SECRET".into();
    assert!(set(&[encryption]).is_err());
    let fault = pem(&Signer::rsa_private_pem()).unwrap_err();
    assert!(fault.message.contains("private key") && fault.message.contains("openssl"), "{fault}");
}

#[test]
fn two_keys_of_one_name_and_algorithm_are_ambiguous() {
    let named = |signer: Signer, alg: Option<&str>| {
        let mut jwk = with(signer, "kid", "k");
        if let Some(alg) = alg {
            jwk["alg"] = alg.into();
        }
        jwk
    };
    let fault = set(&[named(Signer::Rsa, None), named(Signer::Rsa, Some("PS256"))]).unwrap_err();
    assert!(fault.message.contains("key 2") && fault.message.contains("PS256"), "{fault}");
    assert!(set(&[named(Signer::Rsa, Some("RS256")), named(Signer::Rsa, Some("PS256"))]).is_ok());
    assert!(set(&[named(Signer::Rsa, None), named(Signer::P256, None)]).is_ok());
    assert!(set(&[Signer::P256.members(), Signer::P256.members()]).is_ok());
}

#[test]
fn an_algorithm_of_another_kind_of_key_is_refused() {
    for (signer, alg) in [(Signer::Rsa, "ES256"), (Signer::P256, "HS256"), (Signer::P256, "ES384")] {
        let fault = set(&[with(signer, "alg", alg)]).unwrap_err();
        assert!(fault.message.contains(alg), "{fault}");
    }
    let mut short = oct(&[7; 32]);
    short["alg"] = "HS512".into();
    assert!(set(&[short]).is_err());
}

#[test]
fn an_rsa_key_of_an_unsuitable_size_is_refused_with_its_size() {
    use base64::Engine as _;
    // Odd and of full length; whether it has two factors matters to nobody who only verifies.
    for (bytes, bits) in [(128, "1024 bits"), (255, "2040 bits"), (1025, "8200 bits")] {
        let modulus = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
        let fault = set(&[json!({"kty": "RSA", "n": modulus, "e": "AQAB"})]).unwrap_err();
        assert!(fault.message.contains(bits) && fault.message.contains("2048"), "{fault}");
    }
}

#[test]
fn a_short_secret_is_refused_with_its_length() {
    for fault in [set(&[oct(&[7; 31])]).unwrap_err(), secret(&[7; 31]).unwrap_err()] {
        assert!(fault.message.contains("31 bytes") && fault.message.contains("32"), "{fault}");
    }
    assert!(secret(b"").is_err());
}

#[test]
fn a_broken_key_is_refused_and_its_content_not_repeated() {
    let cases = [
        with(Signer::Rsa, "n", "SECRET!"),
        with(Signer::Rsa, "n", ""),
        with(Signer::Rsa, "e", "AA"),
        with(Signer::Rsa, "e", "Ag"),
        with(Signer::Rsa, "n", json!(["SECRET"])),
        with(Signer::P256, "x", "AAAA"),
        with(Signer::P256, "y", Value::Null),
        with(Signer::P256, "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        with(Signer::P256, "crv", "P-384"),
        with(Signer::Ed25519, "x", "AAAA"),
        with(Signer::P256, "key_ops", "SECRET, expected SECRET"),
        json!({"kty": "oct", "k": "SECRET=="}),
        json!({"kty": "oct"}),
        json!({"kid": "a"}),
    ];
    for case in cases {
        let fault = set(std::slice::from_ref(&case)).unwrap_err();
        assert!(!fault.message.contains("SECRET"), "{fault}");
        assert!(fault.message.contains("key 1 of the set"), "{case}: {fault}");
    }
    let twice = "{\"keys\": [{\"kty\": \"oct\", \"kty\": \"RSA\"}]}";
    assert!(jwks(twice).unwrap_err().message.contains("duplicate"), "{}", jwks(twice).unwrap_err());
}

#[test]
fn leading_zeros_of_an_rsa_modulus_do_no_harm() {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let members = Signer::Rsa.members();
    let modulus = engine.decode(members["n"].as_str().unwrap()).unwrap();
    let padded = engine.encode([&[0, 0][..], &modulus].concat());
    assert_eq!(set(&[with(Signer::Rsa, "n", padded)]).unwrap().keys.len(), 1);
}

#[test]
fn public_keys_in_pem_are_read_whatever_their_kind() {
    for (signer, algorithm) in
        [(Signer::Rsa, "RS256"), (Signer::P256, "ES256"), (Signer::P384, "ES384"), (Signer::Ed25519, "EdDSA")]
    {
        let keys = pem(&signer.public_pem()).unwrap().keys;
        assert_eq!(keys.len(), 1);
        assert!(keys.fits(algorithm.parse().unwrap()), "{algorithm}");
    }
    assert!(pem(&Signer::rsa_pkcs1_pem()).unwrap().keys.fits(Algorithm::PS256));
    let both = format!("{}\n# the next\n{}", Signer::Rsa.public_pem(), Signer::P256.public_pem());
    assert_eq!(pem(&both).unwrap().keys.len(), 2);
}

#[test]
fn what_is_no_public_key_in_pem_is_refused_with_the_remedy() {
    let good = Signer::P256.public_pem();
    let block = |tag: &str| ::pem::encode(&::pem::Pem::new(tag, [0x30, 0x00]));
    for text in ["", "nonsense", &good[..good.len() / 2], &block("PUBLIC KEY"), &block("DH PARAMETERS")] {
        assert!(pem(text).is_err(), "{text}");
    }
    assert!(pem(&block("CERTIFICATE")).unwrap_err().message.contains("openssl x509"));
}

#[test]
fn a_secret_is_the_content_of_its_file_without_the_last_newline() {
    let bare = [7; 32];
    let verifies = |content: &[u8]| {
        let keys = secret(content).unwrap().keys;
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &bare);
        let tag = aws_lc_rs::hmac::sign(&key, b"message");
        keys.candidates(None, Algorithm::HS256)
            .any(|key| key.verifies(Algorithm::HS256, b"message", tag.as_ref()))
    };
    assert!(verifies(&bare));
    assert!(verifies(&[&bare[..], b"\n"].concat()));
    assert!(verifies(&[&bare[..], b"\r\n"].concat()));
    assert!(!verifies(&[&bare[..], b"\n\n"].concat()));
    assert!(!verifies(&[&bare[..], b" "].concat()));
}

#[test]
fn a_secret_that_others_can_read_is_reported() {
    let file = file([7; 32]);
    let source = KeySource::Secret(file.path().to_owned());
    let warnings = |mode| {
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        KeySet::load(&source, LIMIT).unwrap().warnings.len()
    };
    assert_eq!([0o600, 0o640, 0o400, 0o644, 0o660, 0o604].map(warnings), [0, 0, 0, 1, 1, 1]);
}

#[test]
fn a_file_that_is_missing_too_large_or_no_file_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("jwks.json");
    let fault = KeySet::load(&KeySource::JwkSet(missing.clone()), LIMIT).unwrap_err();
    assert_eq!(fault.file, missing);
    assert!(fault.message.contains("check"), "{fault}");

    let large = file(vec![b' '; 101]);
    let fault = KeySet::load(&KeySource::JwkSet(large.path().to_owned()), 100).unwrap_err();
    assert!(fault.message.contains("key_file"), "{fault}");

    for source in [KeySource::Pem(folder.path().to_owned()), KeySource::Secret("/dev/zero".into())] {
        assert!(KeySet::load(&source, LIMIT).unwrap_err().message.contains("regular file"));
    }
}

#[test]
fn a_pipe_in_place_of_a_key_file_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    assert!(KeySet::load(&KeySource::Secret(pipe), LIMIT).unwrap_err().message.contains("regular file"));
}

#[test]
fn a_set_of_absurdly_many_keys_is_refused() {
    let of = |count: usize| jwks(format!("{{\"keys\": [{}]}}", vec!["{\"kty\":\"X\"}"; count].join(",")));
    assert_eq!(of(1000).unwrap().warnings.len(), 1001);
    assert!(of(1001).unwrap_err().message.contains("1000"));
}

#[test]
fn no_key_is_ever_printed() {
    let loaded = set(&[oct(b"SECRETSECRETSECRETSECRETSECRETSE")]).unwrap();
    let printed = format!("{loaded:?}");
    assert!(!printed.contains("SECRET") && !printed.contains("83, 69, 67"), "{printed}");
}
