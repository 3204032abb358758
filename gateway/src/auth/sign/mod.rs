//! Signing access tokens with keys of this host, for `gatehouse token`.
//!
//! The keys of an issuer are in one file, each a PEM block (PKCS #8), with a line before it that says
//! from when on it signs: a key can be published before it is used, and stay until its last token
//! has expired.

mod rotation;

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

use super::keys::{Fault, read};
use super::provider::provider;
use crate::config::Diagnostic;

pub use rotation::{Listed, add, list, retire};

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
    /// Further claims. Those above count.
    pub more: Map<String, Value>,
}

/// An access token that says `claims`, signed now with the key in the file `key` that signs now.
///
/// # Errors
///
/// What is wrong with the key file.
pub fn sign(key: &Path, claims: &Claims, now: SystemTime) -> Result<String, Diagnostic> {
    let (signer, _) = SigningKey::load(key, MAX_KEY_FILE, now)?;
    let failed = |error: &dyn fmt::Display| Diagnostic::of_file(key, format!("cannot sign with it: {error}"));
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(|error| failed(&error))?;
    signer.sign(claims, now, id).map_err(|error| failed(&error))
}

/// A private key: Ed25519, or P-256 for who cannot verify that.
pub struct SigningKey {
    pkcs8: Vec<u8>,
    public: Vec<u8>,
    algorithm: Algorithm,
    id: String,
    from: u64,
}

impl SigningKey {
    /// Reads the key from a PEM file that signs at `now`, with a warning when others can read it too.
    ///
    /// # Errors
    ///
    /// The file, what is wrong with it and what to do.
    pub fn load(path: &Path, limit: usize, now: SystemTime) -> Result<(Self, Vec<Diagnostic>), Diagnostic> {
        let (bytes, warnings) = read(path, limit)?.private(path);
        let keys = parse_all(&bytes).map_err(|fault| Diagnostic::of_file(path, fault.to_string()))?;
        let at = signing(&keys, now);
        let key = keys.into_iter().nth(at);
        let key = key.ok_or_else(|| Diagnostic::of_file(path, Fault::NotSigningKey.to_string()))?;
        Ok((key, warnings))
    }

    /// All keys in `bytes`, the content of the file `path`, in their order; never none. Reads nothing.
    ///
    /// # Errors
    ///
    /// The file, what is wrong with it and what to do.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Self>, Diagnostic> {
        parse_all(bytes).map_err(|fault| Diagnostic::of_file(path, fault.to_string()))
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
        let _lock = rotation::lock(path).map_err(|error| failed(&error))?;
        let key = Self::generate(Algorithm::EdDSA, 0).ok_or_else(|| failed(&"no key can be generated"))?;
        let mut random = [0; 8];
        rand::fill(&mut random).map_err(|error| failed(&error))?;
        let text = key.text();
        write_new(path, &text, u64::from_ne_bytes(random)).map_err(|error| failed(&error))
    }

    /// A new key that signs from this second since 1970 on; `None` without randomness.
    fn generate(algorithm: Algorithm, from: u64) -> Option<Self> {
        let random = SystemRandom::new();
        let pkcs8 = match algorithm {
            Algorithm::ES256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                .ok()?
                .as_ref()
                .to_vec(),
            _ => Ed25519KeyPair::generate_pkcs8v1(&random).ok()?.as_ref().to_vec(),
        };
        Self::of(pkcs8, from)
    }

    /// As it stands in a file.
    fn text(&self) -> String {
        let block = pem::encode(&pem::Pem::new(LABEL, self.pkcs8.as_slice()));
        let from = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.from));
        format!("# {:?} key {}\n{FROM}{from}\n{block}", self.algorithm, self.id)
    }

    /// The algorithm of its tokens.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// From when on it signs.
    pub fn from(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.from)
    }

    /// The public half: 32 bytes of Ed25519, or an uncompressed point of P-256.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The public half as a JWK (RFC 7518 §6.2, RFC 8037 §2).
    pub fn jwk(&self) -> Value {
        let mut jwk = members(self.algorithm, &self.public);
        jwk["kid"] = self.id.as_str().into();
        jwk["alg"] = format!("{:?}", self.algorithm).into();
        jwk["use"] = "sig".into();
        jwk
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
        let mut payload = json!({
            "iss": claims.issuer,
            "sub": claims.subject,
            "aud": audience,
            "iat": issued,
            "exp": issued.saturating_add(claims.ttl.as_secs()),
            "jti": URL_SAFE_NO_PAD.encode(id),
            "client_id": "gatehouse",
            "scope": claims.scopes.join(" "),
        });
        for (name, value) in &claims.more {
            if payload.get(name).is_none() {
                payload[name] = value.clone();
            }
        }
        let mut header = Header::new(self.algorithm);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(self.id.clone());
        // `encode` uses the default of the process.
        provider();
        let key = match self.algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_der(&self.pkcs8),
            _ => EncodingKey::from_ed_der(&self.pkcs8),
        };
        jsonwebtoken::encode(&header, &payload, &key)
    }

    fn of(pkcs8: Vec<u8>, from: u64) -> Option<Self> {
        let (algorithm, public) = if let Ok(pair) = Ed25519KeyPair::from_pkcs8(&pkcs8) {
            (Algorithm::EdDSA, pair.public_key().as_ref().to_vec())
        } else {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).ok()?;
            (Algorithm::ES256, pair.public_key().as_ref().to_vec())
        };
        // RFC 7638 §3: the required members, in the order of their names and without spaces, which is
        // how serde_json writes them.
        let thumbprint = digest(&SHA256, members(algorithm, &public).to_string().as_bytes());
        let id = URL_SAFE_NO_PAD.encode(thumbprint);
        Some(Self { pkcs8, public, algorithm, id, from })
    }
}

