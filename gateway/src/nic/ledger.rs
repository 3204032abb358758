//! Who has been reported with how many packets. Pure: the clock and the slots are passed in.
//!
//! Clients of observed lists are reported in the same way, with a decision that says so.
//!
//! Each client has an account, whichever slots of whichever CPUs it stands in, one after the other or
//! at the same time. A new client is reported at once, and again when its count has grown: at first
//! with the next sweep, then after pauses that double while it goes on. What one report did not say,
//! a later one or the count of unreported packets does, so together they add up to all drops.
//!
//! New clients have a budget of their own, so that those that go on take nothing from them. Above it
//! they wait, and one that has waited for [`PATIENCE`] is left out and counted, so that what is
//! reported is never old. The growth of a count loses nothing by waiting.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
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

    /// Observed packets are not dropped ones: the counters of their list have them.
    fn leave_out(&mut self, slot: &Slot, packets: u64) {
        self.leave_out_if(Decision::from_bits(slot.decision), packets);
    }

    fn leave_out_if(&mut self, decision: Decision, packets: u64) {
        if decision.is_drop() {
            self.unreported_clients += 1;
            self.unreported_packets += packets;
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// How long a new client may wait for the budget.
const PATIENCE: Duration = Duration::from_secs(1);

/// Accounts at once, some 150 bytes each. Who comes when all are taken is reported without one: at
/// once or not at all.
const ACCOUNTS: usize = 1 << 18;

/// What is known about the slots and the clients.
#[derive(Debug)]
pub(super) struct Ledger {
    /// By index of the slot; there are no more of them than slots.
    tenants: HashMap<u32, Tenant>,
    accounts: HashMap<Key, Account>,
    /// New clients that wait for the budget, and since when: the others are in `due`.
    waiting: VecDeque<(Instant, Key)>,
    /// When to look for growth of which account.
    due: BinaryHeap<Reverse<(Instant, Key)>>,
    news: Budget,
    growth: Budget,
}

/// Whom an account is of: the same client under another decision, or at another interface, is
/// reported apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    client: IpAddr,
    decision: u16,
    interface: u32,
}

impl Key {
    fn of(drop: &ClientDrop) -> Self {
        Self { client: drop.client, decision: drop.decision.bits(), interface: drop.interface }
    }
}

/// Who is in a slot.
#[derive(Debug)]
struct Tenant {
    client: ClientDrop,
    tenancy: u64,
    /// Packets of the tenancy that are in the account.
    counted: u64,
}

/// What is still to be told of a client, in the packets of `client`.
#[derive(Debug)]
struct Account {
    client: ClientDrop,
    /// After the next report.
    pause: Duration,
}

impl Ledger {
    /// A ledger that reports at most `reports_per_second` new clients in one second, and the growth of
    /// half as many.
    pub(super) fn new(reports_per_second: u32, now: Instant) -> Self {
        Self {
            tenants: HashMap::new(),
            accounts: HashMap::new(),
            waiting: VecDeque::new(),
            due: BinaryHeap::new(),
            news: Budget::new(reports_per_second, now),
            growth: Budget::new(reports_per_second.div_ceil(2), now),
        }
    }

    /// A slot changed hands.
    pub(super) fn take_over(&mut self, event: &Takeover, now: Instant, reports: &mut Reports) {
        let evicted = Count(event.evicted.count);
        let counted = match self.tenants.remove(&event.index) {
            Some(tenant) if tenant.tenancy == evicted.tenancy() => tenant.counted,
            _ => 0,
        };
        let rest = evicted.packets().saturating_sub(counted);
        if rest > 0 {
            match client(&event.evicted, rest) {
                Some(client) => self.add(client, now, reports),
                None => reports.leave_out(&event.evicted, rest),
            }
        }
        let count = Count(event.taken.count);
        let Some(client) = client(&event.taken, count.packets()) else {
            reports.leave_out(&event.taken, count.packets());
            return;
        };
        self.add(client.clone(), now, reports);
        self.tenants
            .insert(event.index, Tenant { client, tenancy: count.tenancy(), counted: count.packets() });
    }

    /// Reports the clients whose count has grown. `read` gives the present generation and count of
    /// a slot.
    pub(super) fn sweep(
        &mut self,
        read: impl Fn(u32) -> Option<(u64, Count)>,
        now: Instant,
        reports: &mut Reports,
    ) {
        self.collect(read, now, reports);
        while let Some(&(since, key)) = self.waiting.front() {
            let late = now.saturating_duration_since(since) >= PATIENCE;
            let told = self.news.take(now);
            if !told && !late {
                break;
            }
            self.waiting.pop_front();
            if let Some(account) = self.accounts.get_mut(&key).filter(|_| told) {
                reports.clients.push(account.take());
                self.due.push(Reverse((now, key)));
            } else if let Some(Account { client, .. }) = self.accounts.remove(&key) {
                reports.leave_out_if(client.decision, client.packets);
            }
        }
        while let Some(&Reverse((due, key))) = self.due.peek()
            && due <= now
        {
            let Some(account) = self.accounts.get_mut(&key).filter(|account| account.client.packets > 0)
            else {
                // It is quiet: when it comes back, it is new.
                self.accounts.remove(&key);
                self.due.pop();
                continue;
            };
            if !self.growth.take(now) {
                break;
            }
            reports.clients.push(account.take());
            let pause = account.pause;
            account.pause = (pause * 2).min(LONGEST_PAUSE);
            self.due.pop();
            self.due.push(Reverse((now + pause, key)));
        }
    }

    /// Tells everything that is still untold; beyond the budget only its sum.
    pub(super) fn close(
        &mut self,
        read: impl Fn(u32) -> Option<(u64, Count)>,
        now: Instant,
        reports: &mut Reports,
    ) {
        self.collect(read, now, reports);
        self.tenants.clear();
        self.waiting.clear();
        self.due.clear();
        for (_, Account { client, .. }) in
            self.accounts.drain().filter(|(_, account)| account.client.packets > 0)
        {
            if self.news.take(now) || self.growth.take(now) {
                reports.clients.push(client);
            } else {
                reports.leave_out_if(client.decision, client.packets);
            }
        }
    }

    /// Brings what the slots have counted into the accounts.
    fn collect(&mut self, read: impl Fn(u32) -> Option<(u64, Count)>, now: Instant, reports: &mut Reports) {
        let mut tenants = std::mem::take(&mut self.tenants);
        for (index, tenant) in &mut tenants {
            if let Some(grown) = tenant.grown(read(*index)) {
                tenant.counted += grown.packets;
                self.add(grown, now, reports);
            }
        }
        self.tenants = tenants;
    }

    /// Adds packets to the account of their client; one that has none is reported at once, if the
    /// budget lets it.
    fn add(&mut self, client: ClientDrop, now: Instant, reports: &mut Reports) {
        let key = Key::of(&client);
        if let Some(account) = self.accounts.get_mut(&key) {
            account.client.packets += client.packets;
            account.client.generation = client.generation;
            return;
        }
        let told = self.news.take(now);
        let full = self.accounts.len() >= ACCOUNTS;
        if told {
            reports.clients.push(client.clone());
        } else if full {
            reports.leave_out_if(client.decision, client.packets);
        }
        if full {
            return;
        }
        let packets = if told { 0 } else { client.packets };
        let account = Account { client: ClientDrop { packets, ..client }, pause: FIRST_PAUSE };
        self.accounts.insert(key, account);
        if told {
            self.due.push(Reverse((now, key)));
        } else {
            self.waiting.push_back((now, key));
        }
    }
}

impl Account {
    /// What is to be told; then nothing is.
    fn take(&mut self) -> ClientDrop {
        let client = self.client.clone();
        self.client.packets = 0;
        client
    }
}

impl Tenant {
    /// What is not in the account; `None` when there is nothing, or when the slot has changed hands
    /// and the event that says so is still to come.
    fn grown(&self, slot: Option<(u64, Count)>) -> Option<ClientDrop> {
        let (generation, count) = slot?;
        let packets = count.packets().checked_sub(self.counted)?;
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

/// Reports that may be made: so many in a second, of which those of one second can come at once. Leave
/// comes back evenly, as in [`gateway_ebpf::clients::Reporting::pay`].
#[derive(Debug)]
struct Budget {
    interval: Duration,
    paid_until: Instant,
}

impl Budget {
    fn new(per_second: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or(Duration::MAX);
        Self { interval, paid_until: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let from = self.paid_until.max(now);
        if self.interval == Duration::MAX || from.saturating_duration_since(now) >= Duration::from_secs(1) {
            return false;
        }
        self.paid_until = from + self.interval;
        true
    }
}

#[cfg(test)]
mod tests;
