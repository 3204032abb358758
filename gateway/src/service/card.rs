//! The task that owns the network card: publishes generations, adds up the counters, and brings what
//! the card dropped into the audit trail.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::generations::Generations;
use super::recent::Recent;
use super::totals::{Epoch, Totals, TotalsFile};
use crate::audit::{AuditSink, Dropped, Entry};
use crate::config::Mode;
use crate::nic::{Attachment, Card, ClientDrop, NicError, Reports};
use crate::policy::Generation;

/// Orders to the card that wait; each waits for its answer, so few suffice.
const ORDERS: usize = 8;

/// How often to look whether the interfaces are still guarded, and to read the counters.
const ROUND: Duration = Duration::from_secs(1);

/// After how many rounds the totals are kept for the next daemon: what a daemon that is killed loses.
const KEPT_EVERY: u32 = 10;

enum Order {
    Publish(Arc<Generation>, oneshot::Sender<Result<(), NicError>>),
    Totals(oneshot::Sender<Totals>),
}

/// Gives orders to the card. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct CardHandle {
    orders: mpsc::Sender<Order>,
    guards: Arc<ArcSwap<Vec<Guard>>>,
}

/// An interface of the configuration, and whether it is guarded.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// Its name.
    pub interface: String,
    /// Where the program runs, or ran last; `None` when the interface has not appeared yet.
    pub attachment: Option<Attachment>,
    /// Why it does not run there now.
    pub lost: Option<String>,
}

impl CardHandle {
    /// The interfaces, in the order of the configuration.
    pub(super) fn guards(&self) -> Arc<Vec<Guard>> {
        self.guards.load_full()
    }

