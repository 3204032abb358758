//! Keys that verify, each bound to its algorithms.
//!
//! jsonwebtoken verifies the signatures. Three things that it leaves to its caller are done here,
//! when a key is loaded: `DecodingKey::from_*` takes any bytes as a key, so aws-lc parses them
//! first and a broken key is a fault of its file instead of a "bad signature" at every handshake;
//! a short HMAC secret is refused; and a key is for the algorithms of its curve or of its length,
//! where jsonwebtoken tells only families apart.
//!
//! What is kept is the `DecodingKey`. Its `JwtVerifier` would be the better thing to keep, but the
//! box that it comes in is neither `Send` nor `Sync`, so one is made for each signature.

use std::fmt;

use aws_lc_rs::rsa::{self, RsaParameters};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::Fault;
use crate::auth::provider::provider;

/// Bits of an RSA modulus: at least what RFC 7518 §3.3 demands, at most what the library verifies.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// With the bytes that a secret needs: as many as the hash has (RFC 7518 §3.2).
const HMAC: [(Algorithm, usize); 3] =
    [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)];

/// One key of an issuer, checked once instead of at every handshake.
///
/// It verifies only the algorithms that its *kind* is for. What the token's header says only
/// chooses among them, so a public key can never serve as an HMAC secret (RFC 8725 §2.1, §3.1).
#[derive(Clone)]
pub(in crate::auth) struct Key {
    /// The `kid`, where the key has one.
    pub(in crate::auth) id: Option<String>,
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

impl Key {
    /// An RSA public key in DER: `SubjectPublicKeyInfo` or PKCS #1 `RSAPublicKey`.
    pub(super) fn rsa(der: &[u8]) -> Result<Self, Fault> {
        let key = rsa::PublicKey::from_der(der).map_err(|_| Fault::Broken("RSA"))?;
        let bits = RsaParameters::public_modulus_len(key.as_ref()).map_err(|_| Fault::Broken("RSA"))?;
        if !RSA_BITS.contains(&bits) {
            return Err(Fault::RsaSize(bits));
        }
        check("RSA", &RSA_PKCS1_2048_8192_SHA256, key.as_ref())?;
        Ok(Self { id: None, key: DecodingKey::from_rsa_der(key.as_ref()), algorithms: RSA.to_vec() })
    }

    /// A public key on the curve P-256: an uncompressed point, or a `SubjectPublicKeyInfo`.
    pub(super) fn p256(bytes: &[u8]) -> Result<Self, Fault> {
        check("P-256", &ECDSA_P256_SHA256_FIXED, bytes)?;
        Ok(Self { id: None, key: DecodingKey::from_ec_der(bytes), algorithms: vec![Algorithm::ES256] })
    }

    /// A public key on the curve P-384: an uncompressed point, or a `SubjectPublicKeyInfo`.
    pub(super) fn p384(bytes: &[u8]) -> Result<Self, Fault> {
        check("P-384", &ECDSA_P384_SHA384_FIXED, bytes)?;
        Ok(Self { id: None, key: DecodingKey::from_ec_der(bytes), algorithms: vec![Algorithm::ES384] })
    }

    /// An Ed25519 public key: its 32 bytes, or a `SubjectPublicKeyInfo`.
    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, Fault> {
        check("Ed25519", &ED25519, bytes)?;
        Ok(Self { id: None, key: DecodingKey::from_ed_der(bytes), algorithms: vec![Algorithm::EdDSA] })
    }

    /// An HMAC secret, for the algorithms that it is long enough for.
    pub(super) fn hmac(secret: &[u8]) -> Result<Self, Fault> {
        let long_enough = HMAC.iter().filter(|(_, least)| secret.len() >= *least);
        let algorithms: Vec<_> = long_enough.map(|(algorithm, _)| *algorithm).collect();
        if algorithms.is_empty() {
            return Err(Fault::SecretSize(secret.len()));
        }
        Ok(Self { id: None, key: DecodingKey::from_secret(secret), algorithms })
    }

    pub(super) fn with_id(self, id: Option<String>) -> Self {
        Self { id, ..self }
    }

    /// The same key for one algorithm only; `None` when it is not for that.
    pub(super) fn only(mut self, algorithm: Algorithm) -> Option<Self> {
        self.algorithms.retain(|own| *own == algorithm);
        (!self.algorithms.is_empty()).then_some(self)
    }

    /// The algorithms that this key verifies; never empty.
    pub(in crate::auth) fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.algorithms.iter().copied()
    }

    /// Whether this key verifies `algorithm`.
    pub(in crate::auth) fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether this is the same key under the same name, for the same algorithms.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
            && self.algorithms == other.algorithms
            && self.key.try_get_as_bytes().ok() == other.key.try_get_as_bytes().ok()
    }

    /// Whether `signature` is this key's signature of `signed` by `algorithm`. Secrets are
    /// compared in constant time.
    pub(in crate::auth) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        self.fits(algorithm)
            && (provider().verifier_factory)(&algorithm, &self.key)
                .is_ok_and(|verifier| verifier.verify(signed, &signature.to_vec()).is_ok())
    }
}

/// Whether `bytes` are a public key for `algorithm`: one that exists, and for a point, on its curve.
fn check(
    kind: &'static str,
    algorithm: &'static dyn VerificationAlgorithm,
    bytes: &[u8],
) -> Result<(), Fault> {
    ParsedPublicKey::new(algorithm, bytes).map(drop).map_err(|_| Fault::Broken(kind))
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
