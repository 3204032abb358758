//! Counts connections and sessions, and how fast they come, so that nobody takes more than is due.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::rates::Rate;
use crate::config::{Limits, RouteLimits};
use crate::rejection::http::RETRY;
use crate::rejection::{Reason, Rejection};

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Which one.
    pub reason: Reason,
    /// When to come back.
    pub wait: Duration,
}

impl Excess {
    /// The rejection.
    pub fn rejection(self) -> Rejection {
        Rejection::new(self.reason).retry_after(self.wait)
    }
}

/// When places become free is up to others.
impl From<Reason> for Excess {
    fn from(reason: Reason) -> Self {
        Self { reason, wait: RETRY }
    }
}

/// What is open: in all, by address and by subject. The maps hold open connections only, so the
/// limit on all of them bounds their size.
#[derive(Debug)]
pub struct Counts {
    places: AtomicUsize,
    most_places: AtomicUsize,
    /// Of the host: each connection of a client is one, and that of its session to the upstream another.
    files: AtomicUsize,
    most_files: AtomicUsize,
    sessions: AtomicUsize,
    /// Handshakes that are not decided yet. They are nobody's sessions, but one address must not
    /// be able to take all places by never finishing its requests.
    handshakes: Tally<IpAddr>,
    addresses: Tally<IpAddr>,
    subjects: Tally<(String, String)>,
    routes: Tally<String>,
    rate: Changing<()>,
    address_rate: Changing<IpAddr>,
    subject_rate: Changing<(String, String)>,
    /// With the number that each is for. Of paths in the configuration only.
    route_rates: Mutex<HashMap<String, (u32, Rate<()>)>>,
}

impl Counts {
    /// Nothing is open; `limits` hold from now on.
    pub fn new(limits: &Limits) -> Self {
        Self {
            places: AtomicUsize::new(0),
            most_places: AtomicUsize::new(limits.sessions),
            files: AtomicUsize::new(0),
            most_files: AtomicUsize::new(usize::MAX),
            sessions: AtomicUsize::new(0),
            handshakes: Tally::new(limits.sessions_per_address),
            addresses: Tally::new(limits.sessions_per_address),
            subjects: Tally::new(limits.sessions_per_subject),
            routes: Tally::new(usize::MAX),
            rate: Changing::new(limits.handshake_rate),
            address_rate: Changing::new(limits.handshake_rate_per_address),
            subject_rate: Changing::new(limits.handshake_rate_per_subject),
            route_rates: Mutex::default(),
        }
    }

    /// `limits` hold from now on. What is open counts as before; a rate that stays goes on.
    pub fn follow(&self, limits: &Limits) {
        self.most_places.store(limits.sessions, Ordering::Relaxed);
        self.handshakes.most.store(limits.sessions_per_address, Ordering::Relaxed);
        self.addresses.most.store(limits.sessions_per_address, Ordering::Relaxed);
        self.subjects.most.store(limits.sessions_per_subject, Ordering::Relaxed);
        self.rate.follow(limits.handshake_rate);
        self.address_rate.follow(limits.handshake_rate_per_address);
        self.subject_rate.follow(limits.handshake_rate_per_subject);
    }

    /// All connections together, those to upstreams included, may be so many files of the host from now on.
    pub fn bound_files(&self, most: usize) {
        self.most_files.store(most, Ordering::Relaxed);
    }

    /// The sessions that there can be at once.
    pub fn most_sessions(&self) -> usize {
        self.most_places.load(Ordering::Relaxed).min(self.most_files.load(Ordering::Relaxed) / 2)
    }

    /// A place for a connection from `address`, whether it gets its session or is still being
    /// judged.
    ///
    /// # Errors
    ///
    /// `limit/address_rate` or `limit/rate` when the address, or all together, come too fast;
    /// `limit/capacity` when the gate is full; `limit/address_sessions` when the address has as
    /// many undecided handshakes as it may have sessions.
    pub fn place(self: &Arc<Self>, address: IpAddr) -> Result<Place, Excess> {
        // The address comes first: who comes too fast must not use up what all others have.
        self.come(network(address))?;
        let mut place = self.place_of_proxy()?;
        place.begin(network(address))?;
        Ok(place)
    }

