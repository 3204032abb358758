//! How `gatehouse status` tells the asking about tokens.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How it stands with the introspection endpoint of an issuer (RFC 7662). Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct IntrospectionStatus {
    /// What is asked, without a query; `None`: the issuer's metadata has not said it.
    pub endpoint: Option<String>,
    /// Whether the endpoint is left alone because it failed so many times in a row.
    pub resting: bool,
    /// Seconds until it is asked again.
    pub rest_s: Option<u64>,
    /// Failures in a row.
    pub failures: u32,
    /// When it last gave an answer that means something.
    pub last_success: Option<u64>,
    /// Seconds since then.
    pub age_s: Option<u64>,
    /// When it last failed.
    pub last_failure: Option<u64>,
    /// Why the last question was not answered.
    pub error: Option<String>,
    /// Why the newest client secret or certificates are not in force; the last good ones are.
    pub file_error: Option<String>,
}

impl IntrospectionStatus {
    /// The lines of `gatehouse status`.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Some(endpoint) => write!(f, "              asked about tokens at {endpoint}")?,
            None => write!(f, "              asked about tokens where its metadata will say")?,
        }
        match self.age_s {
            Some(age) => writeln!(f, ", answered {age} s ago")?,
            None => writeln!(f, ", no answer yet")?,
        }
        if let Some(error) = &self.error {
            let times = if self.failures > 1 { format!(" {} times", self.failures) } else { String::new() };
            writeln!(f, "              NOT ANSWERED{times}: {error}")?;
        }
        if self.resting {
            let rest = self.rest_s.unwrap_or_default();
            writeln!(
                f,
                "              LEFT ALONE for {rest} s: tokens that it has to be asked about get 503"
            )?;
        }
        match &self.file_error {
            Some(error) => writeln!(f, "              NOT IN FORCE as it is now: {error}"),
            None => Ok(()),
        }
    }
}
