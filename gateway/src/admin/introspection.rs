//! How `gatehouse status` tells the asking about tokens.

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