    /// A place for a connection of a proxy, which has not said yet for whom it is.
    ///
    /// # Errors
    ///
    /// `limit/capacity`.
    pub fn place_of_proxy(self: &Arc<Self>) -> Result<Place, Excess> {
        if !take_one(&self.places, &self.most_places) {
            return Err(Reason::LimitCapacity.into());
        }
        if !take_one(&self.files, &self.most_files) {
            self.places.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::LimitCapacity.into());
        }
        Ok(Place { counts: Arc::clone(self), address: None, undecided: false })
    }

    /// Whether a client at `address` may have one more token judged, in a session of its own.
    ///
    /// # Errors
    ///
    /// `limit/address_rate` or `limit/rate`.
    pub fn again(&self, address: IpAddr) -> Result<(), Excess> {
        self.come(network(address))
    }

    /// Whether `address` and all together may come once more.
    fn come(&self, address: IpAddr) -> Result<(), Excess> {
        take(self.address_rate.get(), &address, Reason::LimitAddressRate)?;
        take(self.rate.get(), &(), Reason::LimitRate)
    }

    /// The addresses with open sessions, of IPv6 the first of each /64.
    pub fn clients(&self) -> Vec<IpAddr> {
        self.addresses.keys()
    }

    /// Sessions that are open.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }
}

/// How much of a limit is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Of what.
    pub what: &'static str,
    /// So many.
    pub taken: usize,
    /// Of so many.
    pub most: usize,
    /// For which reason a client is turned away when all are taken.
    pub reason: Reason,
}

impl Counts {
    /// How much is taken of the limits on connections and sessions that a client meets. What is `None` is
    /// not looked at.
    pub fn look(
        &self,
        address: Option<IpAddr>,
        subject: Option<(&str, &str)>,
        route: Option<(&str, &RouteLimits)>,
    ) -> Vec<Taken> {
        let load = |most: &AtomicUsize| most.load(Ordering::Relaxed);
        let places = (load(&self.places), load(&self.most_places));
        let mut all = vec![Taken {
            what: "connections in all",
            taken: places.0,
            most: places.1,
            reason: Reason::LimitCapacity,
        }];
        let files = (load(&self.files), load(&self.most_files));
        if files.1 < usize::MAX {
            let (what, reason) = ("files of connections", Reason::LimitCapacity);
            all.push(Taken { what, taken: files.0, most: files.1, reason });
        }
        if let Some(address) = address.map(network) {
            let (taken, most) = (self.addresses.count(&address), load(&self.addresses.most));
            let reason = Reason::LimitAddressSessions;
            all.push(Taken { what: "sessions of the address", taken, most, reason });
        }
        if let Some((issuer, subject)) = subject {
            let key = (issuer.to_owned(), subject.to_owned());
            let (taken, most) = (self.subjects.count(&key), load(&self.subjects.most));
            let reason = Reason::LimitSubjectSessions;
            all.push(Taken { what: "sessions of the subject", taken, most, reason });
        }
        if let Some((path, RouteLimits { sessions: Some(most), .. })) = route {
            let (taken, most) = (self.routes.count(&path.to_owned()), *most);
            let reason = Reason::LimitRouteSessions;
            all.push(Taken { what: "sessions of the route", taken, most, reason });
        }
        all
    }
}

/// The place of one connection. Free again when dropped.
#[derive(Debug)]
pub struct Place {
    counts: Arc<Counts>,
    /// `None`: a proxy has not said yet whose it is.
    address: Option<IpAddr>,
    undecided: bool,
}

impl Place {
    /// Says that the place of a proxy is that of a client with this address.
    ///
    /// # Errors
    ///
    /// As for [`Counts::place`], but for `limit/capacity`.
    pub fn is_of(&mut self, address: IpAddr) -> Result<(), Excess> {
        self.counts.come(network(address))?;
        self.begin(network(address))
    }

