//! Which keys are in force after an issuer said what it has.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::KeySet;

/// What an issuer said, and what of it is believed. A key that is new counts at once. One that is
/// gone goes when the issuer says so a second time after a while, so that a half-written set or a
/// server that lags behind takes nobody's keys away, and at the latest when it could not be asked
/// again for long: it may have been taken away because it was stolen.
#[derive(Debug)]
pub(super) struct Adoption {
    /// Between the two answers that take a key away, at least.
    delay: Duration,
    /// After the first of them at most.
    patience: Duration,
    in_force: Arc<KeySet>,
    going: Option<Going>,
    /// How many verified tokens a set remembers.
    remembered: usize,
}

/// Keys that the issuer no longer has, and still in force.
#[derive(Debug)]
struct Going {
    keys: KeySet,
    since: Instant,
}

impl Adoption {
    /// With `in_force`; later sets remember `remembered` verified tokens.
    pub(super) fn new(in_force: Arc<KeySet>, delay: Duration, patience: Duration, remembered: usize) -> Self {
        Self { delay, patience: patience.max(delay), in_force, going: None, remembered }
    }

    /// The keys in force.
    pub(super) fn in_force(&self) -> Arc<KeySet> {
        Arc::clone(&self.in_force)
    }

    /// How many keys are in force that the issuer no longer has.
    pub(super) fn going(&self) -> usize {
        self.going.as_ref().map_or(0, |going| going.keys.len())
    }

    /// The issuer said at `now` that it has the keys `fresh`, which are not none.
    pub(super) fn offer(&mut self, fresh: &KeySet, now: Instant) {
        let mut lost = self.in_force.minus(fresh);
        let mut since = now;
        if let Some(going) = &self.going {
            if now.duration_since(going.since) >= self.delay {
                lost = lost.minus(&going.keys);
            } else {
                since = going.since;
            }
        }
        self.put(fresh.plus(&lost));
        self.going = (!lost.is_empty()).then_some(Going { keys: lost, since });
    }

    /// The issuer said at `now` that it still has what it had when it last said something.
    pub(super) fn repeat(&mut self, now: Instant) {
        if self.going.as_ref().is_some_and(|going| now.duration_since(going.since) >= self.delay) {
            self.drop_going();
        }
    }

    /// The issuer could not be asked at `now`.
    pub(super) fn miss(&mut self, now: Instant) {
        if self.going.as_ref().is_some_and(|going| now.duration_since(going.since) >= self.patience) {
            self.drop_going();
        }
    }

    /// When the keys that the issuer no longer has go, even if it cannot be asked again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.going.as_ref().map(|going| going.since + self.patience)
    }

    fn drop_going(&mut self) {
        if let Some(going) = self.going.take() {
            self.put(self.in_force.minus(&going.keys));
        }
    }

    /// Puts `keys` in force. The same keys stay the very same set.
    fn put(&mut self, keys: KeySet) {
        if !(keys.minus(&self.in_force).is_empty() && self.in_force.minus(&keys).is_empty()) {
            self.in_force = Arc::new(keys.remembering(self.remembered));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::set;
    use super::*;

    const DELAY: Duration = Duration::from_secs(30);
    const PATIENCE: Duration = Duration::from_secs(300);

    fn adoption(names: &[&str]) -> (Adoption, Instant) {
        (Adoption::new(Arc::new(set(names)), DELAY, PATIENCE, 16), Instant::now())
    }

    #[track_caller]
    fn holds(adoption: &Adoption, names: &[&str]) {
        let expected = set(names);
        let (more, less) = (adoption.in_force().minus(&expected), expected.minus(&adoption.in_force()));
        assert!(more.is_empty() && less.is_empty(), "too many: {more:?}, too few: {less:?}");
    }

    #[test]
    fn a_new_key_counts_at_once_and_the_same_keys_stay_the_very_same_set() {
        let (mut adoption, now) = adoption(&["a"]);
        adoption.offer(&set(&["a", "b"]), now);
        holds(&adoption, &["a", "b"]);
        let before = adoption.in_force();
        adoption.offer(&set(&["b", "a"]), now);
        assert!(Arc::ptr_eq(&before, &adoption.in_force()) && adoption.going() == 0);
    }

    #[test]
    fn a_key_goes_when_the_issuer_says_so_twice_with_a_while_between() {
        let (mut adoption, now) = adoption(&["a", "b"]);
        adoption.offer(&set(&["b"]), now);
        holds(&adoption, &["a", "b"]);
        adoption.offer(&set(&["b"]), now + DELAY / 2);
        adoption.repeat(now + DELAY / 2);
        holds(&adoption, &["a", "b"]);
        assert_eq!(adoption.going(), 1);
        adoption.offer(&set(&["b"]), now + DELAY);
        holds(&adoption, &["b"]);
        assert_eq!(adoption.going(), 0);
    }

    #[test]
    fn an_unchanged_answer_says_it_a_second_time_too() {
        let (mut adoption, now) = adoption(&["a"]);
        adoption.offer(&set(&["b"]), now);
        holds(&adoption, &["a", "b"]);
        adoption.repeat(now + DELAY);
        holds(&adoption, &["b"]);
    }

    #[test]
    fn a_key_that_comes_back_stays() {
        let (mut adoption, now) = adoption(&["a", "b"]);
        adoption.offer(&set(&["b"]), now);
        adoption.offer(&set(&["a", "b"]), now + DELAY);
        holds(&adoption, &["a", "b"]);
        assert_eq!(adoption.going(), 0);
        adoption.offer(&set(&["b"]), now + DELAY * 2);
        holds(&adoption, &["a", "b"]);
    }

    #[test]
    fn a_key_that_is_gone_does_not_stay_because_the_issuer_went_too() {
        let (mut adoption, now) = adoption(&["a", "b"]);
        adoption.offer(&set(&["b"]), now);
        assert_eq!(adoption.deadline(), Some(now + PATIENCE));
        adoption.miss(now + PATIENCE - Duration::from_secs(1));
        holds(&adoption, &["a", "b"]);
        adoption.miss(now + PATIENCE);
        holds(&adoption, &["b"]);
        assert_eq!(adoption.deadline(), None);
    }

    #[test]
    fn a_key_that_goes_later_than_another_gets_a_second_time_of_its_own() {
        let (mut adoption, now) = adoption(&["a", "b", "c"]);
        adoption.offer(&set(&["b", "c"]), now);
        adoption.offer(&set(&["c"]), now + DELAY);
        holds(&adoption, &["b", "c"]);
        adoption.offer(&set(&["c"]), now + DELAY * 2);
        holds(&adoption, &["c"]);
    }
}
