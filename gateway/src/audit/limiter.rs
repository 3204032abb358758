//! Keeps a flood of drops from flooding the trail. Pure: the clock is passed in.

use std::time::{Duration, Instant};

use super::entry::Entry;

/// Lets a bounded number of reports through per second and counts the rest exactly.
#[derive(Debug)]
pub struct DropLimiter {
    per_second: u32,
    window: Option<Instant>,
    used: u32,
    held_reports: u64,
    held_packets: u64,
}

impl DropLimiter {
    /// A limiter for `per_second` reports per second.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, window: None, used: 0, held_reports: 0, held_packets: 0 }
    }

    /// Whether a report about `packets` packets may be written now; otherwise it is counted.
    pub fn admit(&mut self, packets: u64, now: Instant) -> bool {
        self.roll(now);
        if self.used < self.per_second {
            self.used += 1;
            return true;
        }
        self.count(1, packets);
        false
    }

    /// Counts `reports` that were left out elsewhere and stood for `packets` packets.
    pub fn count(&mut self, reports: u64, packets: u64) {
        self.held_reports += reports;
        self.held_packets += packets;
    }

    /// What was left out, as one entry, at most once a second; `None` when nothing was.
    pub fn summary(&mut self, now: Instant) -> Option<Entry> {
        // Within the second that is full, more may still come.
        if !self.roll(now) && self.used >= self.per_second {
            return None;
        }
        self.flush()
    }

    /// What was left out, whatever the time; for the end of the daemon.
    pub fn flush(&mut self) -> Option<Entry> {
        let (reports, packets) = (self.held_reports, self.held_packets);
        (self.held_reports, self.held_packets) = (0, 0);
        (reports > 0 || packets > 0).then_some(Entry::DroppedUnreported { reports, packets })
    }

    /// Starts a new second where the last is over; whether it did.
    fn roll(&mut self, now: Instant) -> bool {
        let over =
            self.window.is_none_or(|start| now.saturating_duration_since(start) >= Duration::from_secs(1));
        if over {
            self.window = Some(now);
            self.used = 0;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_the_limit_and_the_rest_is_counted_exactly() {
        let mut limiter = DropLimiter::new(10);
        let start = Instant::now();
        let admitted = (0..1000).filter(|_| limiter.admit(3, start)).count();
        assert_eq!(admitted, 10);
        assert!(limiter.summary(start).is_none(), "the second is not over");
        let summary = limiter.summary(start + Duration::from_secs(1));
        assert!(
            matches!(summary, Some(Entry::DroppedUnreported { reports: 990, packets: 2970 })),
            "{summary:?}"
        );
        assert!(limiter.summary(start + Duration::from_secs(2)).is_none(), "nothing is reported twice");
        assert!(limiter.admit(1, start + Duration::from_secs(2)));
    }
}
