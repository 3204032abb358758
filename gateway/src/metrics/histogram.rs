//! How long things took, in buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper bounds of the buckets, in seconds: a verification takes tens of microseconds, a deadline ten
/// seconds.
const BOUNDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Durations, counted without a lock.
#[derive(Debug, Default)]
pub struct Histogram {
    /// By bucket; the last one has no bound.
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Counts one that took `duration`.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// All of them so far.
    pub fn read(&self) -> Latency {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Latency {
            bounds_s: BOUNDS.to_vec(),
            counts: counts.collect(),
            sum_s: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

/// Durations since the start of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Latency {
    /// Upper bounds of the buckets, in seconds.
    pub bounds_s: Vec<f64>,
    /// How many took no longer than the bound, and longer than the one before; the last is for those
    /// that took longer than every bound.
    pub counts: Vec<u64>,
    /// The sum of all, in seconds.
    pub sum_s: f64,
}

impl Latency {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Those since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bucket: usize| earlier.counts.get(bucket).copied().unwrap_or(0);
        Self {
            bounds_s: self.bounds_s.clone(),
            counts: (0..).zip(&self.counts).map(|(bucket, now)| now.saturating_sub(before(bucket))).collect(),
            sum_s: (self.sum_s - earlier.sum_s).max(0.0),
        }
    }

    /// The bound, in seconds, that this part of them did not exceed; `None` when there are none, or when
    /// it is above every bound.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let all = self.count();
        if all == 0 {
            return None;
        }
        let mut seen = 0;
        for (bound, count) in self.bounds_s.iter().zip(&self.counts) {
            seen += count;
            if seen as f64 >= part * all as f64 {
                return Some(*bound);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_bucket_that_just_holds_it() {
        let histogram = Histogram::default();
        for microseconds in [1, 100, 101, 7_000_000] {
            histogram.observe(Duration::from_micros(microseconds));
        }
        let latency = histogram.read();
        assert_eq!((latency.counts[0], latency.counts[1], latency.counts[14]), (2, 1, 1));
        assert_eq!(latency.count(), 4);
        assert!((latency.sum_s - 7.000_202).abs() < 1e-9);
        assert_eq!(latency.quantile(0.5), Some(0.000_1));
        assert_eq!((latency.quantile(0.75), latency.quantile(0.99)), (Some(0.000_25), None));
        assert_eq!(latency.since(&latency).quantile(0.5), None);
    }
}
