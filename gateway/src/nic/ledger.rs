//! Who has been reported with how many packets. Pure: the clock and the slots are passed in.
//!
//! Clients of observed lists are reported in the same way, with a decision that says so.
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

    /// Observed packets are not dropped ones: the counters of their list have them.
    fn leave_out(&mut self, slot: &Slot, packets: u64) {
        if Decision::from_bits(slot.decision).is_drop() {
            self.leave_out_drops(packets);
        }
    }

    fn leave_out_drops(&mut self, packets: u64) {
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
                _ => reports.leave_out(&event.evicted, rest),
            }
        }
        let count = Count(event.taken.count);
        let Some(client) = client(&event.taken, count.packets()) else {
            reports.leave_out(&event.taken, count.packets());
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
                } else if grown.decision.is_drop() {
                    reports.leave_out_drops(grown.packets);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Client `n` in a slot, with this count.
    fn slot(n: u64, count: Count) -> Slot {
        Slot { count: count.0, low: n, family: 4, decision: 0x8001, generation: 7, ..Slot::default() }
    }

    fn count(tenancy: u64, packets: u64) -> Count {
        Count(tenancy << 48 | packets)
    }

    fn first(index: u32, n: u64) -> Takeover {
        Takeover { index, padding: 0, evicted: Slot::default(), taken: slot(n, count(1, 1)) }
    }

    fn packets(reports: &Reports) -> Vec<u64> {
        reports.clients.iter().map(|client| client.packets).collect()
    }

    #[test]
    fn a_client_is_told_at_once_and_its_growth_after_pauses_that_double() {
        let start = Instant::now();
        let mut ledger = Ledger::new(10, start);
        let mut reports = Reports::default();
        ledger.take_over(&first(3, 9), start, &mut reports);
        assert_eq!(reports.clients[0].client, IpAddr::from(Ipv4Addr::new(0, 0, 0, 9)));
        assert_eq!(packets(&reports), [1]);
        let mut told = Vec::new();
        for quarter in 0..64u64 {
            let now = start + Duration::from_millis(250 * quarter);
            let mut reports = Reports::default();
            ledger.sweep(|_| Some((8, count(1, 2 + quarter))), now, &mut reports);
            if let [client] = reports.clients.as_slice() {
                assert_eq!(client.generation, 8, "the generation that decided last");
                told.push((quarter, client.packets));
            }
        }
        assert_eq!(told, [(0, 1), (4, 4), (12, 8), (28, 16), (60, 32)]);
    }

    #[test]
    fn a_client_that_comes_back_after_a_rest_is_told_at_once() {
        let start = Instant::now();
        let mut ledger = Ledger::new(10, start);
        let mut reports = Reports::default();
        ledger.take_over(&first(3, 9), start, &mut reports);
        for (second, value) in [(1, 2), (2, 3), (20, 3), (21, 4), (22, 5)] {
            let now = start + Duration::from_secs(second);
            ledger.sweep(|_| Some((7, count(1, value))), now, &mut reports);
        }
        assert_eq!(packets(&reports), [1, 1, 1, 1, 1]);
    }

    #[test]
    fn who_moves_out_is_told_with_the_rest_of_his_count() {
        let now = Instant::now();
        let mut ledger = Ledger::new(10, now);
        let mut reports = Reports::default();
        ledger.take_over(&first(3, 9), now, &mut reports);
        let event =
            Takeover { index: 3, padding: 0, evicted: slot(9, count(1, 100)), taken: slot(10, count(2, 1)) };
        ledger.take_over(&event, now, &mut reports);
        assert_eq!(packets(&reports), [1, 99, 1]);
    }

    #[test]
    fn a_slot_whose_takeover_is_still_to_come_is_not_read() {
        let now = Instant::now();
        let mut ledger = Ledger::new(10, now);
        let mut reports = Reports::default();
        ledger.take_over(&first(3, 9), now, &mut reports);
        ledger.sweep(|_| Some((7, count(2, 50))), now, &mut reports);
        assert_eq!(packets(&reports), [1]);
    }

    #[test]
    fn above_the_budget_growth_waits_and_newcomers_are_told_later() {
        let start = Instant::now();
        let mut ledger = Ledger::new(2, start);
        let mut reports = Reports::default();
        for n in 0..5 {
            ledger.take_over(&first(n, u64::from(n)), start, &mut reports);
        }
        assert_eq!((reports.clients.len(), reports.unreported_packets), (2, 0));
        for second in 1..=2 {
            ledger.sweep(|_| Some((7, count(1, 1))), start + Duration::from_secs(second), &mut reports);
        }
        assert_eq!(packets(&reports), [1; 5]);
    }

    proptest! {
        /// Drops of some clients in few slots, sweeps, and pauses: at the end the reports have
        /// told every packet exactly once.
        #[test]
        fn reports_add_up_to_drops(
            budget in 0u32..20,
            steps in prop::collection::vec((0u64..12, 0u32..4, 0u64..700), 0..300),
        ) {
            let mut now = Instant::now();
            let mut ledger = Ledger::new(budget, now);
            let mut slots = [Slot::default(); 4];
            let mut reports = Reports::default();
            let mut drops = 0;
            for (n, index, pause) in steps {
                now += Duration::from_millis(pause);
                let tenant = &mut slots[index as usize];
                if n == 0 {
                    let read = |index: u32| Some((7, Count(slots[index as usize].count)));
                    ledger.sweep(read, now, &mut reports);
                    continue;
                }
                drops += 1;
                if tenant.low == n {
                    tenant.count += 1;
                } else {
                    let taken = slot(n, Count(tenant.count).next_tenant());
                    let event = Takeover { index, padding: 0, evicted: *tenant, taken };
                    *tenant = taken;
                    ledger.take_over(&event, now, &mut reports);
                }
            }
            ledger.close(|index| Some((7, Count(slots[index as usize].count))), now, &mut reports);
            let told: u64 = packets(&reports).iter().sum();
            prop_assert_eq!(told + reports.unreported_packets, drops);
        }
    }
}