    /// Puts `generation` in force at the card, and then among the generations; `None` when the daemon is stopping.
    pub(super) async fn publish(&self, generation: Arc<Generation>) -> Option<Result<(), NicError>> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Publish(generation, reply)).await.ok()?;
        answer.await.ok()
    }

    /// What the card has counted since anybody remembers; `None` when the daemon is stopping.
    pub(super) async fn totals(&self) -> Option<Totals> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Totals(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// The task that owns the card.
pub(super) struct CardTask {
    card: Card,
    orders: mpsc::Receiver<Order>,
    mode: Mode,
    guards: Arc<ArcSwap<Vec<Guard>>>,
    generations: Arc<Generations>,
    recent: Recent,
    trail: Arc<dyn AuditSink>,
    counts: Counts,
}

/// What is counted, and where it is kept.
struct Counts {
    totals: Totals,
    epoch: Option<Epoch>,
    file: Option<TotalsFile>,
    rounds: u32,
    /// As they were kept.
    kept: Totals,
}

impl CardTask {
    /// A task for `card`, which is attached as `guards` and `mode` say, and the handle to it. Totals go
    /// on from those in `file`.
    pub(super) fn new(
        card: Card,
        guards: Vec<Guard>,
        mode: Mode,
        generations: Arc<Generations>,
        recent: Recent,
        trail: Arc<dyn AuditSink>,
        file: Option<TotalsFile>,
    ) -> (Self, CardHandle) {
        let (sender, orders) = mpsc::channel(ORDERS);
        let guards = Arc::new(ArcSwap::from_pointee(guards));
        let handle = CardHandle { orders: sender, guards: Arc::clone(&guards) };
        let counts = Counts::go_on(&card, file);
        let mut task = Self { card, orders, mode, guards, generations, recent, trail, counts };
        task.count();
        (task, handle)
    }

    /// Runs until `stop`, then detaches the card, or leaves it in force where it is pinned.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(ROUND);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = rounds.tick() => {
                    self.make_round();
                    self.count();
                    self.counts.keep_now_and_then();
                }
                Some(order) = self.orders.recv() => self.obey(order),
                reports = self.card.next_reports() => match reports {
                    Ok(reports) => {
                        reports.clients.iter().for_each(|client| self.recent.note(client.client));
                        report(reports, &self.guards.load(), &self.generations, &*self.trail);
                    }
                    Err(error) => {
                        log::error!("drops at the card cannot be read, they go on unreported: {error}");
                        // Not at full speed, should it happen again at once.
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                },
            }
        }
        self.count();
        self.counts.keep();
        let Self { card, guards, generations, trail, .. } = self;
        if let Some(pins) = card.pins() {
            log::info!(
                "the firewall stays in force without the daemon, pinned in {}: `gatehouse detach` \
                 removes it",
                pins.folder().display()
            );
        }
        match card.finish() {
            Ok(reports) => report(reports, &guards.load(), &generations, &*trail),
            Err(error) => log::error!("the last drops at the card cannot be read: {error}"),
        }
    }

    /// Looks whether every interface is still guarded, and guards again one that came back.
    fn make_round(&mut self) {
        let before = self.guards.load_full();
        let after: Vec<Guard> = before.iter().map(|guard| self.look_after(guard)).collect();
        let same = before
            .iter()
            .zip(&after)
            .all(|(old, new)| old.attachment == new.attachment && old.lost == new.lost);
        if !same {
            self.guards.store(Arc::new(after));
        }
    }

    fn look_after(&mut self, guard: &Guard) -> Guard {
        let interface = &guard.interface;
        let lost = match self.card.guards(interface) {
            Ok(true) => return Guard { lost: None, ..guard.clone() },
            Ok(false) => match self.card.attach(interface, self.mode) {
                Ok(attachment) => {
                    let again = if guard.attachment.is_some() { " again" } else { "" };
                    log::warn!(
                        "attached to {interface}{again}, in {} mode: it was not guarded",
                        attachment.mode
                    );
                    return Guard { attachment: Some(attachment), lost: None, ..guard.clone() };
                }
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        // Said once.
        if guard.lost.as_ref() != Some(&lost) {
            log::error!("{interface} is NOT guarded: {lost}");
        }
        Guard { lost: Some(lost), ..guard.clone() }
    }

    fn obey(&mut self, order: Order) {
        // Whoever asked may have given up; the order is carried out all the same.
        match order {
            Order::Publish(generation, reply) => {
                // What was counted until now is of the lists that are in force until now.
                self.count();
                // The kernel waits until no packet uses the last generation any more.
                let card = &mut self.card;
                let published = tokio::task::block_in_place(|| {
                    card.remember(generation.sources())?;
                    card.publish(generation.blocks(), generation.number())
                });
                // Known before the next reports are read, so that they can be explained.
                if published.is_ok() {
                    self.generations.advance(generation);
                }
                let _ = reply.send(published);
            }
            Order::Totals(reply) => {
                self.count();
                let _ = reply.send(self.counts.totals.clone());
            }
        }
    }

    /// Adds up what the card has counted.
    fn count(&mut self) {
        let (current, guards) = (self.generations.current(), self.guards.load());
        let attached = || guards.iter().filter_map(|guard| guard.attachment.as_ref());
        let totals = &mut self.counts.totals;
        let source = current.sources().map(|(index, _)| index).max().unwrap_or(0).max(totals.last_source());
        let interface = attached().map(|attachment| attachment.index).max().unwrap_or(0);
        let counters = match (&self.counts.epoch, self.card.counters_up_to(source, interface)) {
            (Some(_), Ok(counters)) => counters,
            (None, Ok(_)) => return totals.fail(),
            (_, Err(error)) => {
                // Said once.
                if !totals.stale {
                    log::error!("the counters of the card cannot be read, the last ones stay: {error}");
                }
                return totals.fail();
            }
        };
        let Some(epoch) = &self.counts.epoch else { return };
        let interfaces = attached().map(|attachment| (attachment.index, attachment.interface.as_str()));
        totals.observe(epoch, &counters, current.sources(), interfaces);
    }
}

impl Counts {
    fn go_on(card: &Card, file: Option<TotalsFile>) -> Self {
        let totals = file.as_ref().map(TotalsFile::read).transpose().unwrap_or_else(|error| {
            let path = file.as_ref().map_or_else(String::new, |file| file.path().display().to_string());
            log::warn!("{path} cannot be read ({error}): packets are counted from what the card says now");
            None
        });
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let table = card.counters_table();
        let epoch = table.map(|table| Epoch { boot: boot.trim().to_owned(), table });
        let epoch = epoch.inspect_err(|error| log::error!("{error}")).ok();
        let totals = totals.unwrap_or_default();
        Self { kept: totals.clone(), totals, epoch, file, rounds: 0 }
    }

    fn keep_now_and_then(&mut self) {
        self.rounds += 1;
        if self.rounds >= KEPT_EVERY {
            self.rounds = 0;
            self.keep();
        }
    }

    fn keep(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.kept != self.totals) else { return };
        let written = tokio::task::block_in_place(|| file.write(&self.totals));
        if let Err(error) = written {
            log::error!(
                "{} cannot be written, counters start anew after a restart: {error}",
                file.path().display()
            );
        }
        self.kept.clone_from(&self.totals);
    }
}

fn report(reports: Reports, guards: &[Guard], generations: &Generations, trail: &dyn AuditSink) {
    for client in &reports.clients {
        trail.record(entry(client, guards, generations));
    }
    if reports.unreported_packets > 0 {
        trail.record(Entry::DroppedUnreported {
            reports: reports.unreported_clients,
            packets: reports.unreported_packets,
        });
    }
}

fn entry(client: &ClientDrop, guards: &[Guard], generations: &Generations) -> Entry {
    let mut attachments = guards.iter().filter_map(|guard| guard.attachment.as_ref());
    let attachment = attachments.find(|attachment| attachment.index == client.interface);
    let kind = if client.decision.is_drop() { Entry::Dropped } else { Entry::ObservedAtCard };
    kind(Dropped {
        client: client.client,
        rule: generations.explain(client.generation, client.client),
        packets: client.packets,
        interface: attachment.map_or_else(|| client.interface.to_string(), |found| found.interface.clone()),
        sample: client.sample,
    })
}
