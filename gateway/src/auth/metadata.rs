//! What an issuer says about itself (RFC 8414 §2, OpenID Connect Discovery 1.0 §3).

use serde::Deserialize;
use thiserror::Error;
use url::Url;

use super::excerpt;
use crate::config::may_be_asked;

/// Why the metadata of an issuer cannot be used. Nothing of it is shown but short excerpts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// No JSON object, or members of other types.
    #[error("it is no JSON document with the strings `issuer` and `jwks_uri` (RFC 8414 §2)")]
    NotMetadata,
    /// Whoever answered speaks for another issuer (RFC 8414 §3.3).
    #[error(
        "it is that of {found}, and the configuration has the issuer {expected:?}: they must be equal to the last \
         character, so correct `issuer`, or the provider's own name"
    )]
    OtherIssuer {
        /// The configured issuer.
        expected: String,
        /// What the metadata says.
        found: String,
    },
    /// Keys would come over a way that others can write on.
    #[error("its jwks_uri {0} is not https: name the JWK set with keys instead of discovery")]
    UnsafeKeys(String),
    /// Tokens would be asked about over a way that others can read and write on.
    #[error("its introspection_endpoint {0} is not https: name the endpoint in [issuer.introspection]")]
    UnsafeIntrospection(String),
    /// Nobody can be asked about tokens.
    #[error("it names no introspection_endpoint (RFC 8414 §2): name the endpoint in [issuer.introspection]")]
    NoIntrospection,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
    introspection_endpoint: Option<String>,
}

/// Where the keys of `issuer` are by its metadata `body`: an https URL, or http on this host where
/// the issuer's own name is such a URL.
///
/// # Errors
///
/// See [`MetadataError`].
pub fn jwks_uri(body: &[u8], issuer: &str) -> Result<Url, MetadataError> {
    let text = parse(body, issuer)?.jwks_uri;
    safe(&text, issuer).ok_or_else(|| MetadataError::UnsafeKeys(shown(&text)))
}

/// Where `issuer` can be asked about a token by its metadata `body` (RFC 8414 §2): a URL that may be one
/// of keys, too.
///
/// # Errors
///
/// See [`MetadataError`].
pub fn introspection_endpoint(body: &[u8], issuer: &str) -> Result<Url, MetadataError> {
    let text = parse(body, issuer)?.introspection_endpoint.ok_or(MetadataError::NoIntrospection)?;
    let url = safe(&text, issuer).filter(|url| url.fragment().is_none());
    url.ok_or_else(|| MetadataError::UnsafeIntrospection(shown(&text)))
}

/// The metadata in `body`, if it is that of `issuer`.
fn parse(body: &[u8], issuer: &str) -> Result<Metadata, MetadataError> {
    // What is skipped would not be looked at: it is text all the same (RFC 8259 §8.1).
    let text = std::str::from_utf8(body).map_err(|_| MetadataError::NotMetadata)?;
    // An array of the same values is a struct, too, to who is not told otherwise.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(MetadataError::NotMetadata);
    }
    let metadata: Metadata = serde_json::from_str(text).map_err(|_| MetadataError::NotMetadata)?;
    if metadata.issuer != issuer {
        return Err(MetadataError::OtherIssuer {
            expected: issuer.to_owned(),
            found: excerpt(&metadata.issuer),
        });
    }
    Ok(metadata)
}

/// The URL `text`, if nobody between here and there can change what `issuer` says there.
fn safe(text: &str, issuer: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let in_clear = url.scheme() != "https";
    let with_password = !url.username().is_empty() || url.password().is_some();
    let refused = !may_be_asked(&url) || (in_clear && issuer.starts_with("https:")) || with_password;
    (!refused).then_some(url)
}

