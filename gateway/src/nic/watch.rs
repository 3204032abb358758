//! The stream of dropped clients.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aya::maps::{MapData, PerCpuArray, RingBuf};
use gateway_ebpf::clients::{Count, EVENTS_SIZE, Reporting, Slot, Takeover};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::ledger::{Ledger, Reports};
use super::memory::Mapping;
use super::wire::{self, Wire};

/// How often the slots are read.
const SWEEP: Duration = Duration::from_millis(250);

/// Events that are read before the caller gets them; the others wait in the ring.
const EVENTS_AT_ONCE: usize = 2048;

/// Words of a slot.
const SLOT_WORDS: usize = size_of::<Slot>() / size_of::<u64>();

/// The dropped clients, as they come.
///
/// A client's first dropped packet is told at once, by an event. The packets after it are only
/// counted in the client's slot, and told when the slots are read. A flood of new clients is
/// bounded twice: each CPU reports so many in a second, and so does this stream; the packets of the
/// others are counted as unreported.
pub(super) struct Watch {
    events: AsyncFd<RingBuf<MapData>>,
    clients: Mapping,
    reporting: PerCpuArray<MapData, Wire<Reporting>>,
    unreported: u64,
    ledger: Ledger,
    sweep: Interval,
}

impl Watch {
    /// Must be called inside a tokio runtime.
    pub(super) fn new(
        events: RingBuf<MapData>,
        clients: Mapping,
        reporting: PerCpuArray<MapData, Wire<Reporting>>,
        reports_per_second: u32,
    ) -> io::Result<Self> {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // SAFETY: the ring owns its descriptor, which stays open and the same.
        let events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE)? };
        Ok(Self {
            events,
            clients,
            reporting,
            unreported: 0,
            ledger: Ledger::new(reports_per_second, Instant::now()),
            sweep,
        })
    }

    /// Waits until there is something to tell; never returns nothing. Nothing is lost when the
    /// future is dropped.
    ///
    /// # Errors
    ///
    /// Only when the kernel refuses to be asked, which does not pass: the caller should say so
    /// and stop.
    pub(super) async fn next(&mut self) -> io::Result<Reports> {
        loop {
            let mut reports = Reports::default();
            let due = tokio::select! {
                ready = self.events.readable_mut() => {
                    let mut ready = ready?;
                    if drain(ready.get_inner_mut(), &mut self.ledger, &mut reports) {
                        ready.clear_ready();
                    }
                    false
                }
                _ = self.sweep.tick() => {
                    // What is told by an event must not be taken for growth.
                    drain(self.events.get_mut(), &mut self.ledger, &mut reports);
                    true
                }
            };
            if due {
                let slots = self.clients.words();
                self.ledger.sweep(|index| read(slots, index), Instant::now(), &mut reports);
                self.add_unreported(&mut reports)?;
            }
            if !reports.is_empty() {
                return Ok(reports);
            }
        }
    }

    /// Everything that has not been told yet, in one piece; for the end, when the program is
    /// detached. With this, all that was told adds up to all packets that were dropped.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub(super) fn finish(&mut self) -> io::Result<Reports> {
        let mut reports = Reports::default();
        // The program is gone, so the ring fills no further, and it holds fewer than this.
        for _ in 0..EVENTS_SIZE / size_of::<Takeover>() {
            if drain(self.events.get_mut(), &mut self.ledger, &mut reports) {
                break;
            }
        }
        let slots = self.clients.words();
        self.ledger.close(|index| read(slots, index), Instant::now(), &mut reports);
        self.add_unreported(&mut reports)?;
        Ok(reports)
    }

    /// Adds what the program could not report: one packet each.
    fn add_unreported(&mut self, reports: &mut Reports) -> io::Result<()> {
        let values = self.reporting.get(&0, 0).map_err(io::Error::other)?;
        let total = values.iter().fold(0u64, |sum, cpu| sum.wrapping_add(cpu.0.unreported));
        let new = total.wrapping_sub(self.unreported);
        self.unreported = total;
        reports.unreported_clients += new;
        reports.unreported_packets += new;
        Ok(())
    }
}

/// Reads events; whether it read all that were there.
fn drain(ring: &mut RingBuf<MapData>, ledger: &mut Ledger, reports: &mut Reports) -> bool {
    let now = Instant::now();
    for _ in 0..EVENTS_AT_ONCE {
        let Some(event) = ring.next() else {
            return true;
        };
        if let Some(event) = wire::read::<Takeover>(&event) {
            ledger.take_over(&event, now, reports);
        }
    }
    false
}

/// Generation and count of a slot. In this order: see the program, which writes them the other way
/// round.
fn read(slots: &[AtomicU64], index: u32) -> Option<(u64, Count)> {
    let at = usize::try_from(index).ok()?.checked_mul(SLOT_WORDS)?;
    let generation = slots.get(at + 1)?.load(Ordering::Acquire);
    Some((generation, Count(slots.get(at)?.load(Ordering::Acquire))))
}
