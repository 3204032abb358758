//! Keys that an issuer was asked for and does not have.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Keys that tokens name, hashed with the token, each for a while. Of more than there is room for, the oldest go.
#[derive(Debug)]
pub(super) struct Absent {
    ttl: Duration,
    most: usize,
    since: HashMap<u64, Instant>,
    order: VecDeque<(u64, Instant)>,
}

impl Absent {
    /// Room for `most` keys, each for `ttl`.
    pub(super) fn new(ttl: Duration, most: usize) -> Self {
        Self { ttl, most, since: HashMap::new(), order: VecDeque::new() }
    }

    /// The issuer did not have `key` at `now`.
    pub(super) fn insert(&mut self, key: u64, now: Instant) {
        // Many tokens can wait for the same key.
        if self.since.insert(key, now) == Some(now) {
            return;
        }
        self.order.push_back((key, now));
        while let Some((oldest, since)) = self.order.front().copied() {
            if self.order.len() <= self.most && now.duration_since(since) < self.ttl {
                break;
            }
            self.order.pop_front();
            // It may have been inserted again since.
            if self.since.get(&oldest) == Some(&since) {
                self.since.remove(&oldest);
            }
        }
    }

    /// Whether the issuer did not have `key` a while before `now`.
    pub(super) fn contains(&self, key: u64, now: Instant) -> bool {
        self.since.get(&key).is_some_and(|since| now.duration_since(*since) < self.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[test]
    fn a_key_is_known_to_be_absent_for_a_while() {
        let (mut absent, start) = (Absent::new(TTL, 10), Instant::now());
        absent.insert(1, start);
        assert!(absent.contains(1, start + TTL - Duration::from_secs(1)));
        assert!(!absent.contains(1, start + TTL) && !absent.contains(2, start));
    }

    #[test]
    fn there_are_never_more_than_there_is_room_for_and_the_oldest_go_first() {
        let (mut absent, start) = (Absent::new(TTL, 3), Instant::now());
        for key in 0..1000 {
            absent.insert(key, start);
            assert!(absent.order.len() <= 3 && absent.since.len() <= 3);
        }
        assert!(absent.contains(999, start) && absent.contains(997, start) && !absent.contains(996, start));
        for _ in 0..1000 {
            absent.insert(999, start);
        }
        assert!(absent.contains(999, start) && absent.order.len() <= 3);
    }
}
