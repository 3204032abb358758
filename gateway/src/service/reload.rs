//! Puts edited lists and keys in force while the daemon runs.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::accept::{self, Accept, AcceptHandle};
use super::apply::{self, ApplyHandle, Asked};
use super::bans::{self, BansHandle};
use super::card::CardHandle;
use super::generations::Generations;
use super::listeners::Listeners;
use super::lists::Keeper;
use super::recent::Recent;
use super::reconfigure::Following;
use super::state::{Refreshed, State};
use super::totals::Totals;
use super::trial::{self, Trial, Waiting, out_of_time};
use super::watch::FolderWatch;
use crate::admin::lists::Accepted;
use crate::admin::status::{IssuerStatus, ListenerStatus, PolicyStatus};
use crate::config::Config;
use crate::edge::Gate;
use crate::nic::Verdicts;
use crate::policy::{Generation, Source, Tier};

/// The task that waits for changes and puts them in force.
#[derive(Debug)]
pub(super) struct Reloader<P> {
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) generations: Arc<Generations>,
    pub(super) gate: Arc<Gate>,
    publisher: P,
    /// A generation that is not in force yet.
    pub(super) pending: bool,
    /// The policy in force is to go again unless it is confirmed.
    pub(super) trial: Option<Trial>,
    pub(super) waiting: Waiting,
    /// Clients that the card reported lately.
    pub(super) recent: Recent,
    watch: FolderWatch,
    health: Health,
    handle: ApplyHandle,
    orders: mpsc::Receiver<Asked>,
    /// Where last good content goes; `None` when nothing is kept.
    keeper: Option<Keeper>,
    accept: AcceptHandle,
    accepts: mpsc::Receiver<Accept>,
    pub(super) bans: BansHandle,
    ban_orders: mpsc::Receiver<bans::Asked>,
    pub(super) following: Following,
    /// Where clients connect; `None` in tests without clients.
    pub(super) listeners: Option<Listeners>,
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
        health.set(&config, &state, &generations.current(), None, (&Waiting::default(), None));
        let (handle, orders) = apply::orders();
        let (accept, accepts) = accept::orders();
        let (bans, ban_orders) = bans::orders();
        Ok(Self {
            config,
            state,
            generations,
            gate,
            publisher,
            pending: false,
            trial: None,
            waiting: Waiting::default(),
            recent: Recent::default(),
            watch,
            health,
            handle,
            orders,
            keeper: None,
            accept,
            accepts,
            bans,
            ban_orders,
            following: Following::default(),
            listeners: None,
        })
    }

    /// Compares policies by the clients in `recent`, too.
    pub(super) fn knowing(self, recent: Recent) -> Self {
        Self { recent, ..self }
    }

    /// The same, with what clients connect to.
    #[must_use]
    pub(super) fn listening(self, listeners: Listeners) -> Self {
        Self { listeners: Some(listeners), ..self }
    }

    /// The same, which gives what is in force to `keeper`.
    #[must_use]
    pub(super) fn keeping(self, keeper: Option<Keeper>) -> Self {
        Self { keeper, ..self }
    }

    /// Takes the order to put in force what was held back.
    pub(super) fn accept_handle(&self) -> AcceptHandle {
        self.accept.clone()
    }

    /// Takes orders.
    pub(super) fn handle(&self) -> ApplyHandle {
        self.handle.clone()
    }

    /// What is in force, for `gatehouse status`.
    pub(super) fn health(&self) -> Health {
        self.health.clone()
    }

    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        // Before any look: what was in force from the start is kept, be its file broken by now.
        self.keep();
        loop {
            // Looked at once at the start: a file may have changed while the daemon was starting.
            self.refresh().await;
            let mut ban_over = pin!(self.ban_over());
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.watch.changed() => {}
                () = out_of_time(self.trial.as_ref()) => self.revert("it was not confirmed in time").await,
                Some(asked) = self.orders.recv() => self.obey(asked).await,
                () = &mut ban_over => self.end_bans().await,
                Some((order, reply)) = self.ban_orders.recv() => {
                    let _ = reply.send(self.obey_about_bans(order).await);
                }
                Some(Accept { list, reply }) = self.accepts.recv() => {
                    // Whoever asked may have given up; the order is carried out all the same.
                    let _ = reply.send(self.accept(&list).await);
                }
            }
        }
        // What waits to be written to disk is still written.
        tokio::task::block_in_place(|| drop(self.keeper.take()));
    }

    pub(super) async fn refresh(&mut self) {
        // Reading and compiling a long list takes its time; the other tasks of this thread move on.
        let refreshed = if self.edits_wait() {
            tokio::task::block_in_place(|| self.look_at_edits())
        } else {
            let (config, state) = (&self.config, &mut self.state);
            tokio::task::block_in_place(|| state.refresh(config))
        };
        self.follow(refreshed).await;
    }

    /// Puts content of the list `list` in force that was held back.
    async fn accept(&mut self, list: &str) -> Result<Accepted, String> {
        if self.trial.is_some() {
            return Err("a policy is on trial: confirm it or take it back first".to_owned());
        }
        if self.edits_wait() {
            return self.accept_edit(list);
        }
        let (config, state) = (&self.config, &mut self.state);
        let (accepted, refreshed) = tokio::task::block_in_place(|| state.accept(config, list))?;
        log::warn!("{}: accepted by the operator, with {} entries", accepted.list, accepted.entries);
        self.follow(refreshed).await;
        match self.health.read().policy.and_then(|policy| policy.error) {
            Some(error) => Err(format!("{} is accepted, but not in force: {error}", accepted.list)),
            None => Ok(accepted),
        }
    }

    async fn follow(&mut self, refreshed: Refreshed) {
        super::say(&refreshed.diagnostics);
        if refreshed.unfinished {
            self.watch.soon();
        }
        self.pending |= refreshed.policy;
        let (published, failure) = self.publish_pending().await;
        if refreshed.revocations {
            self.gate.judge_again();
            log::info!("revocations were read anew");
        }
        if refreshed.keys {
            if !published {
                self.swap_gate();
            }
            log::info!("keys were read anew");
        }
        if refreshed.certificates {
            if !published && !refreshed.keys {
                self.swap_gate();
            }
            log::info!("certificates were read anew");
        }
        self.tell_health(failure);
        self.keep();
    }

    /// Hands what is in force to the keeper, once it is in force and no longer on trial.
    pub(super) fn keep(&mut self) {
        let certain = !self.pending && self.trial.is_none() && !self.state.is_faulty();
        if let Some(keeper) = self.keeper.as_ref().filter(|_| certain) {
            keeper.keep(self.state.keep());
        }
    }

    /// Puts the newest generation in force if it is not; whether it is now, and else why not.
    pub(super) async fn publish_pending(&mut self) -> (bool, Option<String>) {
        let failure = if self.pending { self.publish().await.err() } else { None };
        let published = self.pending && failure.is_none();
        self.pending &= !published;
        if published {
            self.swap_gate();
            self.say_in_force();
        }
        (published, failure)
    }

    /// The gateway follows the card, so that both always judge by the same policy.
    fn swap_gate(&self) {
        self.gate.swap(self.state.snapshot(&self.config, self.generations.current()));
    }

    /// Once card and gateway judge by it.
    pub(super) fn say_in_force(&self) {
        let generation = self.generations.current();
        log::info!("generation {} is in force: {} prefixes", generation.number(), generation.entries());
    }

    /// The configuration is another one now.
    pub(super) fn follow_config(&mut self, failure: Option<String>) {
        // Before the watch: lists that are fetched get their folder.
        self.following.policy_is(&self.config);
        self.watch.set(State::folders(&self.config));
        self.swap_gate();
        self.tell_health(failure);
    }

    /// Lets `gatehouse status` say what is in force.
    pub(super) fn tell_health(&self, failure: Option<String>) {
        let in_force = self.generations.current();
        let trial = (&self.waiting, self.trial.as_ref());
        self.health.set(&self.config, &self.state, &in_force, failure, trial);
    }

    pub(super) async fn publish(&self) -> Result<(), String> {
        let generation = self.state.generation();
        let number = generation.number();
        self.publisher.publish(generation).await.map_err(|error| {
            log::error!("generation {number} cannot be put in force, the last one stays, and it is tried again: {error}");
            format!("generation {number} cannot be put in force: {error}")
        })?;
        Ok(())
    }
}

