//! Makes tokens, good ones and others.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value, json};

use super::NOW;

static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static P256: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
static P384: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
static ED25519: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().unwrap());

/// 64 bytes, enough for HS512.
pub(in crate::auth) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A private key, made once for all tests.
#[derive(Clone, Copy, Debug)]
pub(in crate::auth) enum Signer {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Signer {
    pub(in crate::auth) const ALL: [Self; 4] = [Self::Rsa, Self::P256, Self::P384, Self::Ed25519];

    /// The key that `algorithm` needs; `None` for HMAC.
    pub(in crate::auth) fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::ES256 => Some(Self::P256),
            Algorithm::ES384 => Some(Self::P384),
            Algorithm::EdDSA => Some(Self::Ed25519),
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
            _ => Some(Self::Rsa),
        }
    }

    /// The `kid` in `jwk`.
    pub(in crate::auth) fn id(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The public key as JWK members, without `kid`, `alg` and `use`.
    pub(in crate::auth) fn members(self) -> Value {
        let coordinates = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            json!({"kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
        };
        match self {
            Self::Rsa => {
                let key = DecodingKey::from_rsa_der(RSA.public_key().as_ref());
                let jwk = jsonwebtoken::jwk::Jwk::from_decoding_key(&key, None).unwrap();
                serde_json::to_value(jwk).unwrap()
            }
            Self::P256 => coordinates("P-256", P256.public_key().as_ref()),
            Self::P384 => coordinates("P-384", P384.public_key().as_ref()),
            Self::Ed25519 => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(ED25519.public_key())})
            }
        }
    }

    /// The public key as a JWK with its `kid`.
    pub(in crate::auth) fn jwk(self) -> String {
        let mut members = self.members();
        members["kid"] = self.id().into();
        members.to_string()
    }

    /// The public key as a `SubjectPublicKeyInfo` in PEM.
    pub(in crate::auth) fn public_pem(self) -> String {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Rsa => RSA.public_key().as_der(),
            Self::P256 => P256.public_key().as_der(),
            Self::P384 => P384.public_key().as_der(),
            Self::Ed25519 => ED25519.public_key().as_der(),
        }
        .unwrap();
        pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref()))
    }

    /// The RSA public key in PKCS #1 PEM.
    pub(in crate::auth) fn rsa_pkcs1_pem() -> String {
        pem::encode(&pem::Pem::new("RSA PUBLIC KEY", RSA.public_key().as_ref()))
    }

    /// The RSA private key in PKCS #8 PEM.
    pub(in crate::auth) fn rsa_private_pem() -> String {
        let der: Pkcs8V1Der<'_> = RSA.as_der().unwrap();
        pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref()))
    }

    /// The same key for `jsonwebtoken`.
    pub(in crate::auth) fn decoding_key(self) -> DecodingKey {
        match self {
            Self::Rsa => DecodingKey::from_rsa_der(RSA.public_key().as_ref()),
            Self::P256 => DecodingKey::from_ec_der(P256.public_key().as_ref()),
            Self::P384 => DecodingKey::from_ec_der(P384.public_key().as_ref()),
            Self::Ed25519 => DecodingKey::from_ed_der(ED25519.public_key().as_ref()),
        }
    }

    pub(in crate::auth) fn sign(self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let encoding: &'static dyn RsaEncoding = match algorithm {
            Algorithm::RS384 => &RSA_PKCS1_SHA384,
            Algorithm::RS512 => &RSA_PKCS1_SHA512,
            Algorithm::PS256 => &RSA_PSS_SHA256,
            Algorithm::PS384 => &RSA_PSS_SHA384,
            Algorithm::PS512 => &RSA_PSS_SHA512,
            _ => &RSA_PKCS1_SHA256,
        };
        match self {
            Self::Rsa => {
                let mut signature = vec![0; RSA.public_modulus_len()];
                RSA.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::P256 => P256.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::P384 => P384.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519 => ED25519.sign(message).as_ref().to_vec(),
        }
    }
}

/// A token in the making. A fresh one is good for `gate()`.
#[derive(Clone, Debug)]
pub(in crate::auth) struct Forge {
    algorithm: Algorithm,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Forge {
    pub(in crate::auth) fn new(algorithm: Algorithm) -> Self {
        let header = json!({"alg": format!("{algorithm:?}"), "typ": "at+jwt"});
        let claims = json!({
            "iss": "https://idp.example",
            "sub": "alice",
            "aud": "https://gw.example",
            "iat": NOW - 10,
            "exp": NOW + 600,
            "jti": "id-1",
            "client_id": "app",
            "scope": "chat:read chat:write",
        });
        let mut forge = Self {
            algorithm,
            header: header.as_object().unwrap().clone(),
            claims: claims.as_object().unwrap().clone(),
        };
        if let Some(signer) = Signer::of(algorithm) {
            forge.header.insert("kid".to_owned(), signer.id().into());
        }
        forge
    }

    /// Signed with Ed25519.
    pub(in crate::auth) fn good() -> Self {
        Self::new(Algorithm::EdDSA)
    }

    pub(in crate::auth) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    pub(in crate::auth) fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    pub(in crate::auth) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    pub(in crate::auth) fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Signed with the key that the algorithm needs; with `SECRET` for HMAC.
    pub(in crate::auth) fn token(&self) -> String {
        match Signer::of(self.algorithm) {
            Some(signer) => self.signed_by(signer),
            None => self.hmac(SECRET),
        }
    }

    pub(in crate::auth) fn signed_by(&self, signer: Signer) -> String {
        let algorithm = self.algorithm;
        finish(&self.header_json(), &self.claims_json(), |message| signer.sign(algorithm, message))
    }

    pub(in crate::auth) fn hmac(&self, secret: &[u8]) -> String {
        let hash = match self.algorithm {
            Algorithm::HS384 => hmac::HMAC_SHA384,
            Algorithm::HS512 => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        finish(&self.header_json(), &self.claims_json(), |message| {
            hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec()
        })
    }

    pub(in crate::auth) fn unsigned(&self) -> String {
        finish(&self.header_json(), &self.claims_json(), |_| Vec::new())
    }

    pub(in crate::auth) fn header_json(&self) -> String {
        Value::from(self.header.clone()).to_string()
    }

    pub(in crate::auth) fn claims_json(&self) -> String {
        Value::from(self.claims.clone()).to_string()
    }
}

/// A token of these texts, whatever they are, with a good Ed25519 signature.
pub(in crate::auth) fn raw(header: &str, claims: &str) -> String {
    finish(header, claims, |message| Signer::Ed25519.sign(Algorithm::EdDSA, message))
}

fn finish(header: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