/// A URL for a message: a query may be a secret.
fn shown(url: &str) -> String {
    excerpt(url.split('?').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(issuer: &str, body: &str) -> Result<String, MetadataError> {
        jwks_uri(body.as_bytes(), issuer).map(String::from)
    }

    fn metadata(issuer: &str, keys: &str) -> String {
        serde_json::json!({"issuer": issuer, "jwks_uri": keys, "more": [1]}).to_string()
    }

    #[test]
    fn the_keys_of_the_very_issuer_are_found() {
        let idp = "https://idp.example";
        let body = metadata(idp, "https://keys.example/jwks?v=1");
        assert_eq!(uri(idp, &body).as_deref(), Ok("https://keys.example/jwks?v=1"));
        let local = "http://127.0.0.1:8000";
        assert!(uri(local, &metadata(local, "http://127.0.0.1:8000/jwks")).is_ok());
    }

    #[test]
    fn metadata_of_another_issuer_is_refused_and_both_are_named() {
        for found in ["https://idp.example/", "https://IDP.example", "https://evil.example", ""] {
            let fault = uri("https://idp.example", &metadata(found, "https://idp.example/j"));
            let message = fault.expect_err("refused").to_string();
            assert!(message.contains("\"https://idp.example\"") && message.contains(found), "{message}");
        }
    }

    #[test]
    fn keys_that_others_could_replace_on_the_way_are_refused() {
        let idp = "https://idp.example";
        for keys in
            ["http://idp.example/j", "http://127.0.0.1/j", "file:///j", "ftp://x/j", "", "https://a:b@x/j"]
        {
            let fault = uri(idp, &metadata(idp, keys)).expect_err("refused");
            assert!(matches!(fault, MetadataError::UnsafeKeys(_)), "{keys}: {fault}");
        }
        assert!(uri("http://127.0.0.1", &metadata("http://127.0.0.1", "http://idp.example/j")).is_err());
    }

    #[test]
    fn what_is_no_metadata_is_refused() {
        for body in ["", "<!DOCTYPE html>", "[]", "{}", r#"{"issuer":1,"jwks_uri":"https://x/"}"#, "null"] {
            assert_eq!(uri("https://idp.example", body), Err(MetadataError::NotMetadata), "{body}");
        }
        let array = br#"["https://b","https://a/j","https://a/i"]"#;
        assert_eq!(jwks_uri(array, "https://b"), Err(MetadataError::NotMetadata));
        let twice = r#"{"issuer":"https://a","issuer":"https://b","jwks_uri":"https://a/j"}"#;
        assert_eq!(uri("https://b", twice), Err(MetadataError::NotMetadata));
    }

    #[test]
    fn tokens_are_asked_about_where_the_very_issuer_says_and_nowhere_that_others_listen() {
        let idp = "https://idp.example";
        let asked = |issuer: &str, endpoint: serde_json::Value| {
            let mut body = serde_json::json!({"issuer": issuer, "jwks_uri": "https://idp.example/j"});
            body["introspection_endpoint"] = endpoint;
            introspection_endpoint(body.to_string().as_bytes(), idp)
        };
        let found = asked(idp, "https://idp.example/introspect".into()).expect("safe");
        assert_eq!(found.as_str(), "https://idp.example/introspect");
        let other = asked("https://evil.example", "https://idp.example/introspect".into());
        assert!(matches!(other, Err(MetadataError::OtherIssuer { .. })));
        for unsafe_one in [
            "http://idp.example/i?hush",
            "http://127.0.0.1/i",
            "file:///i",
            "https://a:b@idp.example/i",
            "https://idp.example/i#x",
            "",
        ] {
            let fault = asked(idp, unsafe_one.into()).expect_err("refused");
            assert!(matches!(fault, MetadataError::UnsafeIntrospection(_)), "{unsafe_one}: {fault}");
            assert!(!fault.to_string().contains("hush"), "{fault}");
        }
        assert_eq!(asked(idp, serde_json::Value::Null), Err(MetadataError::NoIntrospection));
        assert_eq!(asked(idp, 1.into()), Err(MetadataError::NotMetadata));
    }
}
