//! The answer to `gatehouse status`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The mode of an interface on which the program does not run.
pub const NOT_ATTACHED: &str = "none";

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
    /// Audit entries lost and not yet reported in the trail.
    pub audit_lost: u64,
}

/// The generation in force.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PolicyStatus {
    /// Its number; each one compiled counts one up.
    pub generation: u64,
    /// Prefixes in all lists.
    pub prefixes: usize,
    /// Bytes of its tables.
    pub memory: usize,
    /// The lists.
    pub lists: Vec<ListStatus>,
    /// Why a newer policy is not in force.
    pub error: Option<String>,
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
    /// Why its newest content is not in force; the last good content is.
    pub error: Option<String>,
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
}

/// Counters of the XDP program; where it is pinned, those of former daemons are in them.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Packets {
    /// Passed to the host.
    pub passed: u64,
    /// Dropped.
    pub dropped: u64,
    /// Too damaged to have a source address; passed, and thrown away by the host itself.
    pub malformed: u64,
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
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "gatehouse {}, process {}, up {} s", self.version, self.pid, self.uptime_s)?;
        writeln!(f, "listening on {}; {} open sessions", self.listen.join(", "), self.sessions)?;
        for interface in &self.interfaces {
            if interface.mode == NOT_ATTACHED {
                write!(f, "NOT attached to {}", interface.interface)?;
            } else {
                write!(f, "attached to {} in {} mode", interface.interface, interface.mode)?;
            }
            match &interface.reason {
                Some(reason) => writeln!(f, " ({reason})")?,
                None => writeln!(f)?,
            }
        }
        if let Some(packets) = &self.packets {
            writeln!(
                f,
                "packets: {} dropped, {} passed, {} malformed",
                packets.dropped, packets.passed, packets.malformed
            )?;
        }
        if let Some(policy) = &self.policy {
            writeln!(
                f,
                "policy: generation {}, {} prefixes, {} KiB",
                policy.generation,
                policy.prefixes,
                policy.memory / 1024
            )?;
            if let Some(error) = &policy.error {
                writeln!(f, "  THE NEWEST LISTS ARE NOT IN FORCE: {error}")?;
            }
            for list in &policy.lists {
                writeln!(
                    f,
                    "  {:11} {:>9} prefixes {:>12} packets  {}",
                    list.tier, list.prefixes, list.packets, list.list
                )?;
                if let Some(error) = &list.error {
                    writeln!(f, "              NOT IN FORCE as it is now: {error}")?;
                }
            }
        }
        for issuer in &self.issuers {
            writeln!(f, "issuer {}: {} keys", issuer.issuer, issuer.keys)?;
            if let Some(error) = &issuer.error {
                writeln!(f, "              NOT IN FORCE as it is now: {error}")?;
            }
        }
        if self.audit_lost > 0 {
            writeln!(f, "{} audit entries were lost", self.audit_lost)?;
        }
        Ok(())
    }
}
