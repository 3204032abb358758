//! Keys of an issuer that are fetched, and change while the gate runs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::KeySet;
use crate::rejection::{Reason, Rejection};

/// When a client should ask again at the latest: an issuer can come back before it is asked the
/// next time on our own account, and a client that asks makes us ask.
const RETRY: Duration = Duration::from_secs(60);
/// When a client should ask again where nobody knows when the issuer is asked next.
const SOON: Duration = Duration::from_secs(10);

/// The keys in force of an issuer that is asked for them. All judgements about its tokens share
/// one; each sees the keys of one moment.
pub struct LiveKeys {
    known: ArcSwap<Known>,
    /// How long keys serve after the last good answer, in seconds.
    max_stale: u64,
    /// When the issuer is to be asked next, in seconds since 1970; 0: that is not known.
    next: AtomicU64,
    /// Who asks the issuer; without a daemon, nobody.
    asker: OnceLock<Arc<dyn Refresh>>,
}

/// The keys of one moment.
#[derive(Debug, Default)]
struct Known {
    keys: Arc<KeySet>,
    /// When the issuer last said that these are its keys, in seconds since 1970.
    confirmed: Option<u64>,
}

/// Asks an issuer for its keys.
pub trait Refresh: fmt::Debug + Send + Sync {
    /// Asks the issuer whether it has the key of the token that `question` names, which is not among its
    /// keys in force, and waits for the answer within a limit. Many tokens share one request, and a
    /// question that was answered a moment ago is not asked again. Nothing of it is kept or shown.
    fn refresh<'a>(&'a self, question: &'a str) -> Pin<Box<dyn Future<Output = Refreshed> + Send + 'a>>;
}

/// What came of asking an issuer for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The keys in force are those that the issuer had a moment ago.
    Current,
    /// The issuer was being asked already: if the key is still not there, it has to be asked again.
    Earlier,
    /// The issuer could not be asked, or not in time: whether it has the key is not known.
    Unknown {
        /// After how long it makes sense to come back.
        retry_after: Duration,
    },
}

/// Why no key of an issuer can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) enum Lack {
    /// None has arrived yet.
    Nothing,
    /// The issuer has not confirmed them for this many seconds.
    Stale(u64),
}

impl LiveKeys {
    /// No keys yet. Those that come serve for `max_stale` after the last good answer.
    pub fn new(max_stale: Duration) -> Self {
        Self {
            known: ArcSwap::default(),
            max_stale: max_stale.as_secs(),
            next: AtomicU64::new(0),
            asker: OnceLock::new(),
        }
    }

    /// Puts `keys` in force, which the issuer confirmed at `confirmed`, in seconds since 1970. The
    /// same set as before stays the very same: what is known about its tokens stays known.
    pub fn put(&self, keys: Arc<KeySet>, confirmed: u64) {
        self.known.store(Arc::new(Known { keys, confirmed: Some(confirmed) }));
    }

    /// The issuer is to be asked at `next`, in seconds since 1970.
    pub fn expect_next(&self, next: u64) {
        self.next.store(next, Ordering::Relaxed);
    }

    /// Lets tokens with unknown keys make `asker` ask the issuer. The first one stays.
    pub fn asked_by(&self, asker: Arc<dyn Refresh>) {
        // A second one would be a second flight to the same issuer.
        let _ = self.asker.set(asker);
    }

    /// The keys, be they too old to be used.
    pub fn last(&self) -> Arc<KeySet> {
        Arc::clone(&self.known.load().keys)
    }

    /// When the issuer last confirmed the keys, in seconds since 1970.
    pub fn confirmed(&self) -> Option<u64> {
        self.known.load().confirmed
    }

    /// Whether the keys are too old to be used at `now`, in seconds since 1970.
    pub fn is_stale(&self, now: u64) -> bool {
        matches!(self.current(now), Err(Lack::Stale(_)))
    }

