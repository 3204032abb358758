//! The parts of a signed token: JWS compact serialization (RFC 7515 §7.1).

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::excerpt;
use super::token::Token;
use super::trace::Contents;
use crate::rejection::{Reason, Rejection};

/// A token taken apart. Nothing in it is verified.
///
/// It has the members of its [`Content`], which outlives it where the token is remembered.
pub(super) struct Jws<'a> {
    pub(super) token: &'a Token,
    pub(super) content: Arc<Content>,
}

/// What a token says.
pub(super) struct Content {
    /// How many bytes of the token are signed: header and payload as they were sent.
    signed: usize,
    /// What the signer says about the signature.
    pub(super) header: Header,
    /// The claims.
    pub(super) claims: Members,
    /// The signature, decoded.
    pub(super) signature: Vec<u8>,
}

impl Deref for Jws<'_> {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.content
    }
}

/// The members of the JOSE header that matter here (RFC 7515 §4.1). `jwk`, `jku`, `x5u` and
/// `x5c` offer a key to verify with; the token has no say in that, so they are not even kept.
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// In lower case and without `application/`, which RFC 7515 §4.1.9 says to leave out.
    pub(super) typ: Option<String>,
}

impl<'a> Jws<'a> {
    /// What `token` says, whoever signed it; `None` when it is no JWT.
    pub(super) fn contents(token: &Token) -> Option<Contents> {
        let mut parts = token.as_str().split('.');
        let mut object = |what| Some(members(parts.next()?, what).ok()?.0);
        Some(Contents { header: object("header")?, claims: object("payload")? })
    }

    /// Takes `token` apart.
    ///
    /// # Errors
    ///
    /// `credentials/malformed`, or `credentials/algorithm` when the header names none that exists here.
    pub(super) fn parse(token: &'a Token) -> Result<Self, Box<Rejection>> {
        let text = token.as_str();
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed(match text.split('.').count() {
                5 => "The token is encrypted (JWE); only signed tokens are accepted.",
                1 => "The token is not a JWT; opaque tokens are not accepted.",
                _ => "The token does not have three parts.",
            }));
        };
        let signed = header.len() + 1 + claims.len();
        let header = Header::read(&members(header, "header")?)?;
        let claims = members(claims, "payload")?;
        let signature = base64url(signature, "signature")?;
        Ok(Self { token, content: Arc::new(Content { signed, header, claims, signature }) })
    }

    /// The signed bytes.
    pub(super) fn signed(&self) -> &'a [u8] {
        &self.token.as_str().as_bytes()[..self.content.signed]
    }
}

impl Header {
    fn read(members: &Members) -> Result<Self, Box<Rejection>> {
        let text = |name| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(malformed(format!("The header's {name} is not a string."))),
        };
        // Nothing that must be understood is, and an empty list is forbidden (RFC 7515 §4.1.11).
        if members.get("crit").is_some() {
            return Err(malformed("The header demands extensions (crit) that are not supported."));
        }
        let name = text("alg")?.ok_or_else(|| malformed("The header has no alg."))?;
        let key_id = text("kid")?.map(str::to_owned);
        let typ = text("typ")?.map(|typ| {
            let typ = typ.to_ascii_lowercase();
            typ.strip_prefix("application/").map_or(typ.clone(), str::to_owned)
        });
        if name.eq_ignore_ascii_case("none") {
            let rejection = Rejection::new(Reason::CredentialsAlgorithm);
            return Err(Box::new(rejection.detail("The token is not signed (alg is none).")));
        }
        let algorithm = name.parse().map_err(|_| {
            let note = format!("alg is {}, which is not supported", excerpt(name));
            Box::new(Rejection::new(Reason::CredentialsAlgorithm).note(note))
        })?;
        Ok(Self { algorithm, key_id, typ })
    }
}

/// The members of a JSON object, no two of the same name, and neither in any object inside.
///
/// A parser that silently takes one of two would let a token mean one thing here and another
/// behind the gate (RFC 7515 §4, RFC 7519 §4).
pub struct Members(Map<String, Value>);

impl Members {
    /// The same with another member, unless there is one of that name.
    pub(super) fn or(&self, name: &str, value: &Value) -> Self {
        let mut members = self.0.clone();
        members.entry(name).or_insert_with(|| value.clone());
        Self(members)
    }

    /// The member `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Members(…)")
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members, A::Error> {
                let mut members = Map::new();
                while let Some((name, Unique(value))) = access.next_entry::<String, Unique>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Any value in which no object has two members of the same name. How deep it can be is limited by
/// serde_json.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_string<E>(self, value: String) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Unique, E> {
                Ok(Unique(Value::Null))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
                let mut values = Vec::new();
                while let Some(Unique(value)) = access.next_element()? {
                    values.push(value);
                }
                Ok(Unique(values.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Unique, A::Error> {
                let members = Members::deserialize(MapAccessDeserializer::new(access))?;
                Ok(Unique(members.0.into()))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

fn members(part: &str, what: &str) -> Result<Members, Box<Rejection>> {
    // The parser's own message could repeat what the token holds.
    serde_json::from_slice(&base64url(part, what)?).map_err(|error| {
        malformed(match error.classify() {
            serde_json::error::Category::Data => {
                format!("The token's {what} is not a JSON object with unique names.")
            }
            _ => format!("The token's {what} is not valid JSON."),
        })
    })
}

fn base64url(part: &str, what: &str) -> Result<Vec<u8>, Box<Rejection>> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| malformed(format!("The token's {what} is not base64url without padding (RFC 7515 §2).")))
}

pub(super) fn malformed(detail: impl Into<String>) -> Box<Rejection> {
    Box::new(Rejection::new(Reason::CredentialsMalformed).detail(detail))
}
