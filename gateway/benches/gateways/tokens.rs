//! Keys and tokens of the bench.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::Outcome;

pub(crate) const ISSUER: &str = "https://idp.example";
pub(crate) const AUDIENCE: &str = "https://gw.example";

/// The algorithms that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// As in the header of a token; also the path of its route.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// One key pair of each kind.
pub(crate) struct Keys {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    made: u64,
}

impl Keys {
    pub(crate) fn new() -> Outcome<Self> {
        let failed = |what: &str| format!("no {what} key can be made");
        Ok(Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| failed("RSA"))?,
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| failed("P-256"))?,
            ed25519: Ed25519KeyPair::generate().map_err(|_| failed("Ed25519"))?,
            made: 0,
        })
    }

    /// The public keys as a JWK set (RFC 7517 §5).
    pub(crate) fn jwks(&self) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let rsa = self.rsa.public_key();
        let point = self.p256.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "RS256", "alg": "RS256", "use": "sig",
             "n": text(rsa.modulus().big_endian_without_leading_zero()),
             "e": text(rsa.exponent().big_endian_without_leading_zero())},
            {"kty": "EC", "kid": "ES256", "alg": "ES256", "use": "sig", "crv": "P-256",
             "x": text(&point[1..33]), "y": text(&point[33..])},
            {"kty": "OKP", "kid": "EdDSA", "alg": "EdDSA", "use": "sig", "crv": "Ed25519",
             "x": text(self.ed25519.public_key().as_ref())},
        ]})
        .to_string()
    }

    /// Writes the public key for `algorithm` into `folder`, in PEM.
    pub(crate) fn pem(&self, algorithm: Algorithm, folder: &Path) -> Outcome<PathBuf> {
        let der: PublicKeyX509Der<'_> = match algorithm {
            Algorithm::Rs256 => self.rsa.public_key().as_der()?,
            Algorithm::Es256 => self.p256.public_key().as_der()?,
            Algorithm::EdDsa => self.ed25519.public_key().as_der()?,
        };
        let path = folder.join(format!("{}.pem", algorithm.name()));
        std::fs::write(&path, pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref())))?;
        Ok(path)
    }

    /// A token that nobody has seen yet, which expires `ttl` seconds from now.
    pub(crate) fn token(&mut self, algorithm: Algorithm, ttl: i64) -> Outcome<String> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        self.made += 1;
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"typ": "at+jwt", "alg": algorithm.name(), "kid": algorithm.name()});
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": format!("user-{}", self.made), "client_id": "bench",
            "iat": now.min(now + ttl) - 60, "exp": now + ttl, "jti": format!("bench-{}", self.made),
            "scope": "chat:read",
        });
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.sign(algorithm, signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Outcome<Vec<u8>> {
        let random = SystemRandom::new();
        Ok(match algorithm {
            Algorithm::Rs256 => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                signature
            }
            Algorithm::Es256 => self.p256.sign(&random, message)?.as_ref().to_vec(),
            Algorithm::EdDsa => self.ed25519.sign(message).as_ref().to_vec(),
        })
    }
}
