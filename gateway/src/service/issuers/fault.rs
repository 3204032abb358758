//! Why an issuer's keys could not be fetched.

use std::time::Duration;

use crate::auth::metadata::MetadataError;
use crate::config::{Diagnostic, Limits};
use crate::service::outgoing::OutgoingError;

/// One line, without the query of a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("{url} took longer than [limits] issuer_timeout, {limit}: check the issuer, or raise the limit")]
    Timeout { url: String, limit: String },
    #[error("the answer of {url} is larger than [limits] issuer_answer, {size} bytes: is it a JWK set?")]
    TooLarge { url: String, size: u64 },
    #[error("{url}: {error}")]
    Outgoing { url: String, error: OutgoingError },
    #[error("{url} answered with status {status}: check the issuer, and whether its keys have moved")]
    Status { url: String, status: u16 },
    #[error("the metadata at {url} cannot be used: {error}")]
    Metadata { url: String, error: MetadataError },
    #[error("{0}")]
    NotASet(Diagnostic),
    #[error("the set at {url} holds no key for {algorithms}: correct the issuer's algorithms, or its keys")]
    NoKey { url: String, algorithms: String },
    #[error("the daemon is stopping")]
    Stopping,
}

/// A fault, and the wait that the server asks for.
#[derive(Debug)]
pub(super) struct Failure {
    pub fault: Fault,
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// What `error`, of a request for `url` without a query, means for an issuer, and which limit can be
    /// raised.
    pub(super) fn of(error: OutgoingError, url: &str, limits: &Limits) -> Self {
        let url = url.to_owned();
        match error {
            OutgoingError::Timeout => {
                Self::Timeout { url, limit: humantime::format_duration(limits.issuer_timeout).to_string() }
            }
            OutgoingError::TooLarge(size) => Self::TooLarge { url, size },
            error => Self::Outgoing { url, error },
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, retry_after: None }
    }
}
