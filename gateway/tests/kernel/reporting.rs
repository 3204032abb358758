//! Who was dropped is told.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway::config::Ports;
use gateway::nic::{Card, ClientDrop, Reports, Settings};
use gateway::policy::Tier;

use crate::frames::{IPV4, IPV6, TCP, UDP, ethernet, ipv4, ipv6, segment};
use crate::world::{DENIED, DENIED6, GUARDED, Outcome, block_on, card, of_tier};

/// `count` packets of `source` come in.
fn receive(card: &Card, source: IpAddr, count: u32) -> Outcome {
    let frame = match source {
        IpAddr::V4(source) => ethernet(&[], IPV4, &ipv4(source, TCP, 0, 0, &segment(GUARDED))),
        IpAddr::V6(source) => ethernet(&[], IPV6, &ipv6(source, UDP, 64, &segment(53))),
    };
    // Not by asking for repetitions, for which the kernel patches itself, twenty milliseconds long.
    for _ in 0..count {
        card.rehearse(&frame, frame.len(), 1)?;
    }
    Ok(())
}

pub(crate) fn the_first_drop_of_a_client_is_told_with_all_its_circumstances() -> Outcome {
    let mut card = card(Ports::All, 100)?;
    block_on(async move {
        receive(&card, DENIED.into(), 1)?;
        let v4 = only(card.next_reports().await?)?;
        receive(&card, DENIED6.into(), 1)?;
        let v6 = only(card.next_reports().await?)?;
        assert_eq!((v4.client, v4.packets, v4.generation), (DENIED.into(), 1, 7));
        assert_eq!((v6.client, v6.packets, v6.generation), (DENIED6.into(), 1, 7));
        assert_eq!(v4.sample, Some((TCP, Some(GUARDED))));
        assert_eq!(v6.sample, Some((UDP, Some(53))));
        assert!(v4.decision.is_drop() && v4.decision.source() == 1);
        // The kernel's own test runs on the loopback interface.
        assert_eq!((v4.interface, v6.interface), (1, 1));
        Ok(())
    })?
}

fn only(reports: Reports) -> Result<ClientDrop, String> {
    match reports.clients.as_slice() {
        [client] if reports.unreported_packets == 0 => Ok(client.clone()),
        _ => Err(format!("not one client: {reports:?}")),
    }
}

pub(crate) fn drops_that_follow_are_told_as_growth() -> Outcome {
    let mut card = card(Ports::All, 100)?;
    block_on(async move {
        receive(&card, DENIED.into(), 1)?;
        assert_eq!(only(card.next_reports().await?)?.packets, 1);
        receive(&card, DENIED.into(), 41)?;
        // In more than one piece when the test is moved to another CPU, which has other slots.
        let mut growth = 0;
        while growth < 41 {
            for drop in card.next_reports().await?.clients {
                assert_eq!(drop.client, IpAddr::from(DENIED));
                growth += drop.packets;
            }
        }
        assert_eq!(growth, 41);
        Ok(())
    })?
}

/// Adds up reports by client.
#[derive(Default)]
struct Tally {
    packets: HashMap<IpAddr, u64>,
    unreported: u64,
}

impl Tally {
    fn add(&mut self, reports: Reports) {
        for drop in reports.clients {
            assert!(matches!(drop.sample, Some((TCP | UDP, Some(_)))), "{drop:?}");
            *self.packets.entry(drop.client).or_default() += drop.packets;
        }
        self.unreported += reports.unreported_packets;
    }

    fn total(&self) -> u64 {
        self.packets.values().sum::<u64>() + self.unreported
    }
}

pub(crate) fn all_reports_add_up_to_all_drops() -> Outcome {
    let mut card = card(Ports::All, 1_000_000)?;
    let mut expected = HashMap::new();
    block_on(async move {
        let mut tally = Tally::default();
        // More clients than slots, in several rounds, so that slots change hands again and again.
        for round in 0..3u32 {
            for n in 0..5_000u32 {
                let client = if n % 2 == 0 {
                    IpAddr::from(Ipv4Addr::from_bits(0x0a42_0000 + n))
                } else {
                    let low = Ipv6Addr::from_bits(u128::from(n) * 0x1_0000_0001);
                    IpAddr::from(Ipv6Addr::from_bits(DENIED6.to_bits() + low.to_bits()))
                };
                let packets = 1 + (n + round) % 3;
                receive(&card, client, packets)?;
                *expected.entry(client).or_default() += u64::from(packets);
                if n % 1_000 == 999 {
                    tally.add(card.next_reports().await?);
                }
            }
        }
        let dropped = card.counters()?.dropped;
        tally.add(card.finish()?);
        assert_eq!(tally.total(), dropped);
        assert_eq!(tally.unreported, 0, "nothing was above the budget");
        assert_eq!(tally.packets, expected, "each client has its own count");
        Ok(())
    })?
}

