//! Puts edited lists and keys in force while the daemon runs.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::accept::{self, Accept, AcceptHandle};
use super::card::CardHandle;
use super::generations::Generations;
use super::lists::Keeper;
use super::state::{Refreshed, State};
use super::watch::FolderWatch;
use crate::admin::lists::Accepted;
use crate::admin::status::{IssuerStatus, PolicyStatus};
use crate::config::Config;
use crate::edge::Gate;
use crate::nic::Counters;
use crate::policy::Generation;

/// The task that waits for changes and puts them in force.
#[derive(Debug)]
pub(super) struct Reloader<P> {
    config: Config,
    state: State,
    generations: Arc<Generations>,
    gate: Arc<Gate>,
    publisher: P,
    /// A generation that is not in force yet.
    pending: bool,
    watch: FolderWatch,
    health: Health,
    /// Where last good content goes; `None` when nothing is kept.
    keeper: Option<Keeper>,
    orders: mpsc::Receiver<Accept>,
    handle: AcceptHandle,
}

/// Puts a generation in force before the gateway judges by it.
pub(super) trait Publisher: Send {
    /// Puts `generation` in force, or says why it could not.
    fn publish(&self, generation: Arc<Generation>) -> impl Future<Output = Result<(), String>> + Send;
}

/// The card first, where there is one.
#[derive(Debug)]
pub(super) struct Publication {
    /// The card.
    pub card: Option<CardHandle>,
    /// Where the generation is known to be in force.
    pub generations: Arc<Generations>,
}

impl Publisher for Publication {
    async fn publish(&self, generation: Arc<Generation>) -> Result<(), String> {
        match &self.card {
            None => {
                self.generations.advance(generation);
                Ok(())
            }
            Some(card) => match card.publish(generation).await {
                Some(published) => published.map_err(|error| error.to_string()),
                None => Err("the daemon is stopping".to_owned()),
            },
        }
    }
}

impl<P: Publisher> Reloader<P> {
    /// A task that keeps `gate` and what `publisher` serves at what the files of `config` say, starting from
    /// `state`.
    pub(super) fn new(
        config: Config,
        state: State,
        generations: Arc<Generations>,
        gate: Arc<Gate>,
        publisher: P,
    ) -> notify::Result<Self> {
        let mut watch = FolderWatch::new()?;
        watch.set(State::folders(&config));
        let health = Health::default();
        health.set(&config, &state, &generations.current(), None);
        let (handle, orders) = accept::orders();
        let (pending, keeper) = (false, None);
        Ok(Self {
            config,
            state,
            generations,
            gate,
            publisher,
            pending,
            watch,
            health,
            keeper,
            orders,
            handle,
        })
    }

    /// The same, which gives what is in force to `keeper`.
    #[must_use]
    pub(super) fn keeping(mut self, keeper: Option<Keeper>) -> Self {
        self.keeper = keeper;
        self
    }

    /// Gives orders to this task.
    pub(super) fn handle(&self) -> AcceptHandle {
        self.handle.clone()
    }

    /// What is in force, for `gatehouse status`.
    pub(super) fn health(&self) -> Health {
        self.health.clone()
    }

    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        // Looked at once at the start: a file may have changed while the daemon was starting.
        self.refresh().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.watch.changed() => self.refresh().await,
                Some(Accept { list, reply }) = self.orders.recv() => {
                    // Whoever asked may have given up; the order is carried out all the same.
                    let _ = reply.send(self.accept(&list).await);
                    // The order may have come in the middle of a change.
                    self.refresh().await;
                }
            }
        }
        // What waits to be written to disk is still written.
        tokio::task::block_in_place(|| drop(self.keeper.take()));
    }

    async fn refresh(&mut self) {
        let (config, state) = (&self.config, &mut self.state);
        // Reading and compiling a long list takes its time; the other tasks of this thread move on.
        let refreshed = tokio::task::block_in_place(|| state.refresh(config));
        self.put_in_force(refreshed).await;
    }

    async fn accept(&mut self, list: &str) -> Result<Accepted, String> {
        let (config, state) = (&self.config, &mut self.state);
        let (accepted, refreshed) = tokio::task::block_in_place(|| state.accept(config, list))?;
        log::warn!("{}: accepted by the operator, with {} entries", accepted.list, accepted.entries);
        self.put_in_force(refreshed).await;
        match self.health.read().policy.and_then(|policy| policy.error) {
            Some(error) => Err(format!("{} is accepted, but not in force: {error}", accepted.list)),
            None => Ok(accepted),
        }
    }

    async fn put_in_force(&mut self, refreshed: Refreshed) {
        super::say(&refreshed.diagnostics);
        if refreshed.unfinished {
            self.watch.soon();
        }
        self.pending |= refreshed.policy;
        let failure = if self.pending { self.publish().await.err() } else { None };
        let published = self.pending && failure.is_none();
        self.pending &= !published;
        // The gateway follows the card, so that both always judge by the same policy.
        if published || refreshed.keys {
            self.gate.swap(self.state.snapshot(&self.config, self.generations.current()));
        }
        if refreshed.keys {
            log::info!("keys were read anew");
        }
        self.health.set(&self.config, &self.state, &self.generations.current(), failure);
        if let Some(keeper) = self.keeper.as_ref().filter(|_| !self.pending && !self.state.is_faulty()) {
            keeper.keep(self.state.keep());
        }
    }

    async fn publish(&self) -> Result<(), String> {
        let generation = self.state.generation();
        let (number, entries) = (generation.number(), generation.entries());
        self.publisher.publish(generation).await.map_err(|error| {
            log::error!("generation {number} cannot be put in force, the last one stays, and it is tried again: {error}");
            format!("generation {number} cannot be put in force: {error}")
        })?;
        log::info!("generation {number} is in force: {entries} prefixes");
        Ok(())
    }
}

