//! How much clients send in their sessions: bytes and messages a second, in all, of one address, of one
//! subject, on one route. What the upstream sends is its own affair.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::limits::network;
use crate::config::{Limits, RouteLimits, TrafficLimits};
use crate::rejection::Reason;

/// Keys from which on those are forgotten that have no session any more.
const SWEEP: usize = 1024;

/// What open sessions may send. Only what has a limit is kept, and only while it has sessions.
#[derive(Debug, Default)]
pub struct Traffic {
    all: Keyed<()>,
    addresses: Keyed<IpAddr>,
    subjects: Keyed<(String, String)>,
    routes: Keyed<String>,
}

/// So many bytes and messages a second, and as many at once after a second of rest.
#[derive(Debug)]
struct Bucket {
    limits: TrafficLimits,
    bytes: Option<DefaultDirectRateLimiter>,
    messages: Option<DefaultDirectRateLimiter>,
}

impl Bucket {
    fn new(limits: TrafficLimits) -> Self {
        let limiter = |rate| NonZeroU32::new(rate).map(|rate| RateLimiter::direct(Quota::per_second(rate)));
        Self { limits, bytes: limiter(limits.bytes), messages: limiter(limits.messages) }
    }

    /// Counts; whether it was not too much.
    fn take(&self, bytes: u32, messages: u32) -> bool {
        let take = |limiter: &Option<DefaultDirectRateLimiter>, count: u32| {
            let (Some(limiter), Some(count)) = (limiter, NonZeroU32::new(count)) else { return true };
            // More at once than in a second is too much, too.
            matches!(limiter.check_n(count), Ok(Ok(())))
        };
        take(&self.bytes, bytes) && take(&self.messages, messages)
    }
}

/// The buckets of those keys that have sessions.
#[derive(Debug)]
struct Keyed<K> {
    buckets: Mutex<Buckets<K>>,
}

#[derive(Debug)]
struct Buckets<K> {
    by_key: HashMap<K, Weak<Bucket>>,
    /// At this number, those without sessions are forgotten.
    sweep_at: usize,
}

impl<K> Default for Keyed<K> {
    fn default() -> Self {
        Self { buckets: Mutex::new(Buckets { by_key: HashMap::new(), sweep_at: SWEEP }) }
    }
}

impl<K: Eq + Hash> Keyed<K> {
    /// The bucket of `key`, which its sessions share; `None`: there is no limit.
    fn of(&self, key: K, limits: TrafficLimits) -> Option<Arc<Bucket>> {
        if limits == TrafficLimits::default() {
            return None;
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) =
            buckets.by_key.get(&key).and_then(Weak::upgrade).filter(|own| own.limits == limits)
        {
            return Some(bucket);
        }
        // At each doubling, so that each session costs a constant share of the work.
        if buckets.by_key.len() >= buckets.sweep_at {
            buckets.by_key.retain(|_, bucket| bucket.strong_count() > 0);
            buckets.sweep_at = SWEEP.max(2 * buckets.by_key.len());
        }
        let bucket = Arc::new(Bucket::new(limits));
        buckets.by_key.insert(key, Arc::downgrade(&bucket));
        Some(bucket)
    }
}

/// What one session counts for.
#[derive(Debug)]
pub struct Meter(Vec<(Arc<Bucket>, Reason)>);

impl Traffic {
    /// What a session of `subject` (issuer and subject) at `address` on the route `path` counts for;
    /// `None`: there is no limit at all.
    pub fn meter(
        &self,
        limits: &Limits,
        address: IpAddr,
        subject: (&str, &str),
        (path, route): (&str, &RouteLimits),
    ) -> Option<Meter> {
        // Strings are made for what has a limit only.
        let subjects = (limits.traffic_per_subject != TrafficLimits::default())
            .then(|| (subject.0.to_owned(), subject.1.to_owned()));
        let routes = (route.traffic != TrafficLimits::default()).then(|| path.to_owned());
        let buckets = [
            (self.addresses.of(network(address), limits.traffic_per_address), Reason::LimitAddressTraffic),
            (
                subjects.and_then(|key| self.subjects.of(key, limits.traffic_per_subject)),
                Reason::LimitSubjectTraffic,
            ),
            (routes.and_then(|key| self.routes.of(key, route.traffic)), Reason::LimitRouteTraffic),
            (self.all.of((), limits.traffic), Reason::LimitTraffic),
        ];
        let meter: Vec<_> =
            buckets.into_iter().filter_map(|(bucket, reason)| Some((bucket?, reason))).collect();
        (!meter.is_empty()).then_some(Meter(meter))
    }
}

