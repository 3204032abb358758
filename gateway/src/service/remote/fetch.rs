//! One request for a remote list, and the reading of its answer, all of it bounded.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client};
use tokio::io::AsyncWriteExt as _;

use super::FetchError;
use super::answer::{self, Answer};
use super::store::Validators;
use crate::config::{Limits, RemoteList, may_be_asked};

/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// Headers of an answer.
const HEADERS: usize = 100;
/// Bytes of a file with certificates.
const MAX_CA: u64 = 1024 * 1024;

/// An answer that is no failure.
#[derive(Debug)]
pub(super) enum Fetched {
    /// The body is in the file.
    Body(Validators),
    /// The copy at hand is still the newest.
    Unchanged,
}

/// A failure, and the wait that the server asks for.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: FetchError,
    pub retry_after: Option<Duration>,
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self { error, retry_after: None }
    }
}

/// Asks for `list`, on condition of `known`, and writes the body of the answer into `file`.
pub(super) async fn fetch(
    list: &RemoteList,
    known: Option<&Validators>,
    file: &Path,
    limits: &Limits,
) -> Result<Fetched, Failure> {
    // A client for each request: certificates are read anew, and no connection is kept for an hour.
    let client = client(list, limits)?;
    let headers = conditions(known);
    let conditional = headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE);
    let request = client.get(list.url.expose().clone()).headers(headers);
    let mut response = request.send().await.map_err(|error| FetchError::of(&error, limits))?;
    let judged = answer::judge(response.status(), response.headers(), conditional, limits.list_size);
    let retry_after = answer::retry_after(response.headers(), SystemTime::now());
    match judged.map_err(|error| Failure { error, retry_after })? {
        Answer::Unchanged => Ok(Fetched::Unchanged),
        Answer::Body { validators, delimited } => {
            let last = write(&mut response, file, limits).await?;
            // The end of a connection may be the end of the list, or of its first half.
            if !delimited && last != Some(b'\n') {
                return Err(FetchError::Truncated.into());
            }
            Ok(Fetched::Body(validators))
        }
    }
}

/// Writes the body of `response` into `file`; its last byte.
async fn write(
    response: &mut reqwest::Response,
    file: &Path,
    limits: &Limits,
) -> Result<Option<u8>, FetchError> {
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(file).await?;
    let (mut length, mut last) = (0_u64, None);
    while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::of(&error, limits))? {
        length = length.saturating_add(chunk.len() as u64);
        if length > limits.list_size {
            return Err(FetchError::TooLarge(limits.list_size));
        }
        last = chunk.last().copied().or(last);
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    Ok(last)
}

fn conditions(known: Option<&Validators>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // What is packed has to be unpacked within limits; there is no need for it.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let Some(known) = known else { return headers };
    for (name, value) in [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)] {
        if let Some(value) = value.as_ref().and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

fn client(list: &RemoteList, limits: &Limits) -> Result<Client, FetchError> {
    let mut builder = Client::builder()
        .user_agent(concat!("gatehouse/", env!("CARGO_PKG_VERSION")))
        // Who is asked stands in the configuration, not in the environment of a service.
        .no_proxy()
        .referer(false)
        .redirect(Policy::custom(redirect))
        .http1_only()
        .http1_max_headers(HEADERS)
        .pool_max_idle_per_host(0)
        .connect_timeout(limits.remote_connect_timeout)
        .read_timeout(limits.remote_idle_timeout)
        .timeout(limits.remote_timeout);
    if let Some(ca) = &list.ca {
        let fault = |reason| FetchError::Ca { file: ca.clone(), reason };
        builder = builder.tls_certs_only(certificates(ca).map_err(fault)?);
    }
    builder.build().map_err(|error| FetchError::Client(causes(&error.without_url())))
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

impl FetchError {
    /// What `error` means, without the URL, whose query may be a secret.
    fn of(error: &reqwest::Error, limits: &Limits) -> Self {
        if error.is_timeout() {
            return Self::Timeout {
                connect: humantime::format_duration(limits.remote_connect_timeout).to_string(),
                idle: humantime::format_duration(limits.remote_idle_timeout).to_string(),
                whole: humantime::format_duration(limits.remote_timeout).to_string(),
            };
        }
        let mut cause = std::error::Error::source(error);
        let mut text = String::new();
        while let Some(error) = cause {
            text = error.to_string();
            cause = error.source();
        }
        if error.is_body() || error.is_decode() {
            return Self::Broken(text);
        }
        Self::Unreachable(text)
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Store(error.to_string())
    }
}

fn causes(error: &reqwest::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
