//! What can be wrong with a key.

use jsonwebtoken::Algorithm;
use thiserror::Error;

/// Why a key cannot be used, and what to do. Follows the words "key 2 of the set" or the name of
/// a file, and never holds a part of the key.
#[derive(Debug, Error)]
pub(in crate::auth) enum Fault {
    #[error("is not a valid {0} public key: export it again")]
    Broken(&'static str),
    #[error(
        "is an RSA key of {0} bits: use one of 2048 to 8192 (RFC 7518 §3.3), better an Ed25519 or P-256 key"
    )]
    RsaSize(u32),
    #[error(
        "is an HMAC secret of {0} bytes: use 32 or more (RFC 7518 §3.2), \
         for instance from `openssl rand -base64 48`"
    )]
    SecretSize(usize),
    #[error(
        "has the private member `{0}`: put only public keys here, and replace this key if others could read it"
    )]
    Private(&'static str),
    #[error(
        "is a secret (kty oct) that everybody can fetch: let the issuer replace it at once, and sign with a \
         key pair"
    )]
    PublishedSecret,
    #[error("lacks the member `{0}`: export the key again")]
    MissingMember(&'static str),
    #[error("{0}")]
    Members(String),
    #[error("has a member `{0}` that is not base64url without padding (RFC 7515 §2): export the key again")]
    NotBase64Url(&'static str),
    #[error(
        "has a member `{name}` of {found} bytes, where its curve needs {size} (RFC 7518 §6.2.1.2): export the key again"
    )]
    Length { name: &'static str, size: usize, found: usize },
    #[error("has alg {0:?}, which its kty is not for: correct one of them")]
    AlgorithmOfAnotherKind(Algorithm),
    #[error("has the kid of an earlier key for {0:?} too: give every key its own kid (RFC 7517 §4.5)")]
    Ambiguous(Algorithm),
    #[error("holds more than {0} keys: leave out those that sign nothing any more")]
    TooMany(usize),
    #[error("is not UTF-8 text: this must be a JWK set or a key in PEM")]
    NotText,
    #[error("holds no public key in PEM: it needs -----BEGIN PUBLIC KEY----- and the matching end")]
    NotPem,
    #[error("holds a public key of a kind that is not supported: use RSA, P-256, P-384 or Ed25519")]
    UnknownPublicKey,
    #[error("holds a certificate: take the key out of it with `openssl x509 -pubkey -noout -in CERTIFICATE`")]
    Certificate,
    #[error(
        "holds a private key: only the public half belongs here; \
         get it with `openssl pkey -pubout -in PRIVATE_KEY`"
    )]
    PrivatePem,
    #[error(
        "holds something else than Ed25519 or P-256 private keys in PEM (PKCS #8), or a time that is none: name the \
         right file, or put a copy of it back; if there is none, move the file away, and a new key is made at the next \
         start, but tokens of the old ones are not accepted any more"
    )]
    NotSigningKey,
}
