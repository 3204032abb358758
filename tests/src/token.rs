//! Tokens made by hand, good and forged. Nothing here shares code with what judges them.

use anyhow::{Result, anyhow, bail};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key that signs tokens with one algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug)]
pub struct Key {
    algorithm: &'static str,
    id: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>),
}

impl Key {
    /// A new key for `algorithm`, called `id` in JWK sets and tokens.
    pub fn generate(algorithm: &'static str, id: &str) -> Result<Self> {
        let pair = match algorithm {
            "RS256" | "PS256" => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048)?),
            "ES256" => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?),
            "ES384" => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?),
            "EdDSA" => Pair::Ed(Ed25519KeyPair::generate()?),
            "HS256" => {
                let mut secret = vec![0; 32];
                rand::fill(&mut secret)?;
                // A secret file holds text or bytes, but its last newline is not part of it.
                secret.iter_mut().for_each(|byte| *byte = b'!' + *byte % 90);
                Pair::Secret(secret)
            }
            other => bail!("no key is made for {other}"),
        };
        Ok(Self { algorithm, id: id.to_owned(), pair })
    }

    /// A key that signs with HMAC and `secret`, whatever that really is.
    pub fn hmac(secret: &[u8], id: &str) -> Self {
        Self { algorithm: "HS256", id: id.to_owned(), pair: Pair::Secret(secret.to_owned()) }
    }

    /// The algorithm in the header of its tokens.
    pub fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// The secret of an HMAC key, nothing for others.
    pub fn secret(&self) -> &[u8] {
        match &self.pair {
            Pair::Secret(secret) => secret,
            _ => &[],
        }
    }

    /// The public half as a JWK (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA",
                    "n": encode(public.modulus().big_endian_without_leading_zero()),
                    "e": encode(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Pair::Ec(pair) => {
                // SEC 1 §2.3.3: 4, then both coordinates.
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if self.algorithm == "ES256" { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
            Pair::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
            Pair::Secret(secret) => json!({"kty": "oct", "k": encode(secret)}),
        };
        jwk["kid"] = self.id.as_str().into();
        jwk["alg"] = self.algorithm.into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// The public half as PEM (RFC 7468 §13).
    pub fn public_pem(&self) -> Result<String> {
        let der: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der()?,
            Pair::Ec(pair) => pair.public_key().as_der()?,
            Pair::Ed(pair) => pair.public_key().as_der()?,
            Pair::Secret(_) => bail!("a secret has no public half"),
        };
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<String> =
            text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        Ok(match &self.pair {
            Pair::Rsa(pair) => {
                let padding = if self.algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature)?;
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message)?.as_ref().to_owned(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_owned(),
            Pair::Secret(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_owned()
            }
        })
    }
}

/// A JWK set (RFC 7517 §5) of the public halves of `keys`.
pub fn jwk_set(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

/// An access token (RFC 9068) before it is signed.
#[derive(Clone, Debug)]
pub struct Token {
    header: Value,
    claims: Value,
}

impl Token {
    /// A token of `issuer` for `audience` that is good for ten minutes.
    pub fn new(issuer: &str, audience: &str) -> Result<Self> {
        let now = now()?;
        Ok(Self {
            header: json!({"typ": "at+jwt"}),
            claims: json!({
                "iss": issuer,
                "aud": audience,
                "sub": "alice",
                "client_id": "test",
                "jti": "1",
                "iat": now,
                "exp": now + 600,
            }),
        })
    }

    /// The same with another claim, or another value of one.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    /// `token` without this claim.
    #[must_use]
    pub fn without(mut token: Self, name: &str) -> Self {
        if let Some(claims) = token.claims.as_object_mut() {
            claims.remove(name);
        }
        token
    }

    /// The same with a claim that holds the time `seconds` from now.
    pub fn time(self, name: &str, seconds: i64) -> Result<Self> {
        Ok(self.claim(name, now()? + seconds))
    }

    /// Signed with `key`.
    pub fn sign(&self, key: &Key) -> Result<String> {
        let mut header = self.header.clone();
        header["kid"] = key.id.as_str().into();
        self.sign_as(key, header)
    }

    /// Signed with `key` under a header that says what it likes, but for `alg`.
    pub fn sign_as(&self, key: &Key, mut header: Value) -> Result<String> {
        header["alg"] = key.algorithm.into();
        let message = self.message(&header);
        let signature = encode(&key.sign(message.as_bytes())?);
        Ok(format!("{message}.{signature}"))
    }

    /// Not signed at all: `alg` is `none` (RFC 7515 §A.5), or as the forger spells it.
    pub fn unsigned(&self, none: &str) -> String {
        let mut header = self.header.clone();
        header["alg"] = none.into();
        format!("{}.", self.message(&header))
    }

    fn message(&self, header: &Value) -> String {
        format!("{}.{}", encode(header.to_string().as_bytes()), encode(self.claims.to_string().as_bytes()))
    }
}

/// `token` with another claim under the old signature.
pub fn tampered(token: &str, name: &str, value: &str) -> Result<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { bail!("a token has three parts") };
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    claims[name] = value.into();
    Ok(format!("{header}.{}.{signature}", encode(claims.to_string().as_bytes())))
}

/// Seconds since 1970.
fn now() -> Result<i64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.map_err(|error| anyhow!("the clock stands before 1970: {error}"))?.as_secs())
        .map_err(|error| anyhow!("the clock is far off: {error}"))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
