//! For how long an answer is fresh by its own word, and when the issuer is asked next.

use std::time::{Duration, SystemTime};

use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES};
use http::{HeaderMap, HeaderName};

use super::super::outgoing::schedule;
use crate::config::FetchedKeys;

/// For how long an answer with `headers` is fresh at `now` (RFC 9111 §4.2), for a cache that is
/// nobody else's; `None` when it does not say.
pub(super) fn freshness(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let mut max_age = None;
    for value in headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()) {
        for directive in value.split(',').map(str::trim) {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-cache" | "no-store" => return Some(Duration::ZERO),
                // Of two, the first counts (RFC 9111 §4.2.1); one that is no number is stale.
                "max-age" if max_age.is_none() => {
                    let seconds = argument.trim().trim_matches('"').parse().unwrap_or(0);
                    max_age = Some(Duration::from_secs(seconds));
                }
                _ => {}
            }
        }
    }
    let lifetime = match max_age {
        Some(max_age) => max_age,
        None => {
            let expires = text(headers, &EXPIRES)?;
            let answered = text(headers, &DATE).and_then(|date| httpdate::parse_http_date(date).ok());
            let expires = httpdate::parse_http_date(expires).ok();
            expires.and_then(|at| at.duration_since(answered.unwrap_or(now)).ok()).unwrap_or_default()
        }
    };
    let age =
        text(headers, &AGE).and_then(|age| age.parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
    Some(lifetime.saturating_sub(age))
}

/// From a good answer, which is fresh for `fresh`, to the next request: within the bounds of `keys`,
/// moved by `random` so that not everybody asks at the same time.
pub(super) fn after_success(keys: &FetchedKeys, fresh: Option<Duration>, random: u64) -> Duration {
    let wanted = fresh.unwrap_or(keys.min_interval).clamp(keys.min_interval, keys.max_interval);
    schedule::delay(wanted, 0, None, random).clamp(keys.min_interval, keys.max_interval)
}

/// From the last of `failures` in a row to the next request; `retry_after`: what the server asks for.
pub(super) fn after_failure(
    keys: &FetchedKeys,
    failures: u32,
    retry_after: Option<Duration>,
    random: u64,
) -> Duration {
    let asked = retry_after.map(|wait| wait.min(keys.max_interval));
    schedule::delay(keys.min_interval, failures, asked, random)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::tests::fetched;
    use super::*;

    fn fresh(pairs: &[(HeaderName, &'static str)]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        freshness(&headers, now).map(|fresh| fresh.as_secs())
    }

    #[test]
    fn an_answer_is_fresh_for_as_long_as_it_says() {
        assert_eq!(fresh(&[]), None);
        assert_eq!(fresh(&[(CACHE_CONTROL, "public, Max-Age=600, must-revalidate")]), Some(600));
        assert_eq!(fresh(&[(CACHE_CONTROL, "max-age=\"60\""), (AGE, "50")]), Some(10));
        assert_eq!(fresh(&[(CACHE_CONTROL, "max-age=60"), (AGE, "500")]), Some(0));
        assert_eq!(fresh(&[(EXPIRES, "Sun, 06 Nov 1994 08:50:37 GMT")]), Some(60));
        let dated = [(EXPIRES, "Sun, 06 Nov 1994 08:50:37 GMT"), (DATE, "Sun, 06 Nov 1994 08:50:07 GMT")];
        assert_eq!(fresh(&dated), Some(30));
        let both = [(CACHE_CONTROL, "max-age=5"), (EXPIRES, "Sun, 06 Nov 1994 08:50:37 GMT")];
        assert_eq!(fresh(&both), Some(5), "max-age wins");
    }

    #[test]
    fn what_must_not_be_kept_or_makes_no_sense_is_stale_at_once() {
        for value in ["no-store", "no-cache, max-age=600", "max-age=soon", "max-age=-1"] {
            assert_eq!(fresh(&[(CACHE_CONTROL, value)]), Some(0), "{value}");
        }
        assert_eq!(fresh(&[(EXPIRES, "0")]), Some(0));
        assert_eq!(fresh(&[(CACHE_CONTROL, "max-age=99999999999999999999")]), Some(0));
    }

    #[test]
    fn the_next_request_is_within_the_bounds_whatever_the_issuer_says() {
        let keys = fetched();
        for random in [0, u64::MAX / 2, u64::MAX] {
            for fresh in [None, Some(Duration::ZERO), Some(Duration::from_secs(1000)), Some(Duration::MAX)] {
                let wait = after_success(&keys, fresh, random);
                assert!((keys.min_interval..=keys.max_interval).contains(&wait), "{fresh:?}: {wait:?}");
            }
        }
        let middle = after_success(&keys, Some(Duration::from_secs(1000)), u64::MAX / 2).as_secs();
        assert!((999..=1000).contains(&middle), "{middle}");
    }

    #[test]
    fn failures_are_followed_by_longer_waits_up_to_the_least_interval_or_what_is_asked_for() {
        let keys = fetched();
        assert!(after_failure(&keys, 1, None, 0) < Duration::from_secs(6));
        assert!(after_failure(&keys, 99, None, u64::MAX) <= keys.min_interval * 11 / 10);
        let asked = keys.min_interval * 2;
        assert_eq!(after_failure(&keys, 1, Some(asked), 0), asked);
        assert_eq!(after_failure(&keys, 1, Some(Duration::MAX), 0), keys.max_interval);
    }
}
