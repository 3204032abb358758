//! The tables at every depth, and damaged ones.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_ebpf::generation::{
    Block, Decision, Entry, FIRST_FREE, V4_ROOT, V6_ROOT, lookup_v4, lookup_v6, set_root, v6_node,
};
use ipnet::{IpNet, Ipv6Net};
use proptest::prelude::*;

use super::*;

/// Denies exactly `members` of 10.0.0.0/18, one by one, and asks about every address of it.
fn denies_exactly_these(members: &BTreeSet<u32>) {
    let start = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    let prefixes =
        members.iter().map(|offset| IpNet::from(IpAddr::from(Ipv4Addr::from_bits(start + offset))));
    let generation = compiled(Verdict::Pass, vec![list(Tier::Deny, "a", prefixes)]);
    for offset in 0..1 << 14 {
        let address = Ipv4Addr::from_bits(start + offset);
        let dropped = generation.decide(address.into()).is_drop();
        assert_eq!(dropped, members.contains(&offset), "{address} of {}", members.len());
    }
    for neighbour in [start - 1, start + (1 << 14)] {
        assert!(!generation.decide(Ipv4Addr::from_bits(neighbour).into()).is_drop());
    }
}

#[test]
fn a_bucket_of_ipv4_is_exact_at_every_depth_of_its_index() {
    // Every second address: segments are twice as many. Around a full leaf, a full index of
    // leaves, a second index, and the worst bucket that there is.
    for members in [1, 7, 8, 9, 255, 256, 257, 511, 512, 513, 4000, 8191, 8192] {
        denies_exactly_these(&(0..members).map(|member| member * 2).collect());
        denies_exactly_these(&(0..members).map(|member| member * 2 + 1).collect());
    }
}

/// Denies `prefixes`, which are disjoint, not adjacent and ascending, and asks at every border.
fn denies_exactly_these_v6(prefixes: &[Ipv6Net]) {
    let nets = prefixes.iter().copied().map(IpNet::V6);
    let generation = compiled(Verdict::Pass, vec![list(Tier::Deny, "a", nets)]);
    let dropped = |bits| generation.decide(Ipv6Addr::from_bits(bits).into()).is_drop();
    for (prefix, line) in prefixes.iter().zip(1..) {
        let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
        assert!(dropped(first) && dropped(last), "{prefix} of {}", prefixes.len());
        assert!(!dropped(first - 1) && !dropped(last + 1), "{prefix} of {}", prefixes.len());
        let rule = generation.explain(prefix.network().into());
        assert_eq!((rule.prefix, rule.line), (Some(IpNet::V6(*prefix)), line));
    }
}

#[test]
fn a_tree_of_ipv6_is_exact_at_every_depth() {
    let start = u128::from_str_radix("20010db8", 16).unwrap() << 96;
    let spread = |count: u128, length: u8| -> Vec<Ipv6Net> {
        (1..=count)
            .map(|n| {
                let address = start | (n * 2) << (128 - length);
                Ipv6Net::new(Ipv6Addr::from_bits(address), length).unwrap()
            })
            .collect()
    };
    // Around a full leaf (6 segments) and full trees of one and two levels, then deeper.
    for count in [1, 2, 3, 23, 24, 25, 191, 192, 193, 1_000, 12_000] {
        denies_exactly_these_v6(&spread(count, 64));
        denies_exactly_these_v6(&spread(count, 79));
        denies_exactly_these_v6(&spread(count, 80));
        denies_exactly_these_v6(&spread(count, 128));
    }
}

#[test]
fn single_addresses_deep_in_many_networks_are_exact() {
    let prefixes: Vec<Ipv6Net> = (0..3_000u128)
        .map(|n| Ipv6Addr::from_bits(0x2001 << 112 | (n / 3) << 64 | 1 << (n % 3 * 20)))
        .map(Ipv6Net::from)
        .collect();
    denies_exactly_these_v6(&prefixes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_table_still_gives_an_answer(
        words in prop::collection::vec(any::<Block>(), 64),
        v4 in any::<u32>(),
        (high, low) in any::<(u64, u64)>(),
    ) {
        // Random blocks everywhere, with indices that mostly stay inside.
        let blocks: Vec<Block> = words
            .iter()
            .cycle()
            .take(FIRST_FREE as usize + 64)
            .map(|block| block.map(|word| word & 0xe000_7fff_e000_7fff))
            .collect();
        let blocks = blocks.as_slice();
        lookup_v4(blocks, v4);
        lookup_v6(blocks, high, low);
        lookup_v4(&blocks[..40], v4);
        lookup_v6(&blocks[..40], high, low);
    }
}

#[test]
fn a_node_that_leads_to_itself_ends_as_pass() {
    let mut blocks = vec![[0; 8]; FIRST_FREE as usize + 8];
    for (at, block) in (FIRST_FREE..).zip(&mut blocks[FIRST_FREE as usize..]) {
        *block = v6_node(Entry::node(at), []);
    }
    assert!(set_root(&mut blocks, V6_ROOT, 0x2001, Entry::node(FIRST_FREE)));
    assert!(set_root(&mut blocks, V4_ROOT, 1, Entry::node(u32::MAX)));
    assert_eq!(lookup_v6(blocks.as_slice(), 0x2001 << 48, 0), Decision::PASS);
    assert_eq!(lookup_v4(blocks.as_slice(), 1 << 14), Decision::PASS);
}
