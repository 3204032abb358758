//! The keys of an issuer.

mod fault;
mod file;
mod jwk;
mod live;
mod pem;
mod verifier;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde_json::Value;

use super::cache::Verified;
use super::jws::{Content, Jws};
use super::sign::{SigningKey, parse_all};
use super::token::Token;
use crate::config::{Diagnostic, KeySource, Limits};
pub(super) use fault::Fault;
pub(super) use file::read;
pub(crate) use file::read_as;
pub(super) use live::Lack;
pub use live::{LiveKeys, Refresh, Refreshed};
pub(super) use verifier::Key;

/// Keys that were tried for one token without a `kid`, at most. Each try costs a signature check,
/// and whoever can reach the gate can ask for it.
pub(super) const TRIES: usize = 16;

/// All keys of one issuer, as they were when they were loaded. Reloading makes a new one.
///
/// It may be empty, and then no token of the issuer can be judged: that is an outage of ours and
/// not a fault of the client.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    /// The public halves of our own keys, as JWKs (RFC 7517 §4).
    served: Vec<Value>,
    /// What these keys have verified. Other keys have verified nothing yet.
    verified: Verified,
}

impl Default for KeySet {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// A key set, and what is odd about its source.
#[derive(Debug)]
pub struct Loaded {
    /// The keys.
    pub keys: KeySet,
    /// What the operator should look at.
    pub warnings: Vec<Diagnostic>,
}

impl KeySet {
    /// With these keys, which remember as many tokens as the default of `[limits]` says.
    fn new(keys: Vec<Key>) -> Self {
        Self { keys, served: Vec::new(), verified: Verified::new(Limits::default().verified_tokens) }
    }

    /// The same keys, which have verified nothing yet and remember at most about `most` tokens.
    #[must_use]
    pub fn remembering(self, most: usize) -> Self {
        Self { verified: Verified::new(most), ..self }
    }

    /// What `token` says, if one of these keys is known to have signed it.
    pub(super) fn verified(&self, token: &Token) -> Option<Arc<Content>> {
        self.verified.get(token)
    }

    /// Remembers that one of these keys has signed `jws`.
    pub(super) fn remember(&self, jws: &Jws<'_>) {
        self.verified.insert(jws);
    }

    /// Reads the keys of `source`, of which at most `limit` bytes are read. Nothing is written: a
    /// signing key that does not exist yet gives an empty set and a warning.
    ///
    /// # Errors
    ///
    /// The file, the line and column where there is one, what is wrong and what to do about it.
    pub fn load(source: &KeySource, limit: usize) -> Result<Loaded, Diagnostic> {
        match source {
            KeySource::SigningKey(path) if is_absent(path) => {
                let warning = "does not exist yet: it is made when the gate starts".to_owned();
                Ok(Loaded {
                    keys: Self::default(),
                    warnings: vec![Diagnostic::of_file(path, warning).warning()],
                })
            }
            KeySource::JwkSet(path) | KeySource::Pem(path) => Self::parse(source, read(path, limit)?.bytes),
            KeySource::Fetched(_) | KeySource::Nothing => {
                Ok(Loaded { keys: Self::default(), warnings: Vec::new() })
            }
            KeySource::Secret(path) | KeySource::SigningKey(path) => {
                let (bytes, mut warnings) = read(path, limit)?.private(path);
                let loaded = Self::parse(source, bytes)?;
                warnings.extend(loaded.warnings);
                Ok(Loaded { warnings, ..loaded })
            }
        }
    }

    /// The keys in `bytes`, the content of the file of `source`. Reads nothing.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn parse(source: &KeySource, bytes: Vec<u8>) -> Result<Loaded, Diagnostic> {
        match source {
            KeySource::JwkSet(path) => jwk::parse(path, &text(path, bytes)?),
            KeySource::Nothing => Ok(Loaded { keys: Self::default(), warnings: Vec::new() }),
            KeySource::Fetched(fetched) => Self::published(&fetched.place.shown(), bytes),
            KeySource::Pem(path) => pem::parse(path, &text(path, bytes)?),
            KeySource::Secret(path) => Self::of_one(path, secret(&bytes)),
            KeySource::SigningKey(path) => {
                let fault = |fault: Fault| Diagnostic::of_file(path, fault.to_string());
                let own = parse_all(&bytes).map_err(fault)?;
                let keys: Result<Vec<Key>, Fault> = own.iter().map(signing_key).collect();
                let served = own.iter().map(SigningKey::jwk).collect();
                Ok(Loaded { keys: Self { served, ..Self::new(keys.map_err(fault)?) }, warnings: Vec::new() })
            }
        }
    }

