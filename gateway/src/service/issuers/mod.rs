//! Keys of issuers that are fetched: asked for in time, put in force when they can be believed, and
//! asked for out of turn when a token names one that is not there. A failure leaves the last good
//! keys where they are until they are too old.

mod absent;
mod adoption;
mod copy;
mod desk;
mod fault;
mod fetch;
mod freshness;
mod line;
mod task;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::copy::Copy;
use self::line::Line;
use self::task::Task;
use super::keys::Fetched;
use crate::admin::status::{FetchStatus, IssuerStatus};
use crate::auth::LiveKeys;
use crate::config::Config;

/// All issuers of a configuration whose keys are fetched.
#[derive(Debug, Default)]
pub(super) struct Issuers {
    known: Vec<(String, Arc<LiveKeys>, Health)>,
}

/// How the fetching stands with one issuer. Cheap to clone.
#[derive(Clone, Debug, Default)]
struct Health(Arc<Mutex<FetchStatus>>);

impl Health {
    fn read(&self) -> FetchStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut FetchStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Issuers {
    /// Starts a task on `tasks` for each issuer of `config` whose keys are fetched, into its
    /// live keys; each runs until `stop`. Keys that were kept on disk and are not too old are in force
    /// when this returns. `random` gives randomness for the time of the next request.
    pub(super) fn start(
        config: &Config,
        fetched: Vec<Fetched<'_>>,
        random: fn() -> u64,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        if let Some(folder) = config.state.as_deref() {
            tidy(folder, &fetched);
        }
        let mut known = Vec::new();
        for Fetched { issuer, keys: fetched, live: keys, introspection } in fetched {
            let health = Health::default();
            health.change(|health| health.source = fetched.place.shown());
            let line = Line::new(fetched, &config.limits);
            keys.asked_by(Arc::new(line.clone()));
            let copy = config.state.as_deref().map(|folder| Copy::of(folder, issuer, fetched));
            let task =
                Task::new(issuer, fetched, &config.limits, Arc::clone(&keys), line, health.clone(), copy)
                    .with_randomness(random)
                    .telling(introspection);
            let stop = stop.child_token();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = task.run() => {}
                }
            });
            known.push((issuer.name.clone(), keys, health));
        }
        Self { known }
    }

    /// Adds to the status of each issuer how its fetching stands at `now`.
    pub(super) fn add_to(&self, status: &mut [IssuerStatus], now: SystemTime) {
        let now = seconds(now);
        for issuer in status {
            let Some((_, keys, health)) = self.known.iter().find(|(name, ..)| *name == issuer.issuer) else {
                continue;
            };
            let (health, confirmed) = (health.read(), keys.confirmed());
            issuer.keys = keys.last().len();
            issuer.fetched = Some(FetchStatus {
                last_success: confirmed,
                age_s: confirmed.map(|confirmed| now.saturating_sub(confirmed)),
                next_s: health.next_attempt.map(|next| next.saturating_sub(now)),
                stale: keys.is_stale(now),
                ..health
            });
        }
    }
}

/// Removes from `folder` the kept keys of issuers that are not among `fetched` any more.
fn tidy(folder: &Path, fetched: &[Fetched<'_>]) {
    let known: Vec<_> =
        fetched.iter().map(|Fetched { issuer, keys, .. }| Copy::of(folder, issuer, keys)).collect();
    match Copy::remove_all_but(&known, folder) {
        Ok(removed) => removed.iter().for_each(|file| {
            log::info!(
                "removed {}, the kept keys of an issuer that is not in the configuration any more",
                file.display()
            );
        }),
        Err(error) => log::warn!(
            "{}: kept keys of issuers that are not in the configuration any more cannot be removed ({error}): check \
             [state] folder and its permissions",
            folder.display()
        ),
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