    /// The keys that can be used at `now`, in seconds since 1970.
    pub(in crate::auth) fn current(&self, now: u64) -> Result<Arc<KeySet>, Lack> {
        let known = self.known.load();
        match known.confirmed {
            Some(_) if known.keys.is_empty() => Err(Lack::Nothing),
            Some(confirmed) => match now.saturating_sub(confirmed) {
                age if age > self.max_stale => Err(Lack::Stale(age)),
                _ => Ok(Arc::clone(&known.keys)),
            },
            None => Err(Lack::Nothing),
        }
    }

    /// The outage of ours that `lack` is.
    pub(in crate::auth) fn outage(&self, lack: Lack, now: u64) -> Box<Rejection> {
        let next = Duration::from_secs(self.next.load(Ordering::Relaxed).saturating_sub(now));
        let retry = if next.is_zero() { SOON } else { next.min(RETRY) };
        let rejection = match lack {
            Lack::Nothing => Rejection::new(Reason::AuthSystemKeysUnavailable).note(match self.asker.get() {
                Some(_) => "the issuer's keys could not be fetched yet: `gatehouse status` says why",
                None => "the issuer's keys are fetched by the daemon, and no daemon was asked",
            }),
            Lack::Stale(age) => Rejection::new(Reason::AuthSystemKeysStale).note(format!(
                "the issuer confirmed its keys {age} s ago, max_stale is {} s: `gatehouse status` says why",
                self.max_stale
            )),
        };
        Box::new(rejection.retry_after(retry))
    }

    /// Asks the issuer for the key of the token that `question` names.
    pub(in crate::auth) async fn refresh(&self, question: &str) -> Refreshed {
        match self.asker.get() {
            Some(asker) => asker.refresh(question).await,
            None => Refreshed::Unknown { retry_after: SOON },
        }
    }
}

impl fmt::Debug for LiveKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveKeys")
            .field("known", &self.known.load())
            .field("max_stale", &self.max_stale)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn one_key() -> Arc<KeySet> {
        let set =
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        Arc::new(KeySet::published("the test", set.into()).expect("a set").keys)
    }

    fn live() -> LiveKeys {
        LiveKeys::new(Duration::from_secs(100))
    }

    #[test]
    fn keys_serve_until_max_stale_after_the_last_good_answer_and_not_a_second_longer() {
        let live = live();
        assert_eq!(live.current(NOW).err(), Some(Lack::Nothing));
        live.put(one_key(), NOW);
        assert!(live.current(NOW + 100).is_ok());
        assert_eq!(live.current(NOW + 101).err(), Some(Lack::Stale(101)));
        live.put(live.last(), NOW + 101);
        assert!(live.current(NOW + 201).is_ok());
    }

    #[test]
    fn a_set_that_is_confirmed_stays_the_very_same() {
        let live = live();
        live.put(one_key(), NOW);
        let before = live.last();
        live.put(live.last(), NOW + 1);
        assert!(Arc::ptr_eq(&before, &live.last()));
    }

    #[test]
    fn an_outage_is_retryable_and_names_the_next_request_up_to_a_minute() {
        let live = live();
        let rejection = live.outage(Lack::Nothing, NOW);
        assert_eq!(
            (rejection.reason, rejection.retry_after),
            (Reason::AuthSystemKeysUnavailable, Some(SOON))
        );
        live.expect_next(NOW + 7);
        assert_eq!(live.outage(Lack::Nothing, NOW).retry_after, Some(Duration::from_secs(7)));
        live.expect_next(NOW + 3600);
        let rejection = live.outage(Lack::Stale(101), NOW);
        assert_eq!((rejection.reason, rejection.retry_after), (Reason::AuthSystemKeysStale, Some(RETRY)));
        assert!(rejection.reason.retryable());
    }

    #[tokio::test]
    async fn without_a_daemon_nobody_is_asked() {
        assert_eq!(live().refresh("a").await, Refreshed::Unknown { retry_after: SOON });
        let note = live().outage(Lack::Nothing, NOW).note.expect("a note");
        assert!(note.contains("no daemon was asked"), "{note}");
    }
}
