//! Signing access tokens with a key of this host, for `gatehouse token`.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::keys::{Fault, read};
use super::provider::provider;
use crate::config::Diagnostic;

/// Bytes of a signing key file; a key has about a hundred.
const MAX_KEY_FILE: usize = 16 * 1024;

const LABEL: &str = "PRIVATE KEY";

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `iss`
    pub issuer: String,
    /// `sub`
    pub subject: String,
    /// `aud`
    pub audience: Vec<String>,
    /// `scope`
    pub scopes: Vec<String>,
    /// From `iat` to `exp`, in whole seconds.
    pub ttl: Duration,
}

/// An access token that says `claims`, signed now with the key in the file `key`.
///
/// # Errors
///
/// What is wrong with the key file.
pub fn sign(key: &Path, claims: &Claims, now: SystemTime) -> Result<String, Diagnostic> {
    let (signer, _) = SigningKey::load(key, MAX_KEY_FILE)?;
    let failed = |error: &dyn fmt::Display| Diagnostic::of_file(key, format!("cannot sign with it: {error}"));
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(|error| failed(&error))?;
    signer.sign(claims, now, id).map_err(|error| failed(&error))
}

/// A private Ed25519 key.
pub struct SigningKey {
    pkcs8: Vec<u8>,
    public: Vec<u8>,
    id: String,
}

impl SigningKey {
    /// Reads a key from a PEM file, with a warning when others can read it too.
    ///
    /// # Errors
    ///
    /// The file, what is wrong with it and what to do.
    pub fn load(path: &Path, limit: usize) -> Result<(Self, Vec<Diagnostic>), Diagnostic> {
        let (bytes, warnings) = read(path, limit)?.private(path);
        let key =
            Self::parse(&bytes).ok_or_else(|| Diagnostic::of_file(path, Fault::NotSigningKey.to_string()))?;
        Ok((key, warnings))
    }

    /// Makes a key and writes it to `path`, for its owner only. The file appears whole or not at
    /// all; one that is there already, made by another process at the same time, is left alone.
    ///
    /// # Errors
    ///
    /// Why the file cannot be written, and what to do.
    pub fn create(path: &Path) -> Result<(), Diagnostic> {
        let failed = |error: &dyn fmt::Display| {
            let message = format!(
                "cannot be made ({error}): its folder must exist and be writable for the user that runs the gate"
            );
            Diagnostic::of_file(path, message)
        };
        let key = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|error| failed(&error))?;
        let mut random = [0; 8];
        rand::fill(&mut random).map_err(|error| failed(&error))?;
        let text = pem::encode(&pem::Pem::new(LABEL, key.as_ref()));
        write_new(path, &text, u64::from_ne_bytes(random)).map_err(|error| failed(&error))
    }

    /// The 32 bytes of the public half.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The public half as a JWK (RFC 8037 §2).
    pub fn jwk(&self) -> Value {
        json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "x": URL_SAFE_NO_PAD.encode(&self.public),
            "kid": self.id,
            "alg": "EdDSA",
            "use": "sig",
        })
    }

    /// The `kid` of this key's tokens: its thumbprint (RFC 7638, RFC 8037 §2).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// An access token (RFC 9068 §2) that says `claims`, with `id` in `jti`.
    ///
    /// # Errors
    ///
    /// When the library cannot sign.
    pub fn sign(
        &self,
        claims: &Claims,
        now: SystemTime,
        id: [u8; 16],
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let issued = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let audience = match claims.audience.as_slice() {
            [one] => Value::from(one.as_str()),
            several => Value::from(several),
        };
        let payload = json!({
            "iss": claims.issuer,
            "sub": claims.subject,
            "aud": audience,
            "iat": issued,
            "exp": issued.saturating_add(claims.ttl.as_secs()),
            "jti": URL_SAFE_NO_PAD.encode(id),
            "client_id": "gatehouse",
            "scope": claims.scopes.join(" "),
        });
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(self.id.clone());
        // `encode` uses the default of the process.
        provider();
        jsonwebtoken::encode(&header, &payload, &EncodingKey::from_ed_der(&self.pkcs8))
    }

    /// The key in `bytes`, the content of a file.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let block = pem::parse(bytes).ok().filter(|block| block.tag() == LABEL)?;
        let pair = Ed25519KeyPair::from_pkcs8(block.contents()).ok()?;
        let public = pair.public_key().as_ref().to_vec();
        // The members in this order and without spaces are what RFC 7638 §3.2 hashes.
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(&public));
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, jwk.as_bytes()));
        Some(Self { pkcs8: block.into_contents(), public, id })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

fn write_new(path: &Path, text: &str, random: u64) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = folder.join(format!(".gatehouse-key-{random:016x}"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        // Unlike a rename, a link never replaces a key that is in use.
        .and_then(|()| match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    fs::remove_file(&draft)?;
    written?;
    fs::File::open(folder)?.sync_all()
}
