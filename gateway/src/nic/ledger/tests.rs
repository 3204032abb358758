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
    assert_eq!(packets(&reports), [1, 1]);
    ledger.sweep(|_| Some((7, count(2, 1))), now, &mut reports);
    assert_eq!(packets(&reports), [1, 1, 99]);
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
fn who_comes_back_into_another_slot_is_no_new_client() {
    let start = Instant::now();
    let mut ledger = Ledger::new(1000, start);
    let mut reports = Reports::default();
    ledger.take_over(&first(3, 9), start, &mut reports);
    for index in 4..50 {
        ledger.take_over(&first(index, 9), start, &mut reports);
    }
    assert_eq!(packets(&reports), [1]);
    ledger.sweep(|_| Some((7, count(1, 1))), start + Duration::from_millis(250), &mut reports);
    assert_eq!(packets(&reports), [1, 46]);
}

#[test]
fn above_the_budget_growth_waits_and_newcomers_are_told_within_a_second_or_counted() {
    let start = Instant::now();
    let mut ledger = Ledger::new(2, start);
    let mut reports = Reports::default();
    for n in 0..8 {
        ledger.take_over(&first(n, u64::from(n)), start, &mut reports);
    }
    assert_eq!((reports.clients.len(), reports.unreported_packets), (2, 0));
    for quarter in 1..=4 {
        let now = start + Duration::from_millis(250 * quarter);
        ledger.sweep(|_| Some((7, count(1, 1))), now, &mut reports);
    }
    assert_eq!(packets(&reports), [1; 4]);
    assert_eq!((reports.unreported_clients, reports.unreported_packets), (4, 4));
    // None of the four is new any more: what they go on with waits for its turn, and is told in full.
    let later = start + Duration::from_secs(60);
    for second in 0..10 {
        ledger.sweep(|_| Some((7, count(1, 5))), later + Duration::from_secs(second), &mut reports);
    }
    let told: u64 = packets(&reports).iter().sum();
    assert_eq!(told + reports.unreported_packets, 8 * 5);
}

#[test]
fn clients_that_go_on_take_nothing_from_new_ones() {
    let start = Instant::now();
    let mut ledger = Ledger::new(100, start);
    let mut reports = Reports::default();
    for n in 0..100 {
        ledger.take_over(&first(n, u64::from(n)), start, &mut reports);
    }
    let later = start + Duration::from_secs(1);
    ledger.sweep(|_| Some((7, count(1, 1000))), later, &mut reports);
    reports = Reports::default();
    for n in 100..200 {
        ledger.take_over(&first(n, u64::from(n)), later, &mut reports);
    }
    assert_eq!(packets(&reports), [1; 100]);
}

#[test]
fn in_a_flood_every_client_has_the_same_chance_whenever_it_comes() {
    // Ten times as many new clients as the budget has room for, one each millisecond.
    let start = Instant::now();
    let mut ledger = Ledger::new(100, start);
    let (mut told, mut all) = ([0; 10], 0);
    for n in 0..20_000u64 {
        let now = start + Duration::from_millis(n);
        let mut reports = Reports::default();
        let index = u32::try_from(n).expect("small");
        ledger.take_over(&first(index, n + 1), now, &mut reports);
        if n % 250 == 0 {
            ledger.sweep(|_| Some((7, count(1, 1))), now, &mut reports);
        }
        // After the first seconds, in which the burst was spent.
        for client in reports.clients.iter().filter(|_| n >= 5000) {
            let IpAddr::V4(address) = client.client else { panic!("IPv4") };
            let came = u64::from(address.to_bits()) - 1;
            told[usize::try_from(came % 1000 / 100).expect("small")] += 1;
            all += 1;
        }
    }
    assert!((1400..=1600).contains(&all), "{all}");
    let even = all / 10;
    assert!(told.iter().all(|&group| group > even / 2 && group < even * 2), "{told:?}");
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
