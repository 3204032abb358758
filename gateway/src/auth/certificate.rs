//! The certificate that a client showed in the handshake of TLS.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate whose private key the client has, and which an authority vouches for.
///
/// Rules see it as the claim `certificate`, which is an object:
///
/// - `subject` and `issuer`: distinguished names, as text;
/// - `common_name`: the last of the subject's, if it has one;
/// - `dns`, `email`, `uri`: lists of its alternative names (RFC 5280 §4.2.1.6), those that there are;
/// - `serial`: in hexadecimal, in lower case;
/// - `thumbprint`: SHA-256 of the whole in base64url (`x5t#S256`, RFC 7515 §4.1.8).
#[derive(Clone, PartialEq)]
pub struct Certificate {
    thumbprint: String,
    /// An object.
    claims: Value,
    /// From this second since 1970 on it is not valid any more.
    ended: u64,
}

/// It cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no X.509 certificate")]
pub struct CertificateError;

impl Certificate {
    /// The name of the claim, which no token can make.
    pub const CLAIM: &'static str = "certificate";

    /// The certificate in `der`, which has been verified.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError)?;
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, der));
        let mut claims = Map::new();
        claims.insert("subject".to_owned(), certificate.subject().to_string().into());
        claims.insert("issuer".to_owned(), certificate.issuer().to_string().into());
        let names = certificate.subject().iter_common_name();
        if let Some(name) = names.last().and_then(|name| name.as_str().ok()) {
            claims.insert("common_name".to_owned(), name.into());
        }
        let serial: String = certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
        claims.insert("serial".to_owned(), serial.into());
        let alternatives = certificate.subject_alternative_name().map_err(|_| CertificateError)?;
        for name in alternatives.iter().flat_map(|names| &names.value.general_names) {
            let (kind, text) = match name {
                GeneralName::DNSName(name) => ("dns", *name),
                GeneralName::RFC822Name(name) => ("email", *name),
                GeneralName::URI(name) => ("uri", *name),
                _ => continue,
            };
            if let Value::Array(list) = claims.entry(kind).or_insert_with(|| json!([])) {
                list.push(text.into());
            }
        }
        claims.insert("thumbprint".to_owned(), thumbprint.clone().into());
        // RFC 5280 §4.1.2.5: through `notAfter`, inclusive.
        let last = certificate.validity().not_after.timestamp();
        let ended = u64::try_from(last).unwrap_or_default().saturating_add(1);
        Ok(Self { thumbprint, claims: Value::Object(claims), ended })
    }

    /// `x5t#S256`
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// From this second since 1970 on it is not valid any more.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// What rules see.
    pub(super) fn claims(&self) -> &Value {
        &self.claims
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.thumbprint)
    }
}

/// Whether a token whose claim `cnf` is `confirmation` may be used by who shows `certificate`
/// (RFC 8705 §3.1): it names this certificate, and nothing else that would have to be shown.
pub(super) fn confirms(confirmation: &Value, certificate: Option<&Certificate>) -> bool {
    let Value::Object(members) = confirmation else { return false };
    let named = members.get("x5t#S256").and_then(Value::as_str);
    members.len() == 1 && named.is_some() && named == certificate.map(Certificate::thumbprint)
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    pub(crate) fn certificate(name: &str) -> Certificate {
        let mut params = CertificateParams::new(vec![format!("{name}.example")]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.push(SanType::URI("spiffe://example/a".try_into().expect("ASCII")));
        let own = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        Certificate::parse(own.der()).expect("a certificate")
    }

    #[test]
    fn its_names_are_claims() {
        let certificate = certificate("robot");
        let claims = certificate.claims();
        assert_eq!(claims["common_name"], "robot");
        assert_eq!(claims["dns"], json!(["robot.example"]));
        assert_eq!(claims["uri"], json!(["spiffe://example/a"]));
        assert_eq!(claims["subject"], "CN=robot");
        assert_eq!(claims["thumbprint"], certificate.thumbprint());
        assert_eq!(certificate.thumbprint().len(), 43);
        assert_eq!(Certificate::parse(b"0\x03junk"), Err(CertificateError));
    }

    #[test]
    fn a_bound_token_is_good_with_its_own_certificate_only() {
        let (own, other) = (certificate("a"), certificate("b"));
        let confirmation = json!({ "x5t#S256": own.thumbprint() });
        assert!(confirms(&confirmation, Some(&own)));
        assert!(!confirms(&confirmation, Some(&other)));
        assert!(!confirms(&confirmation, None));
        let with_more = json!({ "x5t#S256": own.thumbprint(), "jkt": "x" });
        for none in [json!({}), json!({ "x5t#S256": null }), json!("x"), json!({ "jkt": "x" }), with_more] {
            assert!(!confirms(&none, Some(&own)) && !confirms(&none, None), "{none}");
        }
    }
}
