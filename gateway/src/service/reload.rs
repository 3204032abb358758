//! Puts edited lists and keys in force while the daemon runs.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::card::CardHandle;
use super::generations::Generations;
use super::state::State;
use super::watch::FolderWatch;
use crate::admin::status::{IssuerStatus, PolicyStatus};
use crate::config::Config;
use crate::edge::Gate;
use crate::nic::Counters;

/// The task that waits for changes and puts them in force.
#[derive(Debug)]
pub(super) struct Reloader {
    config: Config,
    state: State,
    generations: Arc<Generations>,
    gate: Arc<Gate>,
    card: Option<CardHandle>,
    watch: FolderWatch,
    health: Health,
}

impl Reloader {
    /// A task that keeps `gate` and `card` at what the files of `config` say, starting from
    /// `state`.
    pub(super) fn new(
        config: Config,
        state: State,
        generations: Arc<Generations>,
        gate: Arc<Gate>,
        card: Option<CardHandle>,
    ) -> notify::Result<Self> {
        let mut watch = FolderWatch::new()?;
        watch.set(State::folders(&config));
        let health = Health::default();
        health.set(&config, &state);
        Ok(Self { config, state, generations, gate, card, watch, health })
    }

    /// What is in force, for `gatehouse status`.
    pub(super) fn health(&self) -> Health {
        self.health.clone()
    }

    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            // Looked at once at the start: a file may have changed while the daemon was starting.
            self.refresh().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.watch.changed() => {}
            }
        }
    }

    async fn refresh(&mut self) {
        let (config, state) = (&self.config, &mut self.state);
        // Reading and compiling a long list takes its time; the other tasks of this thread move on.
        let refreshed = tokio::task::block_in_place(|| state.refresh(config));
        super::say(&refreshed.diagnostics);
        if refreshed.unfinished {
            self.watch.soon();
        }
        if refreshed.policy {
            self.publish().await;
        }
        if refreshed.policy || refreshed.keys {
            self.gate.swap(self.state.snapshot(&self.config));
        }
        if refreshed.keys {
            log::info!("keys were read anew");
        }
        self.health.set(&self.config, &self.state);
    }

    async fn publish(&self) {
        let generation = self.state.generation();
        // Known before it is in force, so that the first drop by it can be explained.
        self.generations.advance(Arc::clone(&generation));
        if let Some(card) = &self.card {
            match card.publish(Arc::clone(&generation)).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    log::error!(
                        "generation {} is in force at the gateway but not at the card, where the last one stays: {error}",
                        generation.number()
                    );
                    return;
                }
                None => return,
            }
        }
        log::info!("generation {} is in force: {} prefixes", generation.number(), generation.entries());
    }
}

/// What is in force. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<Mutex<Snapshot>>);

/// One look at what is in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    policy: Option<PolicyStatus>,
    sources: Vec<u16>,
    issuers: Vec<IssuerStatus>,
}

impl Health {
    /// What is in force now.
    pub(super) fn read(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, config: &Config, state: &State) {
        let (policy, sources) = state.policy_status(config).unzip();
        let issuers = state.keys().status(config);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Snapshot { policy, sources: sources.unwrap_or_default(), issuers };
    }
}

impl Snapshot {
    /// The policy, with the packets that each list decided according to `counters`.
    pub(super) fn policy(&self, counters: Option<&Counters>) -> Option<PolicyStatus> {
        let mut policy = self.policy.clone()?;
        if let Some(counters) = counters {
            for (list, source) in policy.lists.iter_mut().zip(&self.sources) {
                list.packets = counters.source(*source).packets;
            }
        }
        Some(policy)
    }

    /// The issuers.
    pub(super) fn issuers(&self) -> Vec<IssuerStatus> {
        self.issuers.clone()
    }
}
