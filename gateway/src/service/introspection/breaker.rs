//! Whether an endpoint that failed is asked again. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which an endpoint is not asked for a while.
const FAILURES: u32 = 5;
/// How long that is.
const REST: Duration = Duration::from_secs(5);

/// Closed while answers come; after some failures it opens, and lets one question through when its
/// rest is over.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether the endpoint may be asked at `now`; else how long not. Who may ask has to say how it
    /// went.
    pub(super) fn ask(&mut self, now: Instant) -> Result<(), Duration> {
        match self.open_until {
            None => Ok(()),
            Some(until) if now < until => Err(until - now),
            // One is let through; the others wait for what becomes of it.
            Some(_) => {
                self.open_until = Some(now + REST);
                Ok(())
            }
        }
    }

    /// An answer came.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// None came, or none that means something.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.open_until = Some(now + REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_five_failures_nobody_asks_until_one_probe_has_an_answer() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            breaker.ask(start).expect("closed");
            breaker.failed(start);
        }
        assert_eq!(breaker.ask(start + REST / 2), Err(REST / 2));
        breaker.ask(start + REST).expect("the probe");
        assert!(breaker.ask(start + REST).is_err(), "one at a time");
        breaker.failed(start + REST);
        assert!(breaker.ask(start + REST).is_err());
        breaker.ask(start + REST * 2).expect("the next probe");
        breaker.answered();
        breaker.ask(start + REST * 2).expect("closed again");
    }
}