/// What is in force. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<Mutex<Snapshot>>);

/// One look at what is in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    policy: Option<PolicyStatus>,
    generation: Option<Arc<Generation>>,
    sources: Vec<u16>,
    issuers: Vec<IssuerStatus>,
}

impl Health {
    /// What is in force now.
    pub(super) fn read(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, config: &Config, state: &State, in_force: &Arc<Generation>, failure: Option<String>) {
        let (mut policy, sources) = state.policy_status(config, in_force).unzip();
        if let Some(policy) = &mut policy {
            policy.error = failure.or(policy.error.take());
        }
        let issuers = state.keys().status(config);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Snapshot {
            policy,
            generation: Some(Arc::clone(in_force)),
            sources: sources.unwrap_or_default(),
            issuers,
        };
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

    /// For each list of the policy, how many of its entries change no verdict.
    pub(super) fn overlaps(&self) -> Vec<usize> {
        self.generation.as_ref().map_or_else(Vec::new, |generation| generation.overlaps())
    }

    /// The issuers.
    pub(super) fn issuers(&self) -> Vec<IssuerStatus> {
        self.issuers.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::SystemTime;

    use super::super::keys::Missing;
    use super::super::lists::Copies;
    use super::*;
    use crate::audit::{AuditSink, Entry};
    use crate::config::Limits;
    use crate::edge::Sources;

    struct Nowhere;

    impl AuditSink for Nowhere {
        fn record(&self, _: Entry) {}
    }

    /// A card that takes a generation only when told to.
    struct Moody {
        takes: AtomicBool,
        generations: Arc<Generations>,
    }

    impl Publisher for &Moody {
        async fn publish(&self, generation: Arc<Generation>) -> Result<(), String> {
            if !self.takes.load(Ordering::Relaxed) {
                return Err("no memory".to_owned());
            }
            self.generations.advance(generation);
            Ok(())
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_policy_that_the_card_does_not_take_changes_nothing_and_is_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("deny.list");
        std::fs::write(&list, "192.0.2.0/24\n").expect("written");
        let text = "[firewall]\nmode = \"off\"\nprotect = []\ndeny = [\"deny.list\"]\n";
        let config = crate::config::parse(&folder.path().join("g.toml"), text).expect("valid").0;
        let copies = Copies::open(folder.path()).expect("a folder");
        let kept = || std::fs::read_dir(folder.path().join("lists")).expect("readable").count();
        let state = State::load(&config, Missing::Leave, Some(&copies)).expect("valid").0;
        let generations = Arc::new(Generations::new(state.generation()));
        let snapshot = state.snapshot(&config, state.generation());
        let sources = Sources { now: SystemTime::now, random: || [0; 10] };
        let gate = Arc::new(Gate::new(snapshot, Limits::default(), Arc::new(Nowhere), sources));
        let card = Moody { takes: AtomicBool::new(false), generations: Arc::clone(&generations) };
        let mut reloader = Reloader::new(config, state, Arc::clone(&generations), Arc::clone(&gate), &card)
            .expect("a watch")
            .keeping(Some(Keeper::start(copies.clone()).expect("a thread")));
        let newly_denied = "198.51.100.7".parse().expect("an address");

        std::fs::write(&list, "192.0.2.0/24\n198.51.100.0/24\n").expect("written");
        reloader.refresh().await;
        assert!(gate.snapshot().admit(newly_denied).is_ok(), "the gateway does not run ahead of the card");
        let status = reloader.health().read().policy(None).expect("a policy");
        assert_eq!(status.generation, 1);
        assert!(status.error.is_some_and(|error| error.contains("no memory")));

        reloader.keeper.take();
        assert_eq!(kept(), 0, "what is not in force is no last good content");
        reloader.keeper = Some(Keeper::start(copies.clone()).expect("a thread"));

        card.takes.store(true, Ordering::Relaxed);
        reloader.refresh().await;
        assert!(gate.snapshot().admit(newly_denied).is_err());
        let status = reloader.health().read().policy(None).expect("a policy");
        assert_eq!((status.generation, status.error), (2, None));
        reloader.keeper.take();
        assert_eq!(kept(), 1);
    }
}
