//! Counts sessions, so that nobody takes more than is due.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Limits;
use crate::rejection::Reason;

/// What is open: in all, by address and by subject. The maps hold open sessions only, so the
/// limit on all of them bounds their size.
#[derive(Debug)]
pub struct Counts {
    places: AtomicUsize,
    sessions: AtomicUsize,
    addresses: Tally<IpAddr>,
    subjects: Tally<(String, String)>,
    most_places: usize,
}

impl Counts {
    /// Nothing is open; `limits` hold from now on.
    pub fn new(limits: &Limits) -> Self {
        Self {
            places: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            addresses: Tally::new(limits.sessions_per_address),
            subjects: Tally::new(limits.sessions_per_subject),
            most_places: limits.sessions,
        }
    }

    /// A place for a connection, whether it gets its session or is still being judged; `None`
    /// when the gate is full.
    pub fn place(self: &Arc<Self>) -> Option<Place> {
        let taken = self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            (taken < self.most_places).then_some(taken + 1)
        });
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }

    /// Sessions that are open.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }
}

/// The place of one connection. Free again when dropped.
#[derive(Debug)]
pub struct Place(Arc<Counts>);

impl Place {
    /// Makes this the place of a session of `subject` (issuer and subject) at `address`.
    ///
    /// # Errors
    ///
    /// The limit that is reached.
    pub fn session(self, address: IpAddr, subject: (&str, &str)) -> Result<SessionPlace, Reason> {
        let counts = Arc::clone(&self.0);
        let address = network(address);
        let subject = (subject.0.to_owned(), subject.1.to_owned());
        if !counts.addresses.take(&address) {
            return Err(Reason::LimitAddressSessions);
        }
        if !counts.subjects.take(&subject) {
            counts.addresses.give(&address);
            return Err(Reason::LimitSubjectSessions);
        }
        counts.sessions.fetch_add(1, Ordering::Relaxed);
        Ok(SessionPlace { place: self, address, subject })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The place of one session. Free again when dropped.
#[derive(Debug)]
pub struct SessionPlace {
    place: Place,
    address: IpAddr,
    subject: (String, String),
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        let counts = &self.place.0;
        counts.sessions.fetch_sub(1, Ordering::Relaxed);
        counts.addresses.give(&self.address);
        counts.subjects.give(&self.subject);
    }
}

/// What counts as one address: an IPv6 host has a /64 to choose from (RFC 4291 §2.5.1).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// How many each key has. Taken at handshakes and at the ends of sessions only.
#[derive(Debug)]
struct Tally<K> {
    open: Mutex<HashMap<K, usize>>,
    most: usize,
}

impl<K: Clone + Eq + Hash> Tally<K> {
    fn new(most: usize) -> Self {
        Self { open: Mutex::default(), most }
    }

    fn take(&self, key: &K) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(key).copied().unwrap_or(0);
        let free = count < self.most;
        if free {
            open.insert(key.clone(), count + 1);
        }
        free
    }

    fn give(&self, key: &K) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                open.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sessions: usize, address: usize, subject: usize) -> Arc<Counts> {
        let limits = Limits {
            sessions,
            sessions_per_address: address,
            sessions_per_subject: subject,
            ..Limits::default()
        };
        Arc::new(Counts::new(&limits))
    }

    fn open(counts: &Arc<Counts>, address: &str, subject: &str) -> Result<SessionPlace, Reason> {
        let place = counts.place().ok_or(Reason::LimitCapacity)?;
        place.session(address.parse().expect("an address"), ("main", subject))
    }

    #[test]
    fn each_limit_is_named_and_free_again_when_the_session_ends() {
        let counts = counts(3, 2, 2);
        let first = open(&counts, "192.0.2.1", "alice").expect("room");
        let _second = open(&counts, "192.0.2.1", "bob").expect("room");
        assert_eq!(open(&counts, "192.0.2.1", "carol").expect_err("two"), Reason::LimitAddressSessions);
        let third = open(&counts, "192.0.2.2", "alice").expect("room");
        assert_eq!(open(&counts, "192.0.2.3", "dave").expect_err("three"), Reason::LimitCapacity);
        drop(third);
        drop(first);
        assert_eq!(counts.sessions(), 1);
        let _first = open(&counts, "192.0.2.1", "alice").expect("room again");
        let _second = open(&counts, "192.0.2.9", "alice").expect("room");
        drop(_second);
        let _third = open(&counts, "192.0.2.9", "bob").expect("room");
    }

    #[test]
    fn a_subject_at_its_limit_costs_its_address_nothing() {
        let counts = counts(9, 1, 1);
        let _alice = open(&counts, "192.0.2.1", "alice").expect("room");
        assert_eq!(open(&counts, "192.0.2.2", "alice").expect_err("one"), Reason::LimitSubjectSessions);
        open(&counts, "192.0.2.2", "bob").expect("the failed try is not counted");
    }

    #[test]
    fn an_ipv6_host_counts_by_its_64_bit_prefix() {
        let counts = counts(9, 1, 9);
        let _one = open(&counts, "2001:db8::1", "alice").expect("room");
        assert_eq!(
            open(&counts, "2001:db8::ffff:2", "bob").expect_err("same /64"),
            Reason::LimitAddressSessions
        );
        open(&counts, "2001:db8:0:1::1", "bob").expect("another /64");
    }

    #[test]
    fn nothing_is_left_behind_in_the_maps() {
        let counts = counts(9, 9, 9);
        drop(open(&counts, "192.0.2.1", "alice").expect("room"));
        assert!(counts.addresses.open.lock().expect("sane").is_empty());
        assert!(counts.subjects.open.lock().expect("sane").is_empty());
    }
}
