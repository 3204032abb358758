//! The answer to `gatehouse lists`.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::status::{HeldBack, LAST_GOOD_COPY, ListStatus, PolicyStatus, RemoteStatus};

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

impl fmt::Display for ListsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.live {
            writeln!(f, "asked: the running daemon, generation {}", self.generation)?;
        } else {
            writeln!(f, "asked: the list files alone, no daemon running: nothing is counted or held back")?;
        }
        if let Some(error) = &self.error {
            writeln!(f, "THE NEWEST LISTS ARE NOT IN FORCE: {error}")?;
        }
        write!(f, "{:11} {:>9} {:>9} {:>12} {:>10}  list", "tier", "entries", "overlaps", "packets", "age")?;
        for list in &self.lists {
            let age = list.age_s.map_or_else(|| "-".to_owned(), age);
            write!(
                f,
                "\n{:11} {:>9} {:>9} {:>12} {age:>10}  {}",
                list.tier, list.entries, list.overlaps, list.packets, list.list
            )?;
            if list.source == LAST_GOOD_COPY {
                write!(f, "\n            THE LAST GOOD COPY IS IN FORCE, not the file")?;
            }
            if let Some(held) = &list.held_back {
                write!(
                    f,
                    "\n            HELD BACK: {} entries in the file, {} in force",
                    held.entries, held.in_force
                )?;
            }
            if let Some(error) = list.remote.as_ref().and_then(|remote| remote.error.as_ref()) {
                write!(f, "\n            NOT FETCHED: {error}")?;
            }
            if let Some(error) = &list.error {
                write!(f, "\n            NOT IN FORCE as it is now: {error}")?;
            }
        }
        Ok(())
    }
}

/// `seconds` in the two largest units that matter.
fn age(seconds: u64) -> String {
    let whole = match seconds {
        ..60 => seconds,
        60..3_600 => seconds - seconds % 60,
        3_600..86_400 => seconds - seconds % 60,
        _ => seconds - seconds % 3_600,
    };
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}
