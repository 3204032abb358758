//! Keys that verify, each bound to its algorithms.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{self, RsaParameters};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
};
use jsonwebtoken::Algorithm;

use super::Fault;

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
const HMAC: [(Algorithm, hmac::Algorithm, usize); 3] = [
    (Algorithm::HS256, hmac::HMAC_SHA256, 32),
    (Algorithm::HS384, hmac::HMAC_SHA384, 48),
    (Algorithm::HS512, hmac::HMAC_SHA512, 64),
];

/// One key of an issuer, parsed and checked once instead of at every handshake.
///
/// There is one verifier for each algorithm that the *kind* of key is for. What the token's
/// header says only chooses among them, so a public key can never serve as an HMAC secret
/// (RFC 8725 §2.1, §3.1).
pub(in crate::auth) struct Key {
    /// The `kid`, where the key has one.
    pub(in crate::auth) id: Option<String>,
    verifiers: Vec<(Algorithm, Verifier)>,
}

enum Verifier {
    Public(ParsedPublicKey),
    /// Boxed, for it is twenty times as large.
    Secret(Box<hmac::Key>),
}

impl Key {
    /// An RSA public key in DER: `SubjectPublicKeyInfo` or PKCS #1 `RSAPublicKey`.
    pub(super) fn rsa(der: &[u8]) -> Result<Self, Fault> {
        let key = rsa::PublicKey::from_der(der).map_err(|_| Fault::Broken("RSA"))?;
        let bits = RsaParameters::public_modulus_len(key.as_ref()).map_err(|_| Fault::Broken("RSA"))?;
        if !RSA_BITS.contains(&bits) {
            return Err(Fault::RsaSize(bits));
        }
        let verifiers = RSA.iter().map(|(algorithm, parameters)| {
            let parsed = ParsedPublicKey::new(*parameters, key.as_ref()).map_err(|_| Fault::Broken("RSA"))?;
            Ok((*algorithm, Verifier::Public(parsed)))
        });
        Ok(Self { id: None, verifiers: verifiers.collect::<Result<_, Fault>>()? })
    }

    /// A public key on the curve P-256: an uncompressed point, or a `SubjectPublicKeyInfo`.
    pub(super) fn p256(bytes: &[u8]) -> Result<Self, Fault> {
        Self::public("P-256", Algorithm::ES256, &ECDSA_P256_SHA256_FIXED, bytes)
    }

    /// A public key on the curve P-384: an uncompressed point, or a `SubjectPublicKeyInfo`.
    pub(super) fn p384(bytes: &[u8]) -> Result<Self, Fault> {
        Self::public("P-384", Algorithm::ES384, &ECDSA_P384_SHA384_FIXED, bytes)
    }

    /// An Ed25519 public key: its 32 bytes, or a `SubjectPublicKeyInfo`.
    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, Fault> {
        Self::public("Ed25519", Algorithm::EdDSA, &ED25519, bytes)
    }

    fn public(
        kind: &'static str,
        algorithm: Algorithm,
        parameters: &'static dyn VerificationAlgorithm,
        bytes: &[u8],
    ) -> Result<Self, Fault> {
        let parsed = ParsedPublicKey::new(parameters, bytes).map_err(|_| Fault::Broken(kind))?;
        Ok(Self { id: None, verifiers: vec![(algorithm, Verifier::Public(parsed))] })
    }

    /// An HMAC secret, for the algorithms that it is long enough for.
    pub(super) fn hmac(secret: &[u8]) -> Result<Self, Fault> {
        let long_enough = HMAC.iter().filter(|(_, _, least)| secret.len() >= *least);
        let verifiers: Vec<_> = long_enough
            .map(|(algorithm, hash, _)| {
                (*algorithm, Verifier::Secret(Box::new(hmac::Key::new(*hash, secret))))
            })
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

    /// Whether `signature` is this key's signature of `signed` by `algorithm`. Secrets are
    /// compared in constant time.
    pub(in crate::auth) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        self.verifiers.iter().filter(|(own, _)| *own == algorithm).any(|(_, verifier)| match verifier {
            Verifier::Public(key) => key.verify_sig(signed, signature).is_ok(),
            Verifier::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<_> = self.algorithms().collect();
        f.debug_struct("Key").field("id", &self.id).field("algorithms", &algorithms).finish_non_exhaustive()
    }
}
