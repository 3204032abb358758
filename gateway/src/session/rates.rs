//! How many a second: handshakes in all, of one address, of one subject, to one route.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

/// Keys from which on those are forgotten that could use their whole burst again.
const SWEEP: usize = 4096;

/// So many a second for each key, and as many at once after a second of rest.
#[derive(Debug)]
pub struct Rate<K: Clone + Eq + Hash, C: Clock = MonotonicClock> {
    limiter: RateLimiter<K, HashMapStateStore<K>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    sweep_at: AtomicUsize,
}

impl<K: Clone + Eq + Hash> Rate<K> {
    /// `per_second` for each key; `None` when that is 0, which means any number.
    pub fn new(per_second: u32) -> Option<Self> {
        Self::with_clock(per_second, MonotonicClock)
    }
}

impl<K: Clone + Eq + Hash, C: Clock + Clone> Rate<K, C> {
    fn with_clock(per_second: u32, clock: C) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?);
        let limiter = RateLimiter::hashmap_with_clock(quota, clock.clone());
        Some(Self { limiter, clock, sweep_at: AtomicUsize::new(SWEEP) })
    }

    /// Counts one more of `key`.
    ///
    /// # Errors
    ///
    /// It is one too many, and is not counted: the time until the next one may come.
    pub fn take(&self, key: &K) -> Result<(), Duration> {
        let taken = self.limiter.check_key(key).map_err(|early| early.wait_time_from(self.clock.now()));
        // Keys are the strangers' choice: what they have left behind is forgotten when it is twice
        // what it was the last time, so that each of them costs a constant share of the work.
        if self.limiter.len() >= self.sweep_at.load(Ordering::Relaxed) {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            self.sweep_at.store(SWEEP.max(2 * self.limiter.len()), Ordering::Relaxed);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rate(per_second: u32) -> (Rate<u32, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Rate::with_clock(per_second, clock.clone()).expect("a limit"), clock)
    }

    #[test]
    fn each_key_has_its_own_rate_and_is_told_when_to_come_back() {
        let (rate, clock) = rate(4);
        for _ in 0..4 {
            assert_eq!(rate.take(&1), Ok(()));
        }
        assert_eq!(rate.take(&1), Err(Duration::from_millis(250)));
        assert_eq!(rate.take(&2), Ok(()), "another key");
        clock.advance(Duration::from_millis(250));
        assert_eq!(rate.take(&1), Ok(()));
        assert!(rate.take(&1).is_err());
    }

    #[test]
    fn zero_means_any_number() {
        assert!(Rate::<u32>::new(0).is_none());
    }

    #[test]
    fn keys_that_have_rested_are_forgotten() {
        let (rate, clock) = rate(1);
        for key in 0..10 * SWEEP {
            rate.take(&u32::try_from(key).expect("a number")).expect("a new key");
            clock.advance(Duration::from_millis(1));
            assert!(rate.limiter.len() <= SWEEP, "{}", rate.limiter.len());
        }
    }
}
