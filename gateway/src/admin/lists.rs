//! The answer to `gatehouse lists`.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::status::{HeldBack, ListStatus, PolicyStatus, RemoteStatus};

/// The lists. The JSON form of `gatehouse lists --json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListsReport {
    /// Whether the running daemon was asked, rather than the files. Only the daemon counts packets, compares
    /// with what was in force before, and has last good copies.
    pub live: bool,
    /// Number of the generation in force.
    pub generation: u64,
    /// Why a newer policy is not in force.
    pub error: Option<String>,
    /// The lists, highest precedence first.
    pub lists: Vec<ListReport>,
}

/// One list.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListReport {
    /// `deny`, `allow` or `never_block`.
    pub tier: String,
    /// Its name.
    pub list: String,
    /// Its entries in force.
    pub entries: usize,
    /// Entries that change no verdict, because another entry of the same or of a higher tier covers them. All of
    /// them could be removed at once.
    pub overlaps: usize,
    /// Packets that it decided at the card: dropped by a deny list, passed by the others.
    pub packets: u64,
    /// Seconds since its content in force came.
    pub age_s: Option<u64>,
    /// Where that comes from, as in [`ListStatus::source`].
    pub source: String,
    /// The newest content, when it would change the list too far.
    pub held_back: Option<HeldBack>,
    /// How its fetching goes; `None` for a list that is a file.
    pub remote: Option<RemoteStatus>,
    /// Why its newest content is not in force; the last good content is.
    pub error: Option<String>,
}

/// What was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Accepted {
    /// The name of the list.
    pub list: String,
    /// Its entries now.
    pub entries: usize,
    /// Whether it waits for `gatehouse apply`, as other edits do, rather than being in force.
    pub waits: bool,
}

impl ListsReport {
    /// The lists of `policy` at the time `now`; `overlaps` are those of each, in the same order.
    pub fn new(live: bool, policy: PolicyStatus, overlaps: &[usize], now: SystemTime) -> Self {
        let age = |changed: u64| {
            let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(changed))?;
            Some(now.duration_since(changed).unwrap_or_default().as_secs())
        };
        let lists = policy.lists.into_iter().enumerate().map(|(position, status)| {
            let ListStatus {
                tier,
                list,
                prefixes,
                packets,
                dropped: _,
                source,
                changed,
                held_back,
                remote,
                error,
            } = status;
            let overlaps = overlaps.get(position).copied().unwrap_or(0);
            let age_s = changed.and_then(age);
            let entries = prefixes;
            ListReport { tier, list, entries, overlaps, packets, age_s, source, held_back, remote, error }
        });
        Self { live, generation: policy.generation, error: policy.error, lists: lists.collect() }
    }
}
