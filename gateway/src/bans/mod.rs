//! Bans: addresses that are blocked for a while, by whom, why, and until when. Pure: the clock is passed
//! in, times are seconds since 1970.

pub mod kept;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::audit::query::rfc3339;
use crate::policy::{List, ListEntry, Tier};

/// The shortest prefixes that can be banned: more is done by a list, which somebody has written and read.
const SHORTEST: (u8, u8) = (8, 16);
/// Bytes of a reason at most.
const REASON: usize = 200;

/// Who has banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// `gatehouse ban`.
    Operator,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 1] = [Self::Operator];

    /// The name of the list of its bans: what the journal and `explain` show in the place of a file.
    pub const fn list(self) -> &'static str {
        match self {
            Self::Operator => "bans of the operator",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
        })
    }
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ban {
    /// Whose.
    pub prefix: IpNet,
    /// By whom.
    pub origin: Origin,
    /// Why, in words.
    pub reason: String,
    /// Since when.
    pub since: u64,
    /// Until when.
    pub until: u64,
}

/// Why somebody is not banned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BanError {
    /// Too many addresses at once.
    #[error("{0} is too wide for a ban: write it into a deny list, where it can be reviewed")]
    TooWide(IpNet),
    /// Too long.
    #[error("a ban lasts for {0} seconds at most: `ban_duration` in [limits]")]
    TooLong(u64),
    /// No time at all.
    #[error("a ban has to last for a second at least")]
    TooShort,
    /// There is no room.
    #[error("there are {0} bans, and no more may be: lift some, or raise `bans` in [limits]")]
    Full(usize),
}

/// All bans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bans(BTreeMap<IpNet, Ban>);

impl Bans {
    /// Bans, which replaces the ban of the same prefix if there is one. At most `most` prefixes are
    /// banned, for at most `longest` seconds.
    ///
    /// # Errors
    ///
    /// See [`BanError`]; nothing is changed then.
    pub fn ban(&mut self, mut ban: Ban, most: usize, longest: u64) -> Result<(), BanError> {
        ban.prefix = canonical(ban.prefix);
        let shortest = match ban.prefix {
            IpNet::V4(_) => SHORTEST.0,
            IpNet::V6(_) => SHORTEST.1,
        };
        let lasts = ban.until.saturating_sub(ban.since);
        if ban.prefix.prefix_len() < shortest {
            return Err(BanError::TooWide(ban.prefix));
        }
        if lasts == 0 {
            return Err(BanError::TooShort);
        }
        if lasts > longest {
            return Err(BanError::TooLong(longest));
        }
        if self.0.len() >= most && !self.0.contains_key(&ban.prefix) {
            return Err(BanError::Full(most));
        }
        let end = (0..=REASON.min(ban.reason.len())).rev().find(|at| ban.reason.is_char_boundary(*at));
        ban.reason.truncate(end.unwrap_or(0));
        self.0.insert(ban.prefix, ban);
        Ok(())
    }

    /// Lifts the ban of exactly this prefix.
    pub fn lift(&mut self, prefix: IpNet) -> Option<Ban> {
        self.0.remove(&canonical(prefix))
    }

    /// Takes out what is over at `now`.
    pub fn expire(&mut self, now: u64) -> Vec<Ban> {
        let over: Vec<IpNet> = self.0.values().filter(|ban| ban.until <= now).map(|ban| ban.prefix).collect();
        over.iter().filter_map(|prefix| self.0.remove(prefix)).collect()
    }

    /// When the next one is over.
    pub fn next(&self) -> Option<u64> {
        self.0.values().map(|ban| ban.until).min()
    }

    /// The ban that decides about `address`: of the longest prefix.
    pub fn find(&self, address: IpAddr) -> Option<&Ban> {
        let address = address.to_canonical();
        let hits = self.0.values().filter(|ban| ban.prefix.contains(&address));
        hits.max_by_key(|ban| ban.prefix.prefix_len())
    }

    /// All of them, by prefix.
    pub fn all(&self) -> impl Iterator<Item = &Ban> {
        self.0.values()
    }

