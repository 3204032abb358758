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

/// All issuers of a configuration whose keys are fetched. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Issuers {
    known: Arc<Mutex<Vec<Known>>>,
    random: fn() -> u64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One of them, and its task.
#[derive(Debug)]
struct Known {
    name: String,
    keys: Arc<LiveKeys>,
    health: Health,
    stop: CancellationToken,
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
        let this = Self { known: Arc::default(), random, tasks: tasks.clone(), stop: stop.clone() };
        this.follow(config, fetched);
        this
    }

    /// Goes on with those of `fetched` that are known, starts a task for each of the others, and ends the
    /// tasks of those that are not among them any more.
    pub(super) fn follow(&self, config: &Config, fetched: Vec<Fetched<'_>>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        for Fetched { issuer, keys: fetched, live: keys, introspection } in fetched {
            if let Some(index) = before.iter().position(|one| Arc::ptr_eq(&one.keys, &keys)) {
                known.push(before.swap_remove(index));
                continue;
            }
            let health = Health::default();
            health.change(|health| health.source = fetched.place.shown());
            let line = Line::new(fetched, &config.limits);
            keys.asked_by(Arc::new(line.clone()));
            let copy = config.state.as_deref().map(|folder| Copy::of(folder, issuer, fetched));
            let task =
                Task::new(issuer, fetched, &config.limits, Arc::clone(&keys), line, health.clone(), copy)
                    .with_randomness(self.random)
                    .telling(introspection);
            let stop = self.stop.child_token();
            known.push(Known { name: issuer.name.clone(), keys, health, stop: stop.clone() });
            self.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = task.run() => {}
                }
            });
        }
        before.iter().for_each(|gone| gone.stop.cancel());
    }

    /// Adds to the status of each issuer how its fetching stands at `now`.
    pub(super) fn add_to(&self, status: &mut [IssuerStatus], now: SystemTime) {
        let now = seconds(now);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for issuer in status {
            let Some(Known { keys, health, .. }) = known.iter().find(|one| one.name == issuer.issuer) else {
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
