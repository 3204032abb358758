//! JWK sets (RFC 7517 §5).

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::verifier::Key;
use super::{Fault, KeySet, Loaded};
use crate::auth::excerpt;
use crate::config::{Diagnostic, Severity};

/// Private members of RSA, elliptic curve and octet pair keys (RFC 7518 §6.2.2, §6.3.2, RFC 8037
/// §2). `k` of a symmetric key is not one: it has no public half.
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// Keys in one set. Issuers have a few; looking for names that clash takes the square of this.
const MAX_KEYS: usize = 1000;

#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// Decides how to read the rest. Its members have these types in every kind of key.
#[derive(Deserialize)]
struct Common {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Rsa {
    n: String,
    e: String,
}

#[derive(Deserialize)]
struct Curve {
    crv: String,
    x: String,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Symmetric {
    k: String,
}

/// What became of one entry of the set.
enum Entry {
    Key(Key),
    /// Good, but not for verifying.
    NotForUs,
    /// Of a kind that is not supported; RFC 7517 §5 says to go on without it.
    Unknown(String),
}

/// A fault if a key of the JWK set `text`, which everybody can fetch from `file`, is a secret. What is
/// no set at all is for [`parse`] to find.
pub(super) fn refuse_secrets(file: &Path, text: &str) -> Result<(), Diagnostic> {
    #[derive(Deserialize)]
    struct Kind {
        kty: String,
    }

    let Ok(set) = serde_json::from_str::<Set<'_>>(text) else { return Ok(()) };
    let is_secret = |raw: &&RawValue| matches!(read::<Kind>(raw), Ok(kind) if kind.kty == "oct");
    match set.keys.into_iter().position(|raw| is_secret(&raw)) {
        Some(index) => {
            let message = format!("key {} of the set {}", index + 1, Fault::PublishedSecret);
            Err(Diagnostic::of_file(file, message))
        }
        None => Ok(()),
    }
}

/// The keys of the JWK set `text`, the content of `file`.
pub(super) fn parse(file: &Path, text: &str) -> Result<Loaded, Diagnostic> {
    let set: Set<'_> = serde_json::from_str(text).map_err(|error| not_a_set(file, &error))?;
    if set.keys.len() > MAX_KEYS {
        return Err(Diagnostic::of_file(file, Fault::TooMany(MAX_KEYS).to_string()));
    }
    let mut keys: Vec<Key> = Vec::new();
    let mut warnings = Vec::new();
    for (index, raw) in set.keys.iter().enumerate() {
        // `raw` is a part of `text`.
        let start = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let at = |message: String| Diagnostic::at(file, text, &(start..start + raw.get().len()), message);
        let named = |what: &str, id: Option<&str>| match id {
            Some(id) => format!("key {} of the set (kid {}) {what}", index + 1, excerpt(id)),
            None => format!("key {} of the set {what}", index + 1),
        };
        let common: Common =
            serde_json::from_str(raw.get()).map_err(|error| at(named(&data_fault(&error), None)))?;
        let id = common.kid.clone();
        let id = id.as_deref();
        match entry(raw, common).map_err(|fault| at(named(&fault.to_string(), id)))? {
            Entry::Key(key) => {
                if let Some(clash) = clash(&keys, &key) {
                    return Err(at(named(&Fault::Ambiguous(clash).to_string(), id)));
                }
                keys.push(key);
            }
            Entry::NotForUs => {}
            Entry::Unknown(what) => warnings.push(at(named(&format!("is left out: {what}"), id)).warning()),
        }
    }
    if keys.is_empty() {
        let message =
            "holds no key that verifies signatures: every token of this issuer gets 503 until it does";
        warnings.push(Diagnostic::of_file(file, message).warning());
    }
    Ok(Loaded { keys: KeySet::new(keys), warnings })
}

fn entry(raw: &RawValue, common: Common) -> Result<Entry, Fault> {
    if !matches!(common.kty.as_str(), "RSA" | "EC" | "OKP" | "oct") {
        return Ok(Entry::Unknown(format!("kty {} is not supported", excerpt(&common.kty))));
    }
    let members: serde_json::Map<String, serde_json::Value> = read(raw)?;
    if let Some(private) = PRIVATE.iter().find(|name| members.contains_key(**name)) {
        return Err(Fault::Private(private));
    }
    let for_signatures = common.usage.as_deref().is_none_or(|usage| usage == "sig");
    let may_verify = common.key_ops.is_none_or(|operations| operations.iter().any(|name| name == "verify"));
    if !(for_signatures && may_verify) {
        return Ok(Entry::NotForUs);
    }
    let key = match common.kty.as_str() {
        "RSA" => rsa(&read(raw)?)?,
        "oct" => Key::hmac(&decode("k", &read::<Symmetric>(raw)?.k)?)?,
        kty => {
            let curve: Curve = read(raw)?;
            match (kty, curve.crv.as_str()) {
                ("EC", "P-256") => Key::p256(&point(&curve, 32)?)?,
                ("EC", "P-384") => Key::p384(&point(&curve, 48)?)?,
                ("OKP", "Ed25519") => Key::ed25519(&coordinate("x", &curve.x, 32)?)?,
                _ => return Ok(Entry::Unknown(format!("crv {} is not supported", excerpt(&curve.crv)))),
            }
        }
    };
    let key = match common.alg {
        None => key,
        Some(name) => match name.parse::<Algorithm>() {
            Ok(algorithm) => key.only(algorithm).ok_or(Fault::AlgorithmOfAnotherKind(algorithm))?,
            Err(_) => return Ok(Entry::Unknown(format!("alg {} is not supported", excerpt(&name)))),
        },
    };
    Ok(Entry::Key(key.with_id(common.kid)))
}

fn rsa(members: &Rsa) -> Result<Key, Fault> {
    // Some issuers write leading zeros, which RFC 7518 §6.3.1 forbids and nothing depends on.
    let number = |name, text| -> Result<Vec<u8>, Fault> {
        Ok(decode(name, text)?.into_iter().skip_while(|byte| *byte == 0).collect())
    };
    let components =
        aws_lc_rs::rsa::PublicKeyComponents { n: number("n", &members.n)?, e: number("e", &members.e)? };
    let der = aws_lc_rs::encoding::AsDer::as_der(&components).map_err(|_| Fault::Broken("RSA"))?;
    Key::rsa(der.as_ref())
}

/// An uncompressed point (SEC 1 §2.3.3).
fn point(curve: &Curve, size: usize) -> Result<Vec<u8>, Fault> {
    let y = curve.y.as_deref().ok_or(Fault::MissingMember("y"))?;
    let mut point = vec![4];
    point.extend(coordinate("x", &curve.x, size)?);
    point.extend(coordinate("y", y, size)?);
    Ok(point)
}

/// A coordinate of full length, as RFC 7518 §6.2.1.2 demands.
fn coordinate(name: &'static str, text: &str, size: usize) -> Result<Vec<u8>, Fault> {
    let bytes = decode(name, text)?;
    if bytes.len() == size { Ok(bytes) } else { Err(Fault::Length { name, size, found: bytes.len() }) }
}

fn decode(name: &'static str, text: &str) -> Result<Vec<u8>, Fault> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Fault::NotBase64Url(name))
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Fault> {
    serde_json::from_str(raw.get()).map_err(|error| Fault::Members(data_fault(&error)))
}

/// The parser's words without its place, which counts from the start of the key. They can hold
/// the name of a member, and never the value of a string that is in its place.
fn data_fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    // "invalid type: string \"…\", expected …" repeats the value.
    match text.rsplit_once(", expected ") {
        Some((_, expected)) => format!("has a member of the wrong type: {expected} is expected"),
        None => format!("is not readable: {text}"),
    }
}

/// The algorithm that both `key` and an earlier one with the same `kid` are for.
fn clash(keys: &[Key], key: &Key) -> Option<Algorithm> {
    let id = key.id.as_deref()?;
    let mut same = keys.iter().filter(|other| other.id.as_deref() == Some(id));
    same.find_map(|other| key.algorithms().find(|algorithm| other.fits(*algorithm)))
}

fn not_a_set(file: &Path, error: &serde_json::Error) -> Diagnostic {
    let cap = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let fault = data_fault(error);
    let message = if error.is_data() {
        format!("{fault}; a JWK set is an object with an array `keys` (RFC 7517 §5)")
    } else {
        format!("{fault}; this must be a JWK set in JSON (a public key in PEM is named .pem)")
    };
    Diagnostic {
        line: cap(error.line()),
        column: cap(error.column()),
        severity: Severity::Error,
        ..Diagnostic::of_file(file, message)
    }
}
