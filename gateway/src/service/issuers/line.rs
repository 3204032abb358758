//! Where tokens with unknown keys wait, and the task hears of them.

use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::desk::{Desk, Step};
use crate::auth::{Refresh, Refreshed};
use crate::config::{FetchedKeys, Limits};

/// The line to one issuer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Line(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    desk: Mutex<Desk>,
    /// How many requests have been answered, or have failed.
    landed: watch::Sender<u64>,
    wanted: Notify,
    /// How long a token waits.
    patience: Duration,
    /// Strangers choose the names of keys; what they cannot choose is their hash.
    hasher: RandomState,
}

impl Line {
    /// A line on which nobody waits.
    pub(super) fn new(keys: &FetchedKeys, limits: &Limits) -> Self {
        Self(Arc::new(Shared {
            desk: Mutex::new(Desk::new(keys.cooldown, limits.issuer_waiters)),
            landed: watch::Sender::new(0),
            wanted: Notify::new(),
            patience: limits.issuer_timeout,
            hasher: RandomState::new(),
        }))
    }

    /// Waits until `due`, or until a token needs an answer before that.
    pub(super) async fn idle(&self, due: Instant) {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => return,
                // An order that was served already may still be there.
                () = self.0.wanted.notified() => if self.desk().is_wanted() { return },
            }
        }
    }

    /// The issuer is being asked now.
    pub(super) fn start(&self) {
        self.desk().start(Instant::now());
    }

    /// The issuer has answered, or it could not be asked. What it said is in force already.
    pub(super) fn land(&self, answered: bool) {
        let landed = self.desk().land(answered, Instant::now());
        self.0.landed.send_replace(landed);
    }

    async fn ask(&self, key: &str) -> Refreshed {
        let key = self.0.hasher.hash_one(key);
        let mut flights = self.0.landed.subscribe();
        let step = self.desk().ask(key, Instant::now());
        let landed = match step {
            Step::Answer(answer) => return answer,
            Step::Wait { landed, start } => {
                if start {
                    self.0.wanted.notify_one();
                }
                landed
            }
        };
        let _place = Place { line: self, key };
        match timeout(self.0.patience, flights.wait_for(|flights| *flights >= landed)).await {
            Ok(Ok(_)) => self.desk().outcome(Instant::now()),
            Ok(Err(_)) | Err(_) => self.desk().unknown(Instant::now()),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refresh for Line {
    fn refresh<'a>(&'a self, key: &'a str) -> Pin<Box<dyn Future<Output = Refreshed> + Send + 'a>> {
        Box::pin(self.ask(key))
    }
}

/// A place in the line, given back also by a client that leaves.
struct Place<'a> {
    line: &'a Line,
    key: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.desk().leave(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fetched;
    use super::*;

    fn line() -> Line {
        Line::new(&fetched(), &Limits { issuer_timeout: Duration::from_secs(5), ..Limits::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_serves_all_that_wait() {
        let line = line();
        let tokens: Vec<_> = (0..100)
            .map(|key| {
                let line = line.clone();
                tokio::spawn(async move { line.ask(&key.to_string()).await })
            })
            .collect();
        line.idle(Instant::now() + Duration::from_secs(3600)).await;
        line.start();
        // All of them have asked by now: time moves only when every task waits.
        tokio::time::sleep(Duration::from_secs(1)).await;
        line.land(true);
        for token in tokens {
            assert_eq!(token.await.expect("ended"), Refreshed::Current);
        }
        let due = Instant::now() + Duration::from_secs(10);
        line.idle(due).await;
        assert!(Instant::now() >= due, "nobody wants another request");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_limit_and_nobody_is_blamed() {
        let line = line();
        let start = Instant::now();
        assert!(matches!(line.ask("a").await, Refreshed::Unknown { .. }));
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_gives_its_place_back() {
        let limits = Limits { issuer_waiters: 1, ..Limits::default() };
        let line = Line::new(&fetched(), &limits);
        for _ in 0..3 {
            let left = timeout(Duration::from_millis(1), line.ask("a")).await;
            assert!(left.is_err(), "it waited, so there was a place");
        }
    }
}