impl Meter {
    /// Counts what a client has sent.
    ///
    /// # Errors
    ///
    /// The limit that it goes beyond. Of several, that of the address comes first: who sends too much is
    /// not to be taken for everybody.
    pub fn take(&self, bytes: usize, messages: u64) -> Result<(), Reason> {
        let (bytes, messages) =
            (u32::try_from(bytes).unwrap_or(u32::MAX), u32::try_from(messages).unwrap_or(u32::MAX));
        match self.0.iter().find(|(bucket, _)| !bucket.take(bytes, messages)) {
            Some((_, reason)) => Err(*reason),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(bytes: u32, messages: u32) -> TrafficLimits {
        TrafficLimits { bytes, messages }
    }

    fn meter(traffic: &Traffic, limits: &Limits, address: &str, subject: &str) -> Option<Meter> {
        let route = RouteLimits::default();
        traffic.meter(limits, address.parse().expect("an address"), ("main", subject), ("/chat", &route))
    }

    #[test]
    fn sessions_of_one_address_share_its_limit_and_others_have_their_own() {
        let traffic = Traffic::default();
        let limits = Limits { traffic_per_address: limit(20_000, 0), ..Limits::default() };
        let one = meter(&traffic, &limits, "192.0.2.1", "alice").expect("a limit");
        let same = meter(&traffic, &limits, "192.0.2.1", "bob").expect("a limit");
        let other = meter(&traffic, &limits, "192.0.2.2", "alice").expect("a limit");
        assert_eq!(one.take(12_000, 9), Ok(()));
        assert_eq!(same.take(12_000, 9), Err(Reason::LimitAddressTraffic));
        assert_eq!(other.take(12_000, 9), Ok(()));
        let networks = ["2001:db8::1", "2001:db8::2"].map(|own| meter(&traffic, &limits, own, "alice"));
        let [first, second] = networks.map(|meter| meter.expect("a limit"));
        assert_eq!(first.take(20_000, 0), Ok(()));
        assert_eq!(second.take(20_000, 0), Err(Reason::LimitAddressTraffic), "a /64 is one address");
    }

    #[test]
    fn each_limit_is_named() {
        let traffic = Traffic::default();
        let route = RouteLimits { traffic: limit(0, 3), ..RouteLimits::default() };
        let address = "192.0.2.1".parse().expect("an address");
        for (limits, reason) in [
            (Limits { traffic: limit(0, 2), ..Limits::default() }, Reason::LimitTraffic),
            (Limits { traffic_per_subject: limit(0, 1), ..Limits::default() }, Reason::LimitSubjectTraffic),
            (Limits::default(), Reason::LimitRouteTraffic),
        ] {
            let meter = traffic.meter(&limits, address, ("main", "alice"), ("/chat", &route));
            let meter = meter.expect("a limit");
            let refused = (0..4).find_map(|_| meter.take(1, 1).err());
            assert_eq!(refused, Some(reason));
        }
        assert!(meter(&traffic, &Limits::default(), "192.0.2.1", "alice").is_none());
    }

    #[test]
    fn a_new_limit_holds_for_new_sessions_and_nothing_is_kept_of_old_ones() {
        let traffic = Traffic::default();
        let limits = |messages| Limits { traffic_per_address: limit(0, messages), ..Limits::default() };
        for number in 0..10 * SWEEP {
            let address = std::net::Ipv4Addr::from(u32::try_from(number).expect("small"));
            assert!(meter(&traffic, &limits(1), &address.to_string(), "alice").is_some());
        }
        assert!(traffic.addresses.buckets.lock().expect("whole").by_key.len() <= SWEEP);
        let old = meter(&traffic, &limits(1), "192.0.2.1", "alice").expect("a limit");
        let new = meter(&traffic, &limits(5), "192.0.2.1", "alice").expect("a limit");
        assert_eq!(old.take(0, 2), Err(Reason::LimitAddressTraffic));
        assert_eq!(new.take(0, 5), Ok(()));
    }
}
