//! The program in the kernel, the tables in user space, the explanation and the plainest model of
//! a policy agree about every address.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use gateway::config::Ports;
use gateway::nic::{Card, Counters, Settings};
use gateway::policy::{
    CompileLimits, Generation, List, ListEntry, PolicyInput, SourceTable, Tier, Verdict, compile,
};
use gateway_ebpf::counters::Verdicts;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::frames::{IPV4, IPV6, TCP, UDP, ethernet, ipv4, ipv6, segment};
use crate::numbers::Numbers;
use crate::world::Outcome;

const POLICIES: u64 = 64;
const TIERS: [Tier; 5] = [Tier::NeverBlock, Tier::Ban, Tier::Allow, Tier::Deny, Tier::Observe];

/// Where each part of an IPv4 and of an IPv6 key in the tables begins, and their neighbours.
const LENGTHS: [u8; 14] = [8, 12, 16, 17, 18, 19, 20, 24, 25, 28, 30, 31, 32, 32];
const LENGTHS6: [u8; 16] = [16, 17, 29, 32, 48, 56, 63, 64, 65, 78, 79, 80, 96, 127, 128, 128];

pub(crate) fn the_kernel_decides_every_address_as_user_space_explains_it() -> Outcome {
    let mut card = Card::load(&Settings { ports: Ports::All, reports_per_second: 1 })?;
    let mut sources = SourceTable::new(100);
    let mut before = Counters::default();
    let (mut asked, mut dropped) = (0, 0);
    for number in 1..=POLICIES {
        let mut numbers = Numbers::new(number);
        let input = policy(&mut numbers, number);
        let generation = compile(number, &input, &CompileLimits::default(), &mut sources)?;
        card.publish(generation.blocks(), number)?;
        let addresses = addresses(&mut numbers, &input);
        let mut decided: BTreeMap<u16, [u64; 2]> = BTreeMap::new();
        for &address in &addresses {
            let verdict = agree(&card, &input, &generation, address)
                .map_err(|error| format!("policy {number}, {address}: {error}"))?;
            let decision = generation.decide(address);
            decided.entry(decision.source()).or_default()[usize::from(decision.is_drop())] += 1;
            dropped += u64::from(verdict == Verdict::Drop);
        }
        let after = card.counters()?;
        // The list that decided is the one that the kernel counted for.
        for (source, counters) in (0..).zip(&after.sources) {
            let expected = decided.get(&source).copied().unwrap_or_default();
            let base = before.sources.get(usize::from(source)).copied().unwrap_or_default();
            assert_eq!(growth(base, *counters), expected, "policy {number}, source {source}");
        }
        before = after;
        asked += addresses.len() as u64;
    }
    assert!(asked >= 100_000, "only {asked} addresses");
    assert!((asked / 4..asked / 4 * 3).contains(&dropped), "{dropped} of {asked} were dropped");
    Ok(())
}

/// Packets passed and dropped since `before`.
fn growth(before: Verdicts, after: Verdicts) -> [u64; 2] {
    [after.passed.packets - before.passed.packets, after.dropped.packets - before.dropped.packets]
}

/// The verdict on `address`, when everybody says the same.
fn agree(
    card: &Card,
    input: &PolicyInput,
    generation: &Generation,
    address: IpAddr,
) -> Result<Verdict, Box<dyn std::error::Error>> {
    let (tier, list, prefix, verdict) = model(input, address);
    let explained = generation.explain(address);
    let decision = generation.decide(address);
    let source = generation.source(decision.source()).ok_or("the decision names nobody")?;
    assert_eq!((explained.tier, explained.verdict, explained.prefix), (tier, verdict, prefix), "{address}");
    assert_eq!(explained.list.as_deref(), list, "{address}");
    assert_eq!((source.tier, source.list.as_deref()), (tier, list), "{address}");
    assert_eq!(decision.is_drop(), verdict == Verdict::Drop, "{address}");
    let frame = frame(address);
    let (kernel, _) = card.rehearse(&frame, frame.len(), 1)?;
    if kernel != verdict {
        return Err(format!("{kernel:?} in the kernel, and {verdict:?} is {explained:?}").into());
    }
    Ok(verdict)
}

fn frame(source: IpAddr) -> Vec<u8> {
    match source {
        IpAddr::V4(source) => ethernet(&[], IPV4, &ipv4(source, TCP, 0, 0, &segment(443))),
        IpAddr::V6(source) => ethernet(&[], IPV6, &ipv6(source, UDP, 64, &segment(443))),
    }
}