/// The members of a public key as a JWK that make it what it is.
fn members(algorithm: Algorithm, public: &[u8]) -> Value {
    if algorithm == Algorithm::ES256 {
        // SEC 1 §2.3.3: a byte that says that both coordinates follow.
        let (x, y) = public.get(1..).unwrap_or_default().split_at(public.len() / 2);
        return json!({
            "crv": "P-256",
            "kty": "EC",
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
        });
    }
    json!({ "crv": "Ed25519", "kty": "OKP", "x": URL_SAFE_NO_PAD.encode(public) })
}

/// The line before a key that says from when on it signs.
const FROM: &str = "# signs from ";

/// The keys in `bytes`, the content of a file, in their order; never none.
pub(super) fn parse_all(bytes: &[u8]) -> Result<Vec<SigningKey>, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::NotSigningKey)?;
    let mut keys: Vec<SigningKey> = Vec::new();
    let mut from = 0;
    let mut block = String::new();
    for line in text.lines() {
        if let Some(time) = line.strip_prefix(FROM).filter(|_| block.is_empty()) {
            let time = humantime::parse_rfc3339_weak(time.trim()).map_err(|_| Fault::NotSigningKey)?;
            from = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        }
        if block.is_empty() && !line.starts_with("-----BEGIN ") {
            continue;
        }
        block.push_str(line);
        block.push('\n');
        if line.starts_with("-----END ") {
            let parsed = pem::parse(&block).ok().filter(|block| block.tag() == LABEL);
            let key = parsed.and_then(|block| SigningKey::of(block.into_contents(), from));
            let key = key.ok_or(Fault::NotSigningKey)?;
            if !keys.iter().any(|known| known.id == key.id) {
                keys.push(key);
            }
            (block, from) = (String::new(), 0);
        }
    }
    if keys.is_empty() || !block.is_empty() { Err(Fault::NotSigningKey) } else { Ok(keys) }
}

/// Which of `keys` signs at `now`: of those that may, the one that began last.
pub(super) fn signing(keys: &[SigningKey], now: SystemTime) -> usize {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let able = keys.iter().enumerate().filter(|(_, key)| key.from <= now);
    able.max_by_key(|(at, key)| (key.from, *at)).map_or(0, |(at, _)| at)
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
