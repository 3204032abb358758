//! One request for a remote list, and the reading of its answer, all of it bounded.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use tokio::io::AsyncWriteExt as _;

use super::super::outgoing::{self, Client, OutgoingError, Terms};
use super::FetchError;
use super::answer::{self, Answer};
use super::store::Validators;
use crate::config::{Limits, RemoteList};

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
    let fault = |error| FetchError::of(error, limits);
    let client = Client::new(&terms(list, limits)).map_err(fault)?;
    let headers = conditions(known);
    let conditional = headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE);
    let mut response = client.get(list.url.expose(), headers).await.map_err(fault)?;
    let judged = answer::judge(response.status(), response.headers(), conditional, limits.list_size);
    let retry_after = outgoing::retry_after(response.headers(), SystemTime::now());
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
    response: &mut outgoing::Answer,
    file: &Path,
    limits: &Limits,
) -> Result<Option<u8>, FetchError> {
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(file).await?;
    let mut last = None;
    while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::of(error, limits))? {
        let chunk = chunk.as_ref();
        last = chunk.last().copied().or(last);
        file.write_all(chunk).await?;
    }
    file.flush().await?;
    Ok(last)
}

fn conditions(known: Option<&Validators>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(known) = known else { return headers };
    for (name, value) in [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)] {
        if let Some(value) = value.as_ref().and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

fn terms(list: &RemoteList, limits: &Limits) -> Terms {
    Terms {
        connect: limits.remote_connect_timeout,
        idle: limits.remote_idle_timeout,
        whole: limits.remote_timeout,
        size: limits.list_size,
        ca: list.ca.clone(),
        redirects: true,
        kept: 0,
    }
}

impl FetchError {
    /// What `error` means for a list, and which limit can be raised.
    fn of(error: OutgoingError, limits: &Limits) -> Self {
        let span = |duration| humantime::format_duration(duration).to_string();
        match error {
            OutgoingError::Timeout => Self::Timeout {
                connect: span(limits.remote_connect_timeout),
                idle: span(limits.remote_idle_timeout),
                whole: span(limits.remote_timeout),
            },
            OutgoingError::Unreachable(cause) => Self::Unreachable(cause),
            OutgoingError::Broken(cause) => Self::Broken(cause),
            OutgoingError::Packed(encoding) => Self::Encoding(encoding),
            OutgoingError::TooLarge(size) => Self::TooLarge(size),
            OutgoingError::Ca { file, reason } => Self::Ca { file, reason },
            OutgoingError::Client(cause) => Self::Client(cause),
        }
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Store(error.to_string())
    }
}