/// Who decides about `address`, entry by entry: the highest tier, in it the longest prefix, of
/// equal ones the first list. An IPv4-mapped address is the IPv4 address.
fn model(input: &PolicyInput, address: IpAddr) -> (Tier, Option<&str>, Option<IpNet>, Verdict) {
    // Where the default drops, observed lists would add nothing and have no say.
    let has_say = |list: &List| list.tier != Tier::Observe || input.default == Verdict::Pass;
    let lists = input.lists.iter().enumerate().filter(|(_, list)| has_say(list));
    let matching = lists.flat_map(|(number, list)| {
        let with_address =
            list.entries.iter().filter(move |entry| entry.prefix.contains(&address.to_canonical()));
        with_address.map(move |entry| (list, number, entry.prefix))
    });
    let winner = matching.min_by_key(|(list, number, prefix)| {
        (TIERS.iter().position(|tier| *tier == list.tier), Reverse(prefix.prefix_len()), *number)
    });
    match winner {
        None => (Tier::Default, None, None, input.default),
        Some((list, _, prefix)) => {
            let passes = matches!(list.tier, Tier::NeverBlock | Tier::Allow | Tier::Observe);
            let verdict = if passes { Verdict::Pass } else { Verdict::Drop };
            (list.tier, Some(&list.name), Some(prefix), verdict)
        }
    }
}

/// A policy of a few lists whose prefixes nest, touch and repeat. The names of the lists change
/// from policy to policy, so indices of sources are given up and given again.
fn policy(numbers: &mut Numbers, number: u64) -> PolicyInput {
    let entries = 1 + numbers.below(60);
    // Few bases, so that prefixes meet.
    let bases = [(); 4].map(|()| numbers.v6());
    let lists = (0..1 + numbers.below(6)).map(|list| {
        let tier =
            numbers.pick(&[Tier::NeverBlock, Tier::Ban, Tier::Allow, Tier::Deny, Tier::Deny, Tier::Observe]);
        let entries = (1..=entries)
            .filter_map(|line| {
                let prefix = prefix(numbers, &bases)?;
                Some(ListEntry { prefix, line: u32::try_from(line).ok()? })
            })
            .collect();
        Arc::new(List { tier, name: format!("list {list} of {}", number % 3).into(), entries })
    });
    let lists = lists.collect();
    let default = numbers.pick(&[Verdict::Pass, Verdict::Drop]);
    PolicyInput { default, lists }
}

fn prefix(numbers: &mut Numbers, bases: &[u128]) -> Option<IpNet> {
    // Only bits near the end of the prefix differ from the base, so that many are neighbours.
    let base = numbers.pick(bases);
    let nudge = u128::from(numbers.below(16));
    if numbers.below(2) == 0 {
        let length = numbers.pick(&LENGTHS);
        let base = u32::try_from(base >> 96).ok()?;
        let bits = base ^ u32::try_from(nudge).ok()? << (32 - length);
        Some(IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(bits), length).ok()?.trunc()))
    } else {
        let length = numbers.pick(&LENGTHS6);
        let bits = (base | 1 << 127) ^ nudge << (128 - length);
        Some(IpNet::V6(Ipv6Net::new(Ipv6Addr::from_bits(bits), length).ok()?.trunc()))
    }
}

/// The first and the last address of every prefix, those beside them, one inside, and some
/// anywhere, none twice.
fn addresses(numbers: &mut Numbers, input: &PolicyInput) -> BTreeSet<IpAddr> {
    let mut all = BTreeSet::new();
    for entry in input.lists.iter().flat_map(|list| &list.entries) {
        match entry.prefix {
            IpNet::V4(prefix) => {
                let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
                let inside = first | numbers.v4() & (last - first);
                let near = [first.wrapping_sub(1), first, inside, last, last.wrapping_add(1)];
                all.extend(near.map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))));
            }
            IpNet::V6(prefix) => {
                let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
                let inside = first | numbers.v6() & (last - first);
                let near = [first.wrapping_sub(1), first, inside, last, last.wrapping_add(1)];
                all.extend(near.map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))));
            }
        }
    }
    for _ in 0..800 {
        all.insert(Ipv4Addr::from_bits(numbers.v4()).into());
        all.insert(Ipv6Addr::from_bits(numbers.v6()).into());
    }
    let disguised = all.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(IpAddr::V6(address.to_ipv6_mapped())),
        IpAddr::V6(_) => None,
    });
    all.extend(disguised.step_by(8).collect::<Vec<_>>());
    all.extend([0, u32::MAX].map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))));
    all.extend([0, u128::MAX].map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))));
    all
}
