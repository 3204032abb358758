//! Whether an endpoint that failed is asked again. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Closed while answers come; after some failures it opens, and lets one question through when its
/// rest is over.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Failures in a row after which the endpoint is not asked for a while.
    most: u32,
    /// How long that is.
    rest: Duration,
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Opens after `most` failures in a row, for `rest`.
    pub(super) fn new(most: u32, rest: Duration) -> Self {
        Self { most, rest, failures: 0, open_until: None }
    }

    /// Whether the endpoint may be asked at `now`; else how long not. Who may ask has to say how it
    /// went.
    pub(super) fn ask(&mut self, now: Instant) -> Result<(), Duration> {
        match self.open_until {
            None => Ok(()),
            Some(until) if now < until => Err(until - now),
            // One is let through; the others wait for what becomes of it.
            Some(_) => {
                self.open_until = Some(now + self.rest);
                Ok(())
            }
        }
    }

    /// An answer came.
    pub(super) fn answered(&mut self) {
        *self = Self::new(self.most, self.rest);
    }

    /// None came, or none that means something.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.most {
            self.open_until = Some(now + self.rest);
        }
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the endpoint is left alone, and for how long still at `now`; zero: the next question is
    /// let through.
    pub(super) fn resting(&self, now: Instant) -> Option<Duration> {
        self.open_until.map(|until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(5);

    #[test]
    fn after_its_failures_nobody_asks_until_one_probe_has_an_answer() {
        let (mut breaker, start) = (Breaker::new(3, REST), Instant::now());
        for failures in 0..3 {
            assert_eq!((breaker.failures(), breaker.resting(start)), (failures, None));
            breaker.ask(start).expect("closed");
            breaker.failed(start);
        }
        assert_eq!(breaker.ask(start + REST / 2), Err(REST / 2));
        assert_eq!(breaker.resting(start + REST / 2), Some(REST / 2));
        breaker.ask(start + REST).expect("the probe");
        assert!(breaker.ask(start + REST).is_err(), "one at a time");
        breaker.failed(start + REST);
        assert!(breaker.ask(start + REST).is_err());
        assert_eq!(breaker.resting(start + REST * 3), Some(Duration::ZERO));
        breaker.ask(start + REST * 2).expect("the next probe");
        breaker.answered();
        assert_eq!((breaker.failures(), breaker.resting(start)), (0, None));
        breaker.ask(start + REST * 2).expect("closed again");
    }
}