pub(crate) fn a_flood_of_clients_is_told_up_to_the_budget() -> Outcome {
    const BUDGET: u32 = 20;
    let mut card = card(Ports::All, BUDGET)?;
    block_on(async move {
        let start = std::time::Instant::now();
        let mut tally = Tally::default();
        for n in 0..20_000u32 {
            receive(&card, Ipv4Addr::from_bits(0x0a42_0000 + n).into(), 1)?;
        }
        tally.add(card.next_reports().await?);
        tally.add(card.finish()?);
        let seconds = usize::try_from(start.elapsed().as_secs())? + 2;
        assert_eq!(tally.total(), 20_000);
        assert!(!tally.packets.is_empty());
        assert!(tally.packets.len() <= seconds * BUDGET as usize, "{} clients", tally.packets.len());
        Ok(())
    })?
}

pub(crate) fn a_flood_that_is_not_looked_up_is_counted_to_the_packet() -> Outcome {
    const FLOOD: u32 = 200_000;
    let mut card = card(Ports::All, 1)?;
    block_on(async move {
        let mut tally = Tally::default();
        receive(&card, DENIED.into(), 1)?;
        tally.add(card.next_reports().await?);
        let mut sent = 1;
        // Each flood is one run of the kernel, so that thousands come in a tick. There is leave for one
        // client on each CPU, and for one more where this takes seconds.
        for n in 0..6 {
            let source = Ipv4Addr::new(10, 66, 9, n);
            let stranger = ethernet(&[], IPV4, &ipv4(source, TCP, 0, 0, &segment(GUARDED)));
            card.rehearse(&stranger, stranger.len(), FLOOD)?;
            receive(&card, DENIED.into(), 10)?;
            sent += u64::from(FLOOD) + 10;
        }
        // When the flood is over, whoever has an account is counted there again.
        let known = tally.packets.get(&DENIED.into()).copied();
        while tally.packets.get(&DENIED.into()).copied() == known {
            receive(&card, DENIED.into(), 1)?;
            sent += 1;
            tally.add(card.next_reports().await?);
        }
        let dropped = card.counters()?.dropped;
        tally.add(card.finish()?);
        assert_eq!((tally.total(), dropped), (sent, sent));
        assert!(tally.unreported >= 2 * u64::from(FLOOD), "only {} were not told", tally.unreported);
        Ok(())
    })?
}

pub(crate) fn ten_thousand_new_clients_of_one_second_are_told_one_by_one_and_so_is_what_they_go_on_with()
-> Outcome {
    const CLIENTS: u32 = 10_000;
    let mut card = card(Ports::All, CLIENTS)?;
    block_on(async move {
        let mut tally = Tally::default();
        for round in 0..3 {
            for n in 0..CLIENTS {
                receive(&card, Ipv4Addr::from_bits(0x0a42_0000 + n).into(), 1)?;
            }
            // Those of the first round before they go on: nobody is told of twice instead of another.
            while round == 0 && tally.packets.len() < CLIENTS as usize {
                tally.add(card.next_reports().await?);
                assert_eq!(tally.unreported, 0, "{} clients were told", tally.packets.len());
            }
        }
        tally.add(card.finish()?);
        assert_eq!(tally.total(), 3 * u64::from(CLIENTS));
        Ok(())
    })?
}

/// A card whose only list, with [`DENIED`] and [`DENIED6`], is observed.
fn observing(reports_per_second: u32) -> Result<Card, Box<dyn std::error::Error>> {
    let mut card = Card::load(&Settings { ports: Ports::All, reports_per_second })?;
    card.publish(of_tier(Tier::Observe, 7, &["10.66.0.0/16", "fd66::/16"])?.blocks(), 7)?;
    Ok(card)
}

pub(crate) fn an_observed_client_passes_and_is_told_as_observed() -> Outcome {
    let mut card = observing(100)?;
    block_on(async move {
        receive(&card, DENIED.into(), 1)?;
        let told = only(card.next_reports().await?)?;
        assert_eq!((told.client, told.packets, told.generation), (DENIED.into(), 1, 7));
        assert_eq!(told.sample, Some((TCP, Some(GUARDED))));
        assert!(told.decision.is_observed() && !told.decision.is_drop());
        let counters = card.counters()?;
        assert_eq!((counters.dropped, counters.sources[1].passed.packets), (0, 1));
        Ok(())
    })?
}

pub(crate) fn an_observed_flood_is_not_told_as_drops() -> Outcome {
    let mut card = observing(20)?;
    block_on(async move {
        let mut tally = Tally::default();
        for n in 0..5_000u32 {
            receive(&card, Ipv4Addr::from_bits(0x0a42_0000 + n).into(), 1)?;
        }
        let counters = card.counters()?;
        tally.add(card.next_reports().await?);
        tally.add(card.finish()?);
        assert_eq!((counters.dropped, counters.sources[1].passed.packets), (0, 5_000));
        assert!(tally.packets.len() < 5_000, "the budget was not reached");
        assert_eq!(tally.unreported, 0, "nothing was dropped");
        Ok(())
    })?
}