    fn begin(&mut self, address: IpAddr) -> Result<(), Excess> {
        self.decided();
        if !self.counts.handshakes.take(&address) {
            return Err(Reason::LimitAddressSessions.into());
        }
        (self.address, self.undecided) = (Some(address), true);
        Ok(())
    }

    /// Whether the route with this path may be asked once more. Before any token is looked at.
    ///
    /// # Errors
    ///
    /// `limit/route_rate`.
    pub fn ask(&self, path: &str, limits: &RouteLimits) -> Result<(), Excess> {
        if limits.handshake_rate == 0 {
            return Ok(());
        }
        let mut rates = self.counts.route_rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.get(path).is_none_or(|(number, _)| *number != limits.handshake_rate)
            && let Some(rate) = Rate::new(limits.handshake_rate)
        {
            rates.insert(path.to_owned(), (limits.handshake_rate, rate));
        }
        take(rates.get(path).map(|(_, rate)| rate), &(), Reason::LimitRouteRate)
    }

    /// Counts a session of `subject` (issuer and subject) to the route with this path on this
    /// connection.
    ///
    /// # Errors
    ///
    /// The limit that is reached; `limit/capacity` when the host has no file for the connection to the
    /// upstream.
    pub fn session(
        &self,
        subject: (&str, &str),
        path: &str,
        limits: &RouteLimits,
    ) -> Result<SessionPlace, Excess> {
        let counts = &self.counts;
        // Nobody is admitted before it is known whose connection it is.
        let address = self.address.ok_or(Reason::LimitCapacity)?;
        let subject = (subject.0.to_owned(), subject.1.to_owned());
        take(counts.subject_rate.get(), &subject, Reason::LimitSubjectRate)?;
        if !counts.addresses.take(&address) {
            return Err(Reason::LimitAddressSessions.into());
        }
        if !counts.subjects.take(&subject) {
            counts.addresses.give(&address);
            return Err(Reason::LimitSubjectSessions.into());
        }
        let path = path.to_owned();
        if !counts.routes.take_up_to(&path, limits.sessions.unwrap_or(usize::MAX)) {
            counts.addresses.give(&address);
            counts.subjects.give(&subject);
            return Err(Reason::LimitRouteSessions.into());
        }
        if !take_one(&counts.files, &counts.most_files) {
            counts.addresses.give(&address);
            counts.subjects.give(&subject);
            counts.routes.give(&path);
            return Err(Reason::LimitCapacity.into());
        }
        counts.sessions.fetch_add(1, Ordering::Relaxed);
        Ok(SessionPlace { counts: Arc::clone(counts), address, subject, path })
    }

