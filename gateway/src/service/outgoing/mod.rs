//! Requests of our own to web servers, every part of them bounded: redirects, times, headers and
//! the size of the answer. Who is asked stands in the configuration, never in the environment, and
//! nothing is asked in the clear but on this host.

mod retry;
pub(super) mod schedule;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use reqwest::Certificate;
use reqwest::redirect::{Attempt, Policy};
use url::Url;

use crate::config::{Diagnostic, may_be_asked};

pub(super) use retry::retry_after;

/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// Headers of an answer.
const HEADERS: usize = 100;
/// Bytes of a file with certificates.
const MAX_CA: u64 = 1024 * 1024;

/// How far a server is trusted.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// From the request to a connection.
    pub connect: Duration,
    /// Between two pieces of the answer.
    pub idle: Duration,
    /// From the request to the end of the answer.
    pub whole: Duration,
    /// Bytes of the body of an answer.
    pub size: u64,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Whether redirects are followed, to where one may ask and never from https to http; else
    /// they are answers like any other. Secrets in a request are for one server alone.
    pub redirects: bool,
    /// Idle connections that are kept for later requests: none for a server that is asked rarely.
    pub kept: usize,
}

/// Why there is no answer: one line without the URL, whose query may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OutgoingError {
    #[error("the server cannot be reached ({0}): check its name, the network and its certificate")]
    Unreachable(String),
    #[error("it took too long: check the server")]
    Timeout,
    #[error("the answer broke off ({0}): check the server")]
    Broken(String),
    #[error("the server packed the answer ({0}) though it was asked not to: check the server")]
    Packed(String),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the certificates in {} cannot be used ({reason})", .file.display())]
    Ca { file: PathBuf, reason: String },
    #[error("no request can be made ({0}): check the certificates of the system")]
    Client(String),
}

/// Asks servers on the same terms.
#[derive(Clone, Debug)]
pub(super) struct Client {
    client: reqwest::Client,
    size: u64,
}

/// An answer, whose body is still to be read.
#[derive(Debug)]
pub(super) struct Answer {
    response: reqwest::Response,
    read: u64,
    size: u64,
}

impl Client {
    /// A client that asks on these `terms`. The certificates are read now, and by nobody later.
    pub(super) fn new(terms: &Terms) -> Result<Self, OutgoingError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("gatehouse/", env!("CARGO_PKG_VERSION")))
            // Who is asked stands in the configuration, not in the environment of a service.
            .no_proxy()
            .referer(false)
            .redirect(if terms.redirects { Policy::custom(redirect) } else { Policy::none() })
            .http1_only()
            .http1_max_headers(HEADERS)
            .pool_max_idle_per_host(terms.kept)
            .connect_timeout(terms.connect)
            .read_timeout(terms.idle)
            .timeout(terms.whole);
        if let Some(ca) = &terms.ca {
            let fault = |reason| OutgoingError::Ca { file: ca.clone(), reason };
            builder = builder.tls_certs_only(certificates(ca).map_err(fault)?);
        }
        match builder.build() {
            Ok(client) => Ok(Self { client, size: terms.size }),
            Err(error) => Err(OutgoingError::Client(cause(&error.without_url()))),
        }
    }

    /// Asks for `url`.
    pub(super) async fn get(&self, url: &Url, headers: HeaderMap) -> Result<Answer, OutgoingError> {
        self.send(self.client.get(url.clone()), headers).await
    }

    /// Sends a form, encoded already (`application/x-www-form-urlencoded`), to `url`.
    pub(super) async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        form: String,
    ) -> Result<Answer, OutgoingError> {
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = self.client.post(url.clone()).header(CONTENT_TYPE, form_type).body(form);
        self.send(request, headers).await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        mut headers: HeaderMap,
    ) -> Result<Answer, OutgoingError> {
        // What is packed has to be unpacked within limits; there is no need for it.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let response = request.headers(headers).send().await.map_err(OutgoingError::of)?;
        Ok(Answer { response, read: 0, size: self.size })
    }
}

impl Answer {
    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next piece of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, OutgoingError> {
        let chunk = self.response.chunk().await.map_err(OutgoingError::of)?;
        self.read = self.read.saturating_add(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        if self.read > self.size { Err(OutgoingError::TooLarge(self.size)) } else { Ok(chunk) }
    }

    /// The whole body, as it is and not packed.
    pub(super) async fn body(mut self) -> Result<Vec<u8>, OutgoingError> {
        let text = |name| self.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if let Some(encoding) = text(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            return Err(OutgoingError::Packed(encoding.chars().take(32).collect()));
        }
        let length = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.size) {
            return Err(OutgoingError::TooLarge(self.size));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(chunk.as_ref());
        }
        Ok(body)
    }
}

impl OutgoingError {
    /// What `error` means, without the URL.
    fn of(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        let cause = cause(&error);
        if error.is_body() || error.is_decode() { Self::Broken(cause) } else { Self::Unreachable(cause) }
    }
}

/// The innermost cause of `error`: those around it only say that a request failed, and where to.
fn cause(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    let mut text = "no cause is known".to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// What is wrong with the certificates in the file `ca`, before anybody is asked.
pub(super) fn check_certificates(ca: &Path) -> Result<(), Diagnostic> {
    certificates(ca).map(drop).map_err(|reason| {
        let message = format!("cannot be used as certificates to trust ({reason}): it must hold them in PEM");
        Diagnostic::of_file(ca, message)
    })
}

fn certificates(ca: &Path) -> Result<Vec<Certificate>, String> {
    let size = fs::metadata(ca).map_err(|error| error.to_string())?.len();
    if size > MAX_CA {
        return Err(format!("it is larger than {MAX_CA} bytes"));
    }
    let pem = fs::read(ca).map_err(|error| error.to_string())?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(certificates) }
}

/// Follows a redirect to where one may ask, and never from https to http.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let secure = attempt.previous().iter().any(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS {
        attempt.error(format!("it redirects more than {REDIRECTS} times"))
    } else if !may_be_asked(attempt.url()) || (secure && attempt.url().scheme() != "https") {
        attempt.error("it redirects to a URL that is not https")
    } else {
        attempt.follow()
    }
}