    /// As lists of the address policy, one of each origin that has any.
    pub fn lists(&self) -> Vec<Arc<List>> {
        let of = |origin: Origin| {
            let own = self.0.values().filter(|ban| ban.origin == origin);
            let entries: Vec<ListEntry> = own.map(|ban| ListEntry { prefix: ban.prefix, line: 0 }).collect();
            let list = List { tier: Tier::Ban, name: origin.list().into(), entries };
            (!list.entries.is_empty()).then(|| Arc::new(list))
        };
        Origin::ALL.into_iter().filter_map(of).collect()
    }
}

/// Without bits behind the prefix; of IPv4 addresses in IPv6 (RFC 4291 §2.5.5.2), the IPv4 prefix, which
/// is what decides about them.
fn canonical(prefix: IpNet) -> IpNet {
    let prefix = prefix.trunc();
    let mapped = match (prefix.addr().to_canonical(), prefix.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(length)) if matches!(prefix, IpNet::V6(_)) => {
            IpNet::new(address.into(), length).ok()
        }
        _ => None,
    };
    mapped.unwrap_or(prefix)
}

impl fmt::Display for Ban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = rfc3339(self.until);
        write!(f, "{} is banned by the {} until {until}", self.prefix, self.origin)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(prefix: &str, until: u64) -> Ban {
        let prefix = prefix.parse().expect("a prefix");
        Ban { prefix, origin: Origin::Operator, reason: "too many".to_owned(), since: 100, until }
    }

    #[test]
    fn a_ban_lasts_until_its_end_and_the_longest_prefix_decides() {
        let mut bans = Bans::default();
        bans.ban(ban("192.0.2.7/24", 500), 10, 1000).expect("banned");
        bans.ban(ban("::ffff:192.0.2.7/128", 300), 10, 1000).expect("banned");
        let until =
            |bans: &Bans, address: &str| bans.find(address.parse().expect("an address")).map(|ban| ban.until);
        assert_eq!((until(&bans, "192.0.2.7"), until(&bans, "::ffff:192.0.2.8")), (Some(300), Some(500)));
        assert_eq!(bans.next(), Some(300));
        assert_eq!(bans.expire(299), []);
        assert_eq!(bans.expire(300).len(), 1);
        assert_eq!(until(&bans, "192.0.2.7"), Some(500));
        assert!(bans.lift("192.0.2.0/24".parse().expect("a prefix")).is_some());
        assert_eq!(bans, Bans::default());
    }

    #[test]
    fn nobody_can_ban_everybody_or_for_ever_or_without_end() {
        let mut bans = Bans::default();
        for (prefix, until, error) in [
            ("0.0.0.0/0", 200, "too wide"),
            ("192.0.0.0/7", 200, "too wide"),
            ("2001::/15", 200, "too wide"),
            ("192.0.2.1/32", 1101, "1000 seconds at most"),
            ("192.0.2.1/32", 100, "a second at least"),
            ("192.0.2.1/32", 99, "a second at least"),
        ] {
            let refused = bans.ban(ban(prefix, until), 10, 1000).expect_err(prefix).to_string();
            assert!(refused.contains(error), "{refused}");
        }
        bans.ban(ban("192.0.2.1/32", 200), 1, 1000).expect("banned");
        assert_eq!(bans.ban(ban("192.0.2.2/32", 200), 1, 1000), Err(BanError::Full(1)));
        bans.ban(ban("192.0.2.1/32", 300), 1, 1000).expect("its own place is free");
        let long = Ban { reason: "ä".repeat(1000), ..ban("192.0.2.1/32", 300) };
        bans.ban(long, 1, 1000).expect("banned");
        assert_eq!(bans.all().next().map(|ban| ban.reason.len()), Some(REASON));
    }

    #[test]
    fn bans_are_a_list_of_their_tier() {
        let mut bans = Bans::default();
        assert!(bans.lists().is_empty());
        bans.ban(ban("192.0.2.1/32", 200), 10, 1000).expect("banned");
        let lists = bans.lists();
        assert_eq!(
            (lists[0].tier, &*lists[0].name, lists[0].entries.len()),
            (Tier::Ban, "bans of the operator", 1)
        );
    }
}