/// What is in force. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<Mutex<Snapshot>>, Arc<Mutex<Reads>>);

/// One look at what is in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    policy: Option<PolicyStatus>,
    generation: Option<Arc<Generation>>,
    issuers: Vec<IssuerStatus>,
    listeners: Vec<ListenerStatus>,
    /// When a trial ends.
    trial: Option<Instant>,
}

/// What is in force of the configuration.
#[derive(Clone, Copy, Debug)]
struct Reads {
    /// When it was read.
    read: SystemTime,
    /// How often a newer one was refused.
    refused: u64,
}

impl Default for Reads {
    fn default() -> Self {
        Self { read: SystemTime::now(), refused: 0 }
    }
}

impl Health {
    /// When the configuration in force was read, and how often a newer one was refused since the start.
    pub(super) fn configuration(&self) -> (SystemTime, u64) {
        let Reads { read, refused } = *self.1.lock().unwrap_or_else(PoisonError::into_inner);
        (read, refused)
    }

    /// The configuration was read anew, and is in force or not.
    pub(super) fn configured(&self, in_force: bool) {
        let mut reads = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        if in_force {
            reads.read = SystemTime::now();
        } else {
            reads.refused += 1;
        }
    }

    /// What is in force now.
    pub(super) fn read(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(
        &self,
        config: &Config,
        state: &State,
        in_force: &Arc<Generation>,
        failure: Option<String>,
        (waiting, trial): (&Waiting, Option<&Trial>),
    ) {
        let mut policy = state.policy_status(config, in_force);
        if let Some(policy) = &mut policy {
            policy.error = failure.or(policy.error.take());
            policy.edits_wait = waiting.edits;
            policy.reverted.clone_from(&waiting.reverted);
        }
        let issuers = state.keys().status(config);
        let listeners = state.certificates().status(config);
        let trial = trial.map(|trial| trial.until);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Snapshot { policy, generation: Some(Arc::clone(in_force)), issuers, listeners, trial };
    }
}

impl Snapshot {
    /// The policy, with the packets that each list has decided according to `totals`.
    pub(super) fn policy(&self, totals: Option<&Totals>) -> Option<PolicyStatus> {
        let mut policy = self.policy.clone()?;
        policy.trial_s = self.trial.map(trial::seconds_until);
        for list in &mut policy.lists {
            let Some(totals) = totals else { break };
            let tier = Tier::named(&list.tier).unwrap_or(Tier::Deny);
            let Verdicts { passed, dropped } = totals.source(&Source::list(tier, list.list.as_str().into()));
            (list.packets, list.dropped) = (passed.packets + dropped.packets, dropped.packets);
        }
        Some(policy)
    }

    /// For each list of the policy, how many of its entries change no verdict.
    pub(super) fn overlaps(&self) -> Vec<usize> {
        self.generation.as_ref().map_or_else(Vec::new, |generation| generation.overlaps())
    }

    /// Where clients connect.
    pub(super) fn listeners(&self) -> Vec<ListenerStatus> {
        self.listeners.clone()
    }

    /// The issuers.
    pub(super) fn issuers(&self) -> Vec<IssuerStatus> {
        self.issuers.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

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
