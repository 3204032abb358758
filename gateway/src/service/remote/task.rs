//! The life of one remote list: wait, ask, look at the answer, keep it or say why not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use super::super::outgoing::schedule;
use super::fetch::{Failure, Fetched, fetch};
use super::store::{Note, Store, Validators};
use super::{FetchError, Health, seconds};
use crate::config::{Limits, RemoteList};
use crate::policy::{self, ParseOptions, Tier};

/// Keeps the copy of one list at what its server has.
pub(super) struct Task {
    pub list: RemoteList,
    pub tier: Tier,
    pub limits: Limits,
    pub store: Store,
    pub health: Health,
    pub random: fn() -> u64,
    /// Held while an answer is read.
    pub reading: Arc<Semaphore>,
}

impl Task {
    /// Runs for ever.
    pub(super) async fn run(self) {
        let mut note = self.blocking(|store| store.note()).await.flatten();
        let mut error: Option<FetchError> = None;
        let mut failures = 0_u32;
        if let Some(note) = &note {
            self.health.change(|health| health.last_success = Some(note.confirmed));
            // A copy that is young enough after a restart needs no request.
            let age = SystemTime::now().duration_since(note.confirmed()).unwrap_or_default();
            self.wait(self.list.interval.saturating_sub(age)).await;
        }
        loop {
            self.health.change(|health| health.last_attempt = Some(seconds(SystemTime::now())));
            let delay = match self.attempt(&mut note).await {
                Ok(()) => {
                    failures = 0;
                    self.health.change(|health| {
                        health.last_success = Some(seconds(SystemTime::now()));
                        health.error = None;
                    });
                    if error.take().is_some() {
                        log::info!("{} is fetched again", self.list.name);
                    }
                    schedule::delay(self.list.interval, 0, None, (self.random)())
                }
                Err(failure) => {
                    failures = failures.saturating_add(1);
                    self.health.change(|health| health.error = Some(failure.error.to_string()));
                    // Said once, not at every attempt.
                    if error.as_ref() != Some(&failure.error) {
                        let kept = if note.is_some() {
                            "its last good copy stays in force"
                        } else {
                            "there is no copy of it, and nothing of it is in force"
                        };
                        log::error!("{} could not be fetched, {kept}: {}", self.list.name, failure.error);
                    }
                    error = Some(failure.error);
                    schedule::delay(self.list.interval, failures, failure.retry_after, (self.random)())
                }
            };
            self.wait(delay).await;
        }
    }

    async fn wait(&self, delay: Duration) {
        let next = SystemTime::now().checked_add(delay).map(seconds);
        self.health.change(|health| health.next_attempt = next);
        tokio::time::sleep(delay).await;
    }

    /// Asks once, and keeps what came if it is a list.
    async fn attempt(&self, note: &mut Option<Note>) -> Result<(), Failure> {
        let known = note.as_ref().map(|note| &note.validators);
        let download = self.store.download();
        let fetched = fetch(&self.list, known, &download, &self.limits).await;
        let kept = match fetched {
            Ok(Fetched::Unchanged) => match note.clone() {
                Some(known) => self.blocking(move |store| store.confirm(known, SystemTime::now())).await,
                // The answer to a condition that was not made is a failure before it gets here.
                None => return Ok(()),
            },
            Ok(Fetched::Body(validators)) => Some(Ok(self.adopt(validators).await?)),
            Err(failure) => {
                self.discard().await;
                return Err(failure);
            }
        };
        *note = kept.transpose().map_err(FetchError::from)?;
        Ok(())
    }

    /// Makes the download the copy, if it is a list.
    async fn adopt(&self, validators: Validators) -> Result<Note, FetchError> {
        // It is never closed; without a permit, reading is merely less frugal.
        let _permit = self.reading.acquire().await;
        let options = ParseOptions { tier: self.tier, prefixes: self.limits.prefixes };
        let (name, max) = (self.list.name.clone(), self.limits.list_size);
        let adopted = self
            .blocking(move |store| {
                let body = policy::unpack_list(std::fs::read(store.download())?, max)
                    .map_err(|error| FetchError::NotAList(error.to_string()))?;
                readable(&body, &options)?;
                log::info!("{name} was fetched");
                Ok(store.adopt(validators, SystemTime::now())?)
            })
            .await
            .unwrap_or_else(|| Err(FetchError::Store("the daemon is stopping".to_owned())));
        if adopted.is_err() {
            self.discard().await;
        }
        adopted
    }

    async fn discard(&self) {
        // There may be none.
        let _ = tokio::fs::remove_file(self.store.download()).await;
    }

    /// Works with the disk where nobody waits; `None` when the runtime ends.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Option<T> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.ok()
    }
}

/// Whether `text` is a list that can be put in force. Only such a one becomes the copy: at the next
/// start there is nothing else to go by.
fn readable(text: &[u8], options: &ParseOptions) -> Result<(), FetchError> {
    if text.is_empty() {
        let hint = "it is empty; a list that is empty on purpose has a comment line";
        return Err(FetchError::NotAList(hint.to_owned()));
    }
    match policy::parse_list(text, options) {
        Ok(_) => Ok(()),
        Err(faults) => Err(FetchError::NotAList(match faults.first.first() {
            Some(fault) => format!("line {}, column {}: {}", fault.line, fault.column, fault.message),
            None => "it has faults".to_owned(),
        })),
    }
}
