//! What an endpoint is asked with: the client, the certificates that it trusts, and who the gate is.
//! Read anew when a file changes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::config::{ClientAuth, Diagnostic, Introspection, Limits};
use crate::service::outgoing::{Client, Terms, check_certificates};
use crate::service::stamp::Stamp;

/// Bytes of a file with a client secret: a secret, and not a file that was named by mistake.
const MAX_SECRET: u64 = 4096;
/// Connections that are kept for the next question.
const KEPT: usize = 8;

/// Everything but the endpoint.
#[derive(Debug)]
pub(super) struct Means {
    pub client: Client,
    credentials: Credentials,
}

/// How the gate proves who it is.
enum Credentials {
    /// In a header (RFC 6749 §2.3.1).
    Basic(HeaderValue),
    /// In the form (RFC 6749 §2.3.1).
    Post { id: String, secret: String },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The files behind it, as they were: the secret, and the certificates.
pub(super) type Stamps = [Option<Stamp>; 2];

/// The present stamps of the files that `rules` name.
pub(super) fn stamps(rules: &Introspection) -> Stamps {
    let stamp = |file: &Path| Stamp::of(file).ok();
    [stamp(&rules.secret), rules.ca.as_deref().and_then(stamp)]
}

impl Means {
    /// As `rules` say, within `limits`, from what is in the files now.
    ///
    /// # Errors
    ///
    /// The file of the secret or of the certificates, and what is wrong with it.
    pub(super) fn read(rules: &Introspection, limits: &Limits) -> Result<Self, Diagnostic> {
        let terms = Terms {
            connect: limits.introspection_timeout,
            idle: limits.introspection_timeout,
            whole: limits.introspection_timeout,
            size: limits.issuer_answer,
            ca: rules.ca.clone(),
            // A token is for this endpoint alone.
            redirects: false,
            kept: KEPT,
        };
        if let Some(ca) = &rules.ca {
            check_certificates(ca)?;
        }
        let client = Client::new(&terms).map_err(|error| {
            // Without a file, it is the system that lacks something.
            let file = rules.ca.as_deref().unwrap_or(Path::new("[issuer.introspection]"));
            Diagnostic::of_file(file, error.to_string())
        })?;
        Ok(Self { client, credentials: credentials(rules)? })
    }

    /// The headers and the form of the question about `token` (RFC 7662 §2.1).
    pub(super) fn form(&self, token: &str) -> (HeaderMap, String) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token).append_pair("token_type_hint", "access_token");
        match &self.credentials {
            Credentials::Basic(value) => {
                headers.insert(AUTHORIZATION, value.clone());
            }
            Credentials::Post { id, secret } => {
                form.append_pair("client_id", id).append_pair("client_secret", secret);
            }
        }
        (headers, form.finish())
    }
}

fn credentials(rules: &Introspection) -> Result<Credentials, Diagnostic> {
    let fault = |message: String| Diagnostic::of_file(&rules.secret, message);
    let text = text(&rules.secret)
        .map_err(|error| fault(format!("cannot be read ({error}): it must hold the client secret")))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || secret.len() as u64 > MAX_SECRET || secret.contains(char::is_control) {
        return Err(fault("must hold the client secret, one line and nothing else".to_owned()));
    }
    match rules.auth {
        ClientAuth::Post => Ok(Credentials::Post { id: rules.client_id.clone(), secret: secret.to_owned() }),
        ClientAuth::Basic => {
            // RFC 6749 §2.3.1: both are encoded as in a form before they are joined.
            let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encode(&rules.client_id), encode(secret));
            let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
            let mut value = value.map_err(|_| fault("cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            Ok(Credentials::Basic(value))
        }
    }
}

/// What is in `file`, without waiting for anybody who may write into it.
fn text(file: &Path) -> io::Result<String> {
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    file.take(MAX_SECRET + 1).read_to_string(&mut text)?;
    Ok(text)
}
