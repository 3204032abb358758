//! Keys that verify, each bound to its algorithms.
//!
//! A key is parsed once, when it is loaded: then a broken key is a fault of its file instead of a
//! "bad signature" at every handshake, a short HMAC secret is refused, and a key is for the
//! algorithms of its curve or of its length, where jsonwebtoken tells only families apart.
//!
//! jsonwebtoken verifies HMACs. Its verifiers of other signatures keep the bytes of a public key
//! and parse them anew for each signature, and keeping a verifier would not help; so aws-lc, which
//! they call, is called here with the parsed key and the same algorithm.

use std::fmt;

use aws_lc_rs::rsa::{self, RsaParameters};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::Fault;
use crate::auth::provider::provider;

/// Bits of an RSA modulus: at least what RFC 7518 §3.3 demands, at most what the library verifies.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

const RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::RS256, &RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::RS384, &RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::RS512, &RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::PS256, &RSA_PSS_2048_8192_SHA256),
    (Algorithm::PS384, &RSA_PSS_2048_8192_SHA384),
    (Algorithm::PS512, &RSA_PSS_2048_8192_SHA512),
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
    verifiers: Vec<(Algorithm, Verifier)>,
}

/// What verifies one algorithm.
#[derive(Clone)]
enum Verifier {
    Public(ParsedPublicKey),
    Secret(DecodingKey),
}

impl Verifier {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Public(own), Self::Public(other)) => own.as_ref() == other.as_ref(),
            (Self::Secret(own), Self::Secret(other)) => {
                own.try_get_as_bytes().ok() == other.try_get_as_bytes().ok()
            }
            _ => false,
        }
    }
}

impl Key {
    /// An RSA public key in DER: `SubjectPublicKeyInfo` or PKCS #1 `RSAPublicKey`.
    pub(super) fn rsa(der: &[u8]) -> Result<Self, Fault> {
        let key = rsa::PublicKey::from_der(der).map_err(|_| Fault::Broken("RSA"))?;
        let bits = RsaParameters::public_modulus_len(key.as_ref()).map_err(|_| Fault::Broken("RSA"))?;
        if !RSA_BITS.contains(&bits) {
            return Err(Fault::RsaSize(bits));
        }
        let verifiers =
            RSA.map(|(algorithm, parameters)| Ok((algorithm, parse("RSA", parameters, key.as_ref())?)));
        Ok(Self { id: None, verifiers: verifiers.into_iter().collect::<Result<_, _>>()? })
    }

    /// A public key on the curve P-256: an uncompressed point, or a `SubjectPublicKeyInfo`.
    pub(super) fn p256(bytes: &[u8]) -> Result<Self, Fault> {
        Self::of_one(Algorithm::ES256, parse("P-256", &ECDSA_P256_SHA256_FIXED, bytes)?)
    }

    /// A public key on the curve P-384: an uncompressed point, or a `SubjectPublicKeyInfo`.
    pub(super) fn p384(bytes: &[u8]) -> Result<Self, Fault> {
        Self::of_one(Algorithm::ES384, parse("P-384", &ECDSA_P384_SHA384_FIXED, bytes)?)
    }

    /// An Ed25519 public key: its 32 bytes, or a `SubjectPublicKeyInfo`.
    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, Fault> {
        Self::of_one(Algorithm::EdDSA, parse("Ed25519", &ED25519, bytes)?)
    }

    fn of_one(algorithm: Algorithm, verifier: Verifier) -> Result<Self, Fault> {
        Ok(Self { id: None, verifiers: vec![(algorithm, verifier)] })
    }

    /// An HMAC secret, for the algorithms that it is long enough for.
    pub(super) fn hmac(secret: &[u8]) -> Result<Self, Fault> {
        let long_enough = HMAC.iter().filter(|(_, least)| secret.len() >= *least);
        let verifiers: Vec<_> = long_enough
            .map(|(algorithm, _)| (*algorithm, Verifier::Secret(DecodingKey::from_secret(secret))))
            .collect();
        if verifiers.is_empty() {
            return Err(Fault::SecretSize(secret.len()));
        }
        Ok(Self { id: None, verifiers })
    }

    pub(super) fn with_id(self, id: Option<String>) -> Self {
        Self { id, ..self }
    }

    /// The same key for one algorithm only; `None` when it is not for that.
    pub(super) fn only(mut self, algorithm: Algorithm) -> Option<Self> {
        self.verifiers.retain(|(own, _)| *own == algorithm);
        (!self.verifiers.is_empty()).then_some(self)
    }

    /// The algorithms that this key verifies; never empty.
    pub(in crate::auth) fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.verifiers.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Whether this key verifies `algorithm`.
    pub(in crate::auth) fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms().any(|own| own == algorithm)
    }

    /// Whether this is the same key under the same name, for the same algorithms.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
            && self.algorithms().eq(other.algorithms())
            && self.verifiers.iter().zip(&other.verifiers).all(|((_, own), (_, its))| own.is_same(its))
    }

    /// Whether `signature` is this key's signature of `signed` by `algorithm`. Secrets are
    /// compared in constant time.
    pub(in crate::auth) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let verifier = self.verifiers.iter().find(|(own, _)| *own == algorithm);
        verifier.is_some_and(|(_, verifier)| match verifier {
            Verifier::Public(key) => key.verify_sig(signed, signature).is_ok(),
            Verifier::Secret(key) => (provider().verifier_factory)(&algorithm, key)
                .is_ok_and(|verifier| verifier.verify(signed, &signature.to_vec()).is_ok()),
        })
    }
}

/// The public key for `algorithm` in `bytes`: one that exists, and for a point, on its curve.
fn parse(
    kind: &'static str,
    algorithm: &'static dyn VerificationAlgorithm,
    bytes: &[u8],
) -> Result<Verifier, Fault> {
    ParsedPublicKey::new(algorithm, bytes).map(Verifier::Public).map_err(|_| Fault::Broken(kind))
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
