//! Lists from URLs: fetched into files of the state folder, where the list room finds them like any
//! other list. A failure leaves the last good copy where it is.

mod answer;
mod fetch;
mod store;
mod task;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::task::Task;
use crate::admin::status::RemoteStatus;
use crate::config::{Config, RemoteList};
use crate::policy::Tier;

/// Why a list could not be fetched: one line, without the query of its URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum FetchError {
    #[error("the server cannot be reached ({0}): check its name, the network and its certificate")]
    Unreachable(String),
    #[error(
        "it took too long (at most {connect} to connect, {idle} without a byte and {whole} in all): check the \
         server, or raise the [limits] remote_connect_timeout, remote_idle_timeout or remote_timeout"
    )]
    Timeout { connect: String, idle: String, whole: String },
    #[error("the answer broke off ({0}): check the server")]
    Broken(String),
    #[error("the answer ends within a line, and no length tells whether it is complete: check the server")]
    Truncated,
    #[error("the server answered with status {0}: check the URL, and whether the list has moved")]
    Status(u16),
    #[error("the server packed the answer ({0}) though it was asked not to: check the server")]
    Encoding(String),
    #[error("the answer is larger than [limits] list_size, {0} bytes: is it a list?")]
    TooLarge(u64),
    #[error("the answer is not a list that can be put in force: {0}")]
    NotAList(String),
    #[error("the certificates in {} cannot be used ({reason}): check the key `ca` of the list", .file.display())]
    Ca { file: PathBuf, reason: String },
    #[error("no request can be made ({0}): check the certificates of the system, or name some with `ca`")]
    Client(String),
    #[error("the copy cannot be written ({0}): check the folder of [state] and the space on its disk")]
    Store(String),
}

/// A folder for copies that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be made or written: check the folder of [state]", .file.display())]
pub struct StoreError {
    file: PathBuf,
    source: io::Error,
}

/// How it stands with one remote list. Cheap to clone.
#[derive(Clone, Debug, Default)]
struct Health(Arc<Mutex<RemoteStatus>>);

impl Health {
    fn read(&self) -> RemoteStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut RemoteStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// All remote lists of the configuration in force. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Remotes {
    known: Arc<Mutex<Vec<Known>>>,
    /// Reading a list takes memory and a core: one at a time.
    reading: Arc<Semaphore>,
    random: fn() -> u64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One of them, and its task.
#[derive(Debug)]
struct Known {
    tier: Tier,
    list: RemoteList,
    health: Health,
    stop: CancellationToken,
}

impl Remotes {
    /// None yet. Their tasks will be on `tasks`, and run until `stop`; `random` gives randomness for
    /// the time of the next request.
    pub(super) fn new(random: fn() -> u64, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let (tasks, stop) = (tasks.clone(), stop.clone());
        Self { known: Arc::default(), reading: Arc::new(Semaphore::new(1)), random, tasks, stop }
    }

    /// Fetches the lists of `config` from now on, and no others. One that was fetched before goes on.
    ///
    /// # Errors
    ///
    /// The lists whose copies have no place: they are not fetched.
    pub(super) fn follow(&self, config: &Config) -> Vec<StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        let mut faults = Vec::new();
        for (tier, list) in config.remote_lists() {
            if let Some(index) = before.iter().position(|one| one.tier == tier && one.list == *list) {
                known.push(before.swap_remove(index));
                continue;
            }
            let health = Health::default();
            let stop = self.stop.child_token();
            match store::Store::open(&list.file) {
                Ok(store) => self.start(list, tier, store, &health, &stop, config),
                Err(source) => {
                    let fault = StoreError { file: list.file.clone(), source };
                    health.change(|health| health.error = Some(fault.to_string()));
                    faults.push(fault);
                }
            }
            known.push(Known { tier, list: list.clone(), health, stop });
        }
        before.iter().for_each(|gone| gone.stop.cancel());
        faults
    }

    fn start(
        &self,
        list: &RemoteList,
        tier: Tier,
        store: store::Store,
        health: &Health,
        stop: &CancellationToken,
        config: &Config,
    ) {
        let task = Task {
            list: list.clone(),
            tier,
            limits: config.limits.clone(),
            store,
            health: health.clone(),
            random: self.random,
            reading: Arc::clone(&self.reading),
        };
        let stop = stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task.run() => {}
            }
        });
    }

    /// How it stands with the list called `name`, if it is one of these.
    pub(super) fn status(&self, name: &str) -> Option<RemoteStatus> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|one| one.list.name == name).map(|one| one.health.read())
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
