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
use crate::config::Config;

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

/// All remote lists of a configuration.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    lists: Vec<(String, Health)>,
}

impl Remotes {
    /// Starts a task on `tasks` for each remote list of `config`; each runs until `stop`.
    /// `random` gives randomness for the time of the next request.
    pub(super) fn start(
        config: &Config,
        random: fn() -> u64,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, StoreError> {
        // Reading a list takes memory and a core: one at a time.
        let reading = Arc::new(Semaphore::new(1));
        let mut lists = Vec::new();
        for (tier, list) in config.remote_lists() {
            let store = store::Store::open(&list.file)
                .map_err(|source| StoreError { file: list.file.clone(), source })?;
            let health = Health::default();
            lists.push((list.name.clone(), health.clone()));
            let task = Task {
                list: list.clone(),
                tier,
                limits: config.limits.clone(),
                store,
                health,
                random,
                reading: Arc::clone(&reading),
            };
            let stop = stop.child_token();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = task.run() => {}
                }
            });
        }
        Ok(Self { lists })
    }

    /// How it stands with the list called `name`, if it is one of these.
    pub(super) fn status(&self, name: &str) -> Option<RemoteStatus> {
        self.lists.iter().find(|(known, _)| known == name).map(|(_, health)| health.read())
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