    /// The keys in `bytes`, a JWK set that everybody can fetch from `place`: no secret is among them,
    /// and no private key.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), with `place` for the file.
    pub fn published(place: &str, bytes: Vec<u8>) -> Result<Loaded, Diagnostic> {
        let place = Path::new(place);
        let text = text(place, bytes)?;
        jwk::refuse_secrets(place, &text)?;
        jwk::parse(place, &text)
    }

    /// These keys and those of `others`.
    #[must_use]
    pub fn plus(&self, others: &Self) -> Self {
        let more = others.keys.iter().filter(|key| !self.has(key));
        Self::new(self.keys.iter().chain(more).cloned().collect())
    }

    /// These keys without those of `others`.
    #[must_use]
    pub fn minus(&self, others: &Self) -> Self {
        let kept = self.keys.iter().filter(|key| !others.has(key)).cloned();
        Self::new(kept.collect())
    }

    fn has(&self, key: &Key) -> bool {
        self.keys.iter().any(|own| own.is_same(key))
    }

    fn of_one(path: &Path, key: Result<Key, Fault>) -> Result<Loaded, Diagnostic> {
        let key = key.map_err(|fault| Diagnostic::of_file(path, fault.to_string()))?;
        Ok(Loaded { keys: Self::new(vec![key]), warnings: Vec::new() })
    }

    /// The same, but a signing key that does not exist is made (see [`SigningKey::create`]).
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), and when the new key cannot be written.
    pub fn load_or_create(source: &KeySource, limit: usize) -> Result<Loaded, Diagnostic> {
        if let KeySource::SigningKey(path) = source
            && is_absent(path)
        {
            SigningKey::create(path)?;
        }
        Self::load(source, limit)
    }

    /// The public halves of our own keys, as JWKs; of others' keys nothing.
    pub fn served(&self) -> impl Iterator<Item = &Value> {
        self.served.iter()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The algorithms for which there are more keys than are tried for one token, and how many.
    pub(super) fn crowds(&self) -> impl Iterator<Item = (Algorithm, usize)> {
        let mut counts: Vec<(Algorithm, usize)> = Vec::new();
        for algorithm in self.keys.iter().flat_map(Key::algorithms) {
            match counts.iter_mut().find(|(known, _)| *known == algorithm) {
                Some((_, count)) => *count += 1,
                None => counts.push((algorithm, 1)),
            }
        }
        counts.into_iter().filter(|(_, count)| *count > TRIES)
    }

    /// Whether some key verifies `algorithm`.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.fits(algorithm))
    }

    /// The keys that a token with this `kid` and algorithm can be signed with. A key without a
    /// `kid` fits every token that no key fits by name; a token without one fits every key. Some
    /// of many are left out, never more than [`TRIES`] are returned.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let named = id.is_some() && self.keys.iter().any(|key| key.id.as_deref() == id);
        self.keys
            .iter()
            .filter(move |key| match (&key.id, id) {
                (Some(own), Some(id)) => own == id,
                (Some(_), None) => true,
                (None, _) => !named,
            })
            .filter(move |key| key.fits(algorithm))
            .take(TRIES)
    }
}

/// An HMAC secret: the bytes of the file as they are, less one newline at the end, which editors
/// and `openssl rand` add.
fn secret(bytes: &[u8]) -> Result<Key, Fault> {
    let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    Key::hmac(secret.strip_suffix(b"\r").unwrap_or(secret))
}

/// The public half of a key that signs.
fn signing_key(key: &SigningKey) -> Result<Key, Fault> {
    let public = match key.algorithm() {
        Algorithm::ES256 => Key::p256(key.public())?,
        _ => Key::ed25519(key.public())?,
    };
    Ok(public.with_id(Some(key.id().to_owned())))
}

/// Surely absent. A folder that may not be searched is another fault, and reading reports it.
fn is_absent(path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Diagnostic> {
    String::from_utf8(bytes).map_err(|_| Diagnostic::of_file(path, Fault::NotText.to_string()))
}