    /// The handshake is decided; what remains is the session, or reading the answer.
    pub fn decided(&mut self) {
        if let (true, Some(address)) = (std::mem::take(&mut self.undecided), &self.address) {
            self.counts.handshakes.give(address);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.decided();
        self.counts.files.fetch_sub(1, Ordering::Relaxed);
        self.counts.places.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The place of one session. Free again when dropped.
#[derive(Debug)]
pub struct SessionPlace {
    counts: Arc<Counts>,
    address: IpAddr,
    subject: (String, String),
    path: String,
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        self.counts.sessions.fetch_sub(1, Ordering::Relaxed);
        self.counts.files.fetch_sub(1, Ordering::Relaxed);
        self.counts.addresses.give(&self.address);
        self.counts.subjects.give(&self.subject);
        self.counts.routes.give(&self.path);
    }
}

/// One more, if there are not as many as there may be.
fn take_one(taken: &AtomicUsize, most: &AtomicUsize) -> bool {
    let most = most.load(Ordering::Relaxed);
    let one_more = |taken| (taken < most).then_some(taken + 1);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
}

fn take<K: Clone + Eq + Hash, R: Deref<Target = Rate<K>>>(
    rate: Option<R>,
    key: &K,
    reason: Reason,
) -> Result<(), Excess> {
    rate.map_or(Ok(()), |rate| rate.take(key)).map_err(|wait| Excess { reason, wait })
}

/// What counts as one address: an IPv6 host has a /64 to choose from (RFC 4291 §2.5.1).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// A rate that can become another one; with the number that it is for.
#[derive(Debug)]
struct Changing<K: Clone + Eq + Hash>(ArcSwap<(u32, Option<Arc<Rate<K>>>)>);

impl<K: Clone + Eq + Hash> Changing<K> {
    fn new(number: u32) -> Self {
        Self(ArcSwap::from_pointee((number, Rate::new(number).map(Arc::new))))
    }

    fn follow(&self, number: u32) {
        if self.0.load().0 != number {
            self.0.store(Arc::new((number, Rate::new(number).map(Arc::new))));
        }
    }

    fn get(&self) -> Option<Arc<Rate<K>>> {
        self.0.load().1.as_ref().map(Arc::clone)
    }
}

/// How many each key has. Taken at handshakes and at the ends of sessions only.
#[derive(Debug)]
struct Tally<K> {
    open: Mutex<HashMap<K, usize>>,
    most: AtomicUsize,
}

impl<K: Clone + Eq + Hash> Tally<K> {
    fn new(most: usize) -> Self {
        Self { open: Mutex::default(), most: AtomicUsize::new(most) }
    }

    fn keys(&self) -> Vec<K> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn count(&self, key: &K) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or(0)
    }

    fn take(&self, key: &K) -> bool {
        self.take_up_to(key, self.most.load(Ordering::Relaxed))
    }

    fn take_up_to(&self, key: &K, most: usize) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(key).copied().unwrap_or(0);
        let free = count < most;
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

    type Open = (SessionPlace, Place);

    fn open(counts: &Arc<Counts>, address: &str, subject: &str) -> Result<Open, Reason> {
        open_on(counts, address, subject, &RouteLimits::default())
    }

    fn open_on(
        counts: &Arc<Counts>,
        address: &str,
        subject: &str,
        limits: &RouteLimits,
    ) -> Result<Open, Reason> {
        let reason = |excess: Excess| excess.reason;
        let mut place = counts.place(address.parse().expect("an address")).map_err(reason)?;
        place.ask("/chat", limits).map_err(reason)?;
        let session = place.session(("main", subject), "/chat", limits).map_err(reason)?;
        place.decided();
        Ok((session, place))
    }

    #[test]
    fn a_session_takes_a_file_more_than_a_handshake_and_all_are_given_back() {
        let counts = counts(10, 10, 10);
        counts.bound_files(5);
        assert_eq!(counts.most_sessions(), 2);
        let place = |address: &str| counts.place(address.parse().expect("an address"));
        let first = open(&counts, "192.0.2.1", "alice").expect("two files");
        let slow = [place("192.0.2.2").expect("the third"), place("192.0.2.3").expect("the fourth")];
        assert_eq!(open(&counts, "192.0.2.1", "alice").expect_err("none is left"), Reason::LimitCapacity);
        let last = place("192.0.2.4").expect("the fifth");
        assert_eq!(place("192.0.2.5").expect_err("none is left").reason, Reason::LimitCapacity);
        drop((slow, last));
        let second = open(&counts, "192.0.2.1", "alice").expect("they were given back");
        assert_eq!(counts.sessions(), 2);
        drop((first, second));
        counts.bound_files(20);
        let all: Vec<_> = (0..10).map(|_| open(&counts, "192.0.2.1", "alice")).collect();
        assert!(all.iter().all(Result::is_ok), "nothing else is left taken: {all:?}");
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
        let _third = open(&counts, "192.0.2.9", "alice").expect("room again");
        assert_eq!(counts.sessions(), 3);
    }

    #[test]
    fn a_subject_at_its_limit_costs_its_address_nothing() {
        let counts = counts(9, 1, 1);
        let _alice = open(&counts, "192.0.2.1", "alice").expect("room");
        assert_eq!(open(&counts, "192.0.2.2", "alice").expect_err("one"), Reason::LimitSubjectSessions);
        open(&counts, "192.0.2.2", "bob").expect("the failed try is not counted");
    }

    #[test]
    fn the_same_subject_of_another_issuer_is_somebody_else() {
        let counts = counts(9, 9, 1);
        let place = counts.place("192.0.2.1".parse().expect("an address")).expect("room");
        let limits = RouteLimits::default();
        let _main = place.session(("main", "alice"), "/chat", &limits).expect("room");
        place.session(("other", "alice"), "/chat", &limits).expect("another alice");
    }

    #[test]
    fn an_ipv6_host_counts_by_its_64_bit_prefix() {
        let counts = counts(9, 1, 9);
        let _one = open(&counts, "2001:db8::1", "alice").expect("room");
        let same = open(&counts, "2001:db8::ffff:2", "bob").expect_err("the same /64");
        assert_eq!(same, Reason::LimitAddressSessions);
        open(&counts, "2001:db8:0:1::1", "bob").expect("another /64");
    }

    #[test]
    fn an_address_cannot_take_all_places_with_handshakes_that_it_never_finishes() {
        let counts = counts(9, 2, 9);
        let address = "192.0.2.1".parse().expect("an address");
        let mut first = counts.place(address).expect("room");
        let _second = counts.place(address).expect("room");
        assert_eq!(counts.place(address).expect_err("two").reason, Reason::LimitAddressSessions);
        open(&counts, "192.0.2.2", "bob").expect("room for others");
        first.decided();
        counts.place(address).expect("one is decided");
    }

    #[test]
    fn a_route_has_so_many_sessions_whoever_opens_them() {
        let counts = counts(9, 9, 9);
        let limits = RouteLimits { sessions: Some(1), ..RouteLimits::default() };
        let first = open_on(&counts, "192.0.2.1", "alice", &limits).expect("room");
        let error = open_on(&counts, "192.0.2.2", "bob", &limits).expect_err("one");
        assert_eq!(error, Reason::LimitRouteSessions);
        drop(first);
        let _second = open_on(&counts, "192.0.2.2", "bob", &limits).expect("room again");
        open(&counts, "192.0.2.2", "bob").expect("the failed try is not counted");
    }

    #[test]
    fn each_rate_is_named_and_tells_when_to_come_back() {
        let fast = |limits: Limits, route: &RouteLimits| {
            let counts = Arc::new(Counts::new(&limits));
            let _first = open_on(&counts, "192.0.2.1", "alice", route).expect("the first");
            open_on(&counts, "192.0.2.1", "alice", route).expect_err("too fast")
        };
        let (any, one) =
            (RouteLimits::default(), RouteLimits { handshake_rate: 1, ..RouteLimits::default() });
        let limits = Limits::default;
        assert_eq!(fast(Limits { handshake_rate: 1, ..limits() }, &any), Reason::LimitRate);
        assert_eq!(
            fast(Limits { handshake_rate_per_address: 1, ..limits() }, &any),
            Reason::LimitAddressRate
        );
        assert_eq!(
            fast(Limits { handshake_rate_per_subject: 1, ..limits() }, &any),
            Reason::LimitSubjectRate
        );
        assert_eq!(fast(limits(), &one), Reason::LimitRouteRate);

        let counts = Arc::new(Counts::new(&Limits { handshake_rate_per_address: 2, ..limits() }));
        let place = |address: &str| counts.place(address.parse().expect("an address"));
        let _both = (place("192.0.2.1").expect("one"), place("192.0.2.1").expect("two"));
        let excess = place("192.0.2.1").expect_err("three");
        assert!(excess.wait <= Duration::from_millis(500), "{excess:?}");
        place("192.0.2.2").expect("another address");
    }

    #[test]
    fn nothing_is_left_behind() {
        let counts = counts(1, 9, 9);
        drop(open(&counts, "192.0.2.1", "alice").expect("room"));
        counts.place("192.0.2.1".parse().expect("an address")).expect("the only place is free");
        assert!(counts.handshakes.open.lock().expect("sane").is_empty());
        assert!(counts.addresses.open.lock().expect("sane").is_empty());
        assert!(counts.subjects.open.lock().expect("sane").is_empty());
        assert!(counts.routes.open.lock().expect("sane").is_empty());
    }
}
