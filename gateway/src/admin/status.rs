//! The answer to `gatehouse status`.

use serde::{Deserialize, Serialize};

use super::introspection::IntrospectionStatus;

/// The mode of an interface on which the program does not run.
pub const NOT_ATTACHED: &str = "none";

/// The source of a list of which there never was any content.
pub const NOTHING: &str = "nothing";

/// The source of a list whose file cannot be used.
pub const LAST_GOOD_COPY: &str = "last good copy";

/// How the daemon is. The JSON form of `gatehouse status --json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it was ready.
    pub uptime_s: u64,
    /// Where clients connect.
    pub listen: Vec<String>,
    /// The same, with how it stands with their certificates.
    #[serde(default)]
    pub listeners: Vec<ListenerStatus>,
    /// Open sessions.
    pub sessions: usize,
    /// The address policy; `None` without `[firewall]`.
    pub policy: Option<PolicyStatus>,
    /// Where the XDP program is attached.
    pub interfaces: Vec<InterfaceStatus>,
    /// Packets seen by the XDP program; `None` when it is attached nowhere.
    pub packets: Option<Packets>,
    /// The issuers.
    pub issuers: Vec<IssuerStatus>,
    /// The upstreams of all routes.
    #[serde(default)]
    pub upstreams: Vec<UpstreamStatus>,
    /// Audit entries lost and not yet reported in the trail.
    pub audit_lost: u64,
    /// Audit entries lost since the start.
    #[serde(default)]
    pub audit_lost_total: u64,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ListenerStatus {
    /// The address.
    pub address: String,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// When its certificate, the first of several, ceases to be valid, in seconds since 1970.
    pub certificate_until: Option<i64>,
    /// Why the newest certificates are not in force; the last good ones are.
    pub error: Option<String>,
}

/// The generation in force.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PolicyStatus {
    /// Its number; each one compiled counts one up.
    pub generation: u64,
    /// When it was compiled, in seconds since 1970.
    #[serde(default)]
    pub compiled: Option<u64>,
    /// How many seconds that took.
    #[serde(default)]
    pub compile_s: Option<f64>,
    /// Prefixes in all lists.
    pub prefixes: usize,
    /// Bytes of its tables.
    pub memory: usize,
    /// The lists.
    pub lists: Vec<ListStatus>,
    /// Why a newer policy is not in force.
    pub error: Option<String>,
    /// Edits of lists are not in force and wait for `gatehouse apply`.
    #[serde(default)]
    pub edits_wait: bool,
    /// Seconds after which the policy before returns, while this one is on trial.
    #[serde(default)]
    pub trial_s: Option<u64>,
    /// What became of the last trial, when its policy was taken back.
    #[serde(default)]
    pub reverted: Option<String>,
}

/// One list.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListStatus {
    /// `deny`, `allow` or `never_block`.
    pub tier: String,
    /// The file.
    pub list: String,
    /// Its prefixes in force.
    pub prefixes: usize,
    /// Packets that it decided at the card.
    pub packets: u64,
    /// How many of them were dropped.
    #[serde(default)]
    pub dropped: u64,
    /// Where the content in force comes from: `file`, `last good copy`, `built in` for what the configuration or the
    /// host protects, or `nothing` when there never was any.
    pub source: String,
    /// When the content in force came there, in seconds since 1970.
    pub changed: Option<u64>,
    /// The newest content, when it would change the list too far.
    pub held_back: Option<HeldBack>,
    /// Why its newest content is not in force; the last good content is.
    pub error: Option<String>,
    /// How its fetching stands, when it is a list from a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteStatus>,
}

/// How it stands with a list from a URL. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct RemoteStatus {
    /// When the server was last asked by this daemon.
    pub last_attempt: Option<u64>,
    /// When the server last said what the newest list is, be it to the daemon before.
    pub last_success: Option<u64>,
    /// When the server is to be asked next.
    pub next_attempt: Option<u64>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// Content of a list that waits to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HeldBack {
    /// Its entries.
    pub entries: usize,
    /// The entries that were in force when it was held back.
    pub in_force: usize,
}

/// One attachment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct InterfaceStatus {
    /// Name of the interface.
    pub interface: String,
    /// `native`, `generic`, or `none` when the program does not run there now.
    pub mode: String,
    /// Why it is not native, where native was asked for, or why it is none.
    pub reason: Option<String>,
    /// Packets that came in by it and were passed.
    #[serde(default)]
    pub passed: u64,
    /// Packets that came in by it and were dropped.
    #[serde(default)]
    pub dropped: u64,
}

/// Counters of the XDP program. Those of former daemons are in them, where it is pinned or there is a
/// folder for state.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Packets {
    /// Passed to the host.
    pub passed: u64,
    /// Dropped.
    pub dropped: u64,
    /// Too damaged to have a source address; passed, and thrown away by the host itself.
    pub malformed: u64,
    /// Whether the card could not be read just now: the numbers are those from before.
    #[serde(default)]
    pub stale: bool,
}

/// One issuer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IssuerStatus {
    /// Its configured name.
    pub issuer: String,
    /// Keys that can verify a token.
    pub keys: usize,
    /// Why its newest key file is not in force; the last good one is.
    pub error: Option<String>,
    /// How its fetching stands, when its keys are fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<FetchStatus>,
    /// How the asking about its tokens stands, when it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection: Option<IntrospectionStatus>,
}

/// How it stands with the keys of an issuer that are fetched. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct FetchStatus {
    /// What is asked, without a query.
    pub source: String,
    /// When the issuer was last asked by this daemon.
    pub last_attempt: Option<u64>,
    /// When the issuer last said what its keys are, be it to the daemon before.
    pub last_success: Option<u64>,
    /// Seconds since then.
    pub age_s: Option<u64>,
    /// When the issuer is to be asked next.
    pub next_attempt: Option<u64>,
    /// Seconds until then.
    pub next_s: Option<u64>,
    /// Whether the keys are older than `max_stale`, so that no token can be judged by them.
    pub stale: bool,
    /// Keys in force that the issuer no longer has.
    pub going: usize,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// Attempts of this daemon that went well.
    #[serde(default)]
    pub successes: u64,
    /// Attempts of this daemon that failed.
    #[serde(default)]
    pub failures: u64,
}

/// One upstream.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UpstreamStatus {
    /// Where it is.
    pub upstream: String,
    /// The sessions that it carries.
    pub sessions: usize,
    /// Whether the last attempt to connect to it went well, or there was none yet.
    pub reachable: bool,
}
