//! Who has been reported with how many packets. Pure: the clock and the slots are passed in.
//!
//! A client is reported when it takes a slot, and again when its count has grown: at first with
//! the next sweep, then after pauses that double while it goes on. What one report did not say, a
//! later one or the count of unreported packets does, so together they add up to all drops.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use gateway_ebpf::clients::{Count, Slot, Takeover};
use gateway_ebpf::generation::Decision;
use gateway_ebpf::transport::Transport;

/// A client that was dropped at the card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientDrop {
    /// The client.
    pub client: IpAddr,
    /// What the generation said about it.
    pub decision: Decision,
    /// Number of the generation that decided last.
    pub generation: u64,
    /// Index of the interface, as in [`super::Attachment::index`].
    pub interface: u32,
    /// Packets dropped since the last report about this client.
    pub packets: u64,
    /// What the first packet was: IP protocol number and destination port, as far as it could be
    /// parsed.
    pub sample: Option<(u8, Option<u16>)>,
}

/// Dropped clients since the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// Those that are reported one by one.
    pub clients: Vec<ClientDrop>,
    /// How many reports were left out, to spare the log.
    pub unreported_clients: u64,
    /// How many packets those reports stood for.
    pub unreported_packets: u64,
}

impl Reports {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.unreported_packets == 0
    }

    fn leave_out(&mut self, packets: u64) {
        self.unreported_clients += 1;
        self.unreported_packets += packets;
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// What is known about the slots.
#[derive(Debug)]
pub(super) struct Ledger {
    /// By index of the slot; there are no more of them than slots.
    tenants: HashMap<u32, Tenant>,
    budget: Budget,
}

#[derive(Debug)]
struct Tenant {
    client: ClientDrop,
    tenancy: u64,
    /// Packets told so far.
    told: u64,
    /// Not to be told again before this.
    quiet_until: Instant,
    pause: Duration,
}

impl Ledger {
    /// A ledger that reports at most `reports_per_second` clients in one second.
    pub(super) fn new(reports_per_second: u32, now: Instant) -> Self {
        Self {
            tenants: HashMap::new(),
            budget: Budget { per_second: reports_per_second, used: 0, second: now },
        }
    }

    /// A slot changed hands.
    pub(super) fn take_over(&mut self, event: &Takeover, now: Instant, reports: &mut Reports) {
        let evicted = Count(event.evicted.count);
        let told = match self.tenants.remove(&event.index) {
            Some(tenant) if tenant.tenancy == evicted.tenancy() => tenant.told,
            _ => 0,
        };
        let rest = evicted.packets().saturating_sub(told);
        if rest > 0 {
            match client(&event.evicted, rest) {
                Some(client) if self.budget.take(now) => reports.clients.push(client),
                _ => reports.leave_out(rest),
            }
        }
        let count = Count(event.taken.count);
        let Some(client) = client(&event.taken, count.packets()) else {
            reports.leave_out(count.packets());
            return;
        };
        let mut tenant =
            Tenant { client, tenancy: count.tenancy(), told: 0, quiet_until: now, pause: FIRST_PAUSE };
        if self.budget.take(now) {
            tenant.told = count.packets();
            reports.clients.push(tenant.client.clone());
        }
        self.tenants.insert(event.index, tenant);
    }

    /// Reports the clients whose count has grown. `read` gives the present generation and count of
    /// a slot.
    pub(super) fn sweep(
        &mut self,
        read: impl Fn(u32) -> Option<(u64, Count)>,
        now: Instant,
        reports: &mut Reports,
    ) {
        for (index, tenant) in &mut self.tenants {
            if tenant.quiet_until > now {
                continue;
            }
            let Some(grown) = tenant.grown(read(*index)) else {
                tenant.pause = FIRST_PAUSE;
                continue;
            };
            if !self.budget.take(now) {
                // What is not told stands in the slot and can wait.
                return;
            }
            tenant.told += grown.packets;
            tenant.quiet_until = now + tenant.pause;
            tenant.pause = (tenant.pause * 2).min(LONGEST_PAUSE);
            reports.clients.push(grown);
        }
    }

    /// Tells everything that is still untold; beyond the budget only its sum.
    pub(super) fn close(
        &mut self,
        read: impl Fn(u32) -> Option<(u64, Count)>,
        now: Instant,
        reports: &mut Reports,
    ) {
        for (index, tenant) in self.tenants.drain() {
            if let Some(grown) = tenant.grown(read(index)) {
                if self.budget.take(now) {
                    reports.clients.push(grown);
                } else {
                    reports.leave_out(grown.packets);
                }
            }
        }
    }
}

impl Tenant {
    /// What has not been told; `None` when there is nothing, or when the slot has changed hands
    /// and the event that says so is still to come.
    fn grown(&self, slot: Option<(u64, Count)>) -> Option<ClientDrop> {
        let (generation, count) = slot?;
        let packets = count.packets().checked_sub(self.told)?;
        (packets > 0 && count.tenancy() == self.tenancy).then(|| ClientDrop {
            packets,
            generation,
            ..self.client.clone()
        })
    }
}

/// The client in a slot; `None` when it never had one.
fn client(slot: &Slot, packets: u64) -> Option<ClientDrop> {
    let client = match slot.family {
        4 => Ipv4Addr::from_bits(u32::try_from(slot.low).ok()?).into(),
        6 => Ipv6Addr::from_bits(u128::from(slot.high) << 64 | u128::from(slot.low)).into(),
        _ => return None,
    };
    Some(ClientDrop {
        client,
        decision: Decision::from_bits(slot.decision),
        generation: slot.generation,
        interface: slot.interface,
        packets,
        sample: match Transport::from_bits(slot.transport) {
            Transport::Malformed | Transport::TooDeep => None,
            Transport::NoPorts { protocol } => Some((protocol, None)),
            Transport::Ports { protocol, destination } => Some((protocol, Some(destination))),
        },
    })
}

/// Reports that may still be made in this second.
#[derive(Debug)]
struct Budget {
    per_second: u32,
    used: u32,
    second: Instant,
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.used = 0;
        }
        let left = self.used < self.per_second;
        self.used += u32::from(left);
        left
    }
}
