//! The orders of `gatehouse apply` and their answers.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Clients that are named for each change; the others are counted.
pub const NAMED_CLIENTS: usize = 20;

/// Puts edits in force, or says what would happen.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Order {
    /// Nothing is to be changed.
    pub dry_run: bool,
    /// Go back to the policy in force unless confirmed in this time.
    pub confirm: Option<Duration>,
    /// The address from which the operator is logged in, when it is known.
    pub operator: Option<IpAddr>,
}

/// The end of a trial.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The policy stays.
    Confirm,
    /// The policy before it returns.
    Revert,
}

/// What came of an order.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Carried out.
    Done(Box<Report>),
    /// Nothing has changed, because the configuration or a list is faulty: `file:line:col: message`.
    Faulty {
        /// What is wrong.
        diagnostics: Vec<String>,
    },
    /// Nothing has changed, for another reason.
    Refused {
        /// Why, and what to do.
        message: String,
    },
}

/// What has changed, or would. The JSON form of `gatehouse apply --json`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// Whether another policy is in force now than before.
    pub applied: bool,
    /// The generation that was in force.
    pub before: u64,
    /// The generation in force; for a dry run, the one that would be.
    pub generation: u64,
    /// Every list, with what changes in it.
    pub lists: Vec<ListChange>,
    /// Who passed before, and is dropped.
    pub dropped: AddressChange,
    /// Who was dropped before, and passes.
    pub passing: AddressChange,
    /// What this means for the clients that the daemon knows.
    pub clients: Clients,
    /// Tables and keys of the configuration that differ and need a restart of the daemon.
    pub restart_needed: Vec<String>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
    /// Seconds left to confirm, when this is a trial.
    pub confirm_within_s: Option<u64>,
}

/// What changes in one list.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListChange {
    /// Its tier.
    pub tier: String,
    /// Its name.
    pub list: String,
    /// Different prefixes that it has.
    pub prefixes: usize,
    /// Those that it did not have before.
    pub added: usize,
    /// Those that it has no more.
    pub removed: usize,
    /// Packets that it has decided at the card so far; `None` where nothing is attached.
    pub packets: Option<u64>,
}

/// Addresses whose verdict changes in one direction.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct AddressChange {
    /// IPv4 addresses.
    pub ipv4: u64,
    /// IPv6 networks of 64 bits, each with at least one such address.
    pub ipv6_networks: u64,
    /// The first ranges of each family.
    pub examples: Vec<String>,
}

/// The clients that the daemon knows: those with open sessions, and those that the card reported
/// lately as dropped or observed. Others that pass at the card are not known to it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Clients {
    /// Addresses (IPv6: /64 networks, of which the first address is judged) with open sessions.
    pub with_sessions: usize,
    /// Clients that the card reported lately.
    pub reported: usize,
    /// Known clients that passed before, and are dropped.
    pub newly_dropped: ClientChange,
    /// Known clients that were dropped before, and pass.
    pub newly_passing: ClientChange,
    /// The operator's own address, when it is dropped by the new policy.
    pub operator_dropped: Option<IpAddr>,
}

/// Known clients whose verdict changes in one direction.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ClientChange {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub named: Vec<IpAddr>,
}

impl Report {
    /// Whether nothing differs.
    pub fn is_unchanged(&self) -> bool {
        self.lists.iter().all(|list| list.added == 0 && list.removed == 0)
            && self.dropped.is_empty()
            && self.passing.is_empty()
    }
}

impl AddressChange {
    /// Whether nothing changes.
    pub const fn is_empty(&self) -> bool {
        self.ipv4 == 0 && self.ipv6_networks == 0
    }
}

impl ClientChange {
    /// Adds a client.
    pub fn add(&mut self, client: IpAddr) {
        self.count += 1;
        if self.named.len() < NAMED_CLIENTS {
            self.named.push(client);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.applied {
            writeln!(f, "generation {} is in force (it was {})", self.generation, self.before)?;
        } else {
            writeln!(f, "generation {} stays in force", self.before)?;
        }
        for list in self.lists.iter().filter(|list| list.added + list.removed > 0) {
            let ListChange { tier, list, prefixes, added, removed, packets } = list;
            write!(f, "  {tier:11} +{added} -{removed} prefixes, {prefixes} in all")?;
            if let Some(packets) = packets {
                write!(f, ", {packets} packets so far")?;
            }
            writeln!(f, "  {list}")?;
        }
        if self.is_unchanged() {
            writeln!(f, "no list and no verdict differs")?;
        }
        change(f, "newly dropped", &self.dropped)?;
        change(f, "newly passing", &self.passing)?;
        writeln!(
            f,
            "of the clients known here ({} with open sessions, {} reported by the card lately):",
            self.clients.with_sessions, self.clients.reported
        )?;
        clients(f, "newly dropped", &self.clients.newly_dropped)?;
        clients(f, "newly passing", &self.clients.newly_passing)?;
        if let Some(address) = self.clients.operator_dropped {
            writeln!(f, "YOUR OWN ADDRESS {address} IS DROPPED by this policy: see never_block")?;
        }
        for what in &self.restart_needed {
            writeln!(f, "not applied, it needs a restart of the daemon: {what}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "{warning}")?;
        }
        match self.confirm_within_s {
            Some(seconds) => writeln!(
                f,
                "ON TRIAL: the policy before returns in {seconds} s, unless `gatehouse apply --confirmed` is run"
            ),
            None => Ok(()),
        }
    }
}

fn change(f: &mut fmt::Formatter<'_>, what: &str, change: &AddressChange) -> fmt::Result {
    if change.is_empty() {
        return Ok(());
    }
    write!(f, "{what}: {} IPv4 addresses, {} IPv6 /64 networks", change.ipv4, change.ipv6_networks)?;
    writeln!(f, "; first {}", change.examples.join(", "))
}

fn clients(f: &mut fmt::Formatter<'_>, what: &str, change: &ClientChange) -> fmt::Result {
    let named: Vec<String> = change.named.iter().map(ToString::to_string).collect();
    let more = change.count - change.named.len();
    write!(f, "  {what}: {}", change.count)?;
    if !named.is_empty() {
        write!(f, ": {}", named.join(" "))?;
    }
    if more > 0 {
        write!(f, " and {more} more")?;
    }
    writeln!(f)
}
