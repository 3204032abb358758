//! When a server is asked next.

use std::time::Duration;

/// The wait after the first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// The longest wait after failures, unless the interval is shorter.
const LAST_RETRY: Duration = Duration::from_secs(60 * 60);
/// The longest wait that a server can ask for.
const RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait after a good answer, or after `failures` in a row of which the last one asked for a wait
/// of `retry_after`. `random` moves it by up to a tenth either way, so that not everybody asks at
/// the same time.
pub(in crate::service) fn delay(
    interval: Duration,
    failures: u32,
    retry_after: Option<Duration>,
    random: u64,
) -> Duration {
    if failures == 0 {
        return jitter(interval, random);
    }
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let retry = jitter(doubled.min(LAST_RETRY).min(interval), random);
    // Whatever moves it, it is never sooner than the server asked for.
    retry.max(retry_after.unwrap_or_default().min(RETRY_AFTER))
}

fn jitter(duration: Duration, random: u64) -> Duration {
    let nanos = duration.as_nanos();
    let tenth = nanos / 10;
    let moved = nanos - tenth + (tenth * 2).saturating_mul(u128::from(random)) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(moved).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MIDDLE: u64 = u64::MAX / 2;

    #[test]
    fn a_good_answer_is_followed_by_the_interval_give_or_take_a_tenth() {
        assert_eq!(delay(HOUR, 0, None, 0), HOUR * 9 / 10);
        assert_eq!(delay(HOUR, 0, None, u64::MAX), HOUR * 11 / 10);
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_waits_up_to_a_cap() {
        let waits: Vec<u128> = (1..=12)
            .map(|failures| (delay(HOUR * 24, failures, None, MIDDLE).as_millis() + 500) / 1000)
            .collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        assert_eq!(delay(HOUR, u32::MAX, None, u64::MAX), HOUR * 11 / 10);
        let second = Duration::from_secs(1);
        assert!(delay(second, 9, None, MIDDLE) <= second, "never rarer than without a failure");
    }

    #[test]
    fn a_server_can_ask_for_a_longer_wait_up_to_a_day() {
        let asked = |wait| delay(HOUR, 1, Some(wait), MIDDLE);
        assert_eq!(asked(Duration::from_secs(90)), Duration::from_secs(90));
        assert!(asked(Duration::ZERO) > Duration::from_secs(4), "it cannot ask for a shorter one");
        assert_eq!(asked(Duration::MAX), HOUR * 24);
    }
}
