//! The task that owns the network card: publishes generations, answers for the counters, and
//! brings what the card dropped into the audit trail.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::generations::Generations;
use crate::audit::{AuditSink, Dropped, Entry, Trail};
use crate::nic::{Attachment, Card, ClientDrop, Counters, NicError, Reports};
use crate::policy::Generation;

/// Orders to the card that wait; each waits for its answer, so few suffice.
const ORDERS: usize = 8;

enum Order {
    Publish(Arc<Generation>, oneshot::Sender<Result<(), NicError>>),
    Counters(oneshot::Sender<Result<Counters, NicError>>),
}

/// Gives orders to the card. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct CardHandle {
    orders: mpsc::Sender<Order>,
    attachments: Arc<[Attachment]>,
}

impl CardHandle {
    /// Where the program is attached, and how.
    pub(super) fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// Puts `generation` in force at the card, and then among the generations; `None` when the daemon is stopping.
    pub(super) async fn publish(&self, generation: Arc<Generation>) -> Option<Result<(), NicError>> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Publish(generation, reply)).await.ok()?;
        answer.await.ok()
    }

    /// What the card counted; `None` when the daemon is stopping.
    pub(super) async fn counters(&self) -> Option<Result<Counters, NicError>> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Counters(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// The task that owns the card.
pub(super) struct CardTask {
    card: Card,
    orders: mpsc::Receiver<Order>,
    attachments: Arc<[Attachment]>,
    generations: Arc<Generations>,
    trail: Trail,
}

impl CardTask {
    /// A task for `card`, which is attached at `attachments`, and the handle to it.
    pub(super) fn new(
        card: Card,
        attachments: Vec<Attachment>,
        generations: Arc<Generations>,
        trail: Trail,
    ) -> (Self, CardHandle) {
        let (sender, orders) = mpsc::channel(ORDERS);
        let attachments: Arc<[Attachment]> = attachments.into();
        let handle = CardHandle { orders: sender, attachments: Arc::clone(&attachments) };
        (Self { card, orders, attachments, generations, trail }, handle)
    }

    /// Runs until `stop`, then detaches the card.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(order) = self.orders.recv() => self.obey(order),
                reports = self.card.next_reports() => match reports {
                    Ok(reports) => report(reports, &self.attachments, &self.generations, &self.trail),
                    Err(error) => {
                        log::error!("drops at the card cannot be read, they go on unreported: {error}");
                        // Not at full speed, should it happen again at once.
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                },
            }
        }
        let Self { card, attachments, generations, trail, .. } = self;
        match card.finish() {
            Ok(reports) => report(reports, &attachments, &generations, &trail),
            Err(error) => log::error!("the last drops at the card cannot be read: {error}"),
        }
    }

    fn obey(&mut self, order: Order) {
        // Whoever asked may have given up; the order is carried out all the same.
        match order {
            Order::Publish(generation, reply) => {
                // The kernel waits until no packet uses the last generation any more.
                let card = &mut self.card;
                let published =
                    tokio::task::block_in_place(|| card.publish(generation.blocks(), generation.number()));
                // Known before the next reports are read, so that they can be explained.
                if published.is_ok() {
                    self.generations.advance(generation);
                }
                let _ = reply.send(published);
            }
            Order::Counters(reply) => {
                let _ = reply.send(self.card.counters());
            }
        }
    }
}

fn report(reports: Reports, attachments: &[Attachment], generations: &Generations, trail: &Trail) {
    for client in &reports.clients {
        trail.record(entry(client, attachments, generations));
    }
    if reports.unreported_packets > 0 {
        trail.record(Entry::DroppedUnreported {
            reports: reports.unreported_clients,
            packets: reports.unreported_packets,
        });
    }
}

fn entry(client: &ClientDrop, attachments: &[Attachment], generations: &Generations) -> Entry {
    let attachment = attachments.iter().find(|attachment| attachment.index == client.interface);
    Entry::Dropped(Dropped {
        client: client.client,
        rule: generations.explain(client.generation, client.client),
        packets: client.packets,
        interface: attachment.map_or_else(|| client.interface.to_string(), |found| found.interface.clone()),
        sample: client.sample,
    })
}
