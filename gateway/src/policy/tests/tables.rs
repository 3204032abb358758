//! The tables at every depth, and damaged ones.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_ebpf::generation::{
    Block, Decision, Entry, FIRST_FREE, V4Entry, V6Entry, lookup_v4, lookup_v6, set_v4_root, set_v6_root,
    v6_node,
};
use ipnet::{IpNet, Ipv6Net};
use proptest::prelude::*;

use super::*;

/// Denies exactly `members` of 10.0.0.0/16, one by one and for `lists` in turns, and asks about
/// every address of it.
fn denies_exactly_these(members: &BTreeSet<u32>, lists: usize) {
    let start = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    let address = |offset: u32| Ipv4Addr::from_bits(start + offset);
    let lists = (0..lists).map(|own| {
        let members = members.iter().skip(own).step_by(lists);
        list(Tier::Deny, &own.to_string(), members.map(|offset| IpNet::from(IpAddr::from(address(*offset)))))
    });
    let count = lists.len();
    let generation = compiled(Verdict::Pass, lists.collect());
    let mut left = members.iter().zip((0..count).cycle()).peekable();
    for offset in 0..1 << 16 {
        let expected = left.next_if(|(member, _)| **member == offset).map(|(_, list)| list.to_string());
        let decision = generation.decide(address(offset).into());
        assert_eq!(decision.is_drop(), expected.is_some(), "{} of {}", address(offset), members.len());
        let source = generation.source(decision.source()).expect("known");
        assert_eq!(source.list.as_deref(), expected.as_deref(), "{} of {}", address(offset), members.len());
    }
    for neighbour in [start - 1, start + (1 << 16)] {
        assert!(!generation.decide(Ipv4Addr::from_bits(neighbour).into()).is_drop());
    }
}

#[test]
fn a_bucket_of_ipv4_is_exact_in_every_shape() {
    // Around full points (32), toggles (16 members), a leaf (8 members apart), an index of leaves
    // (256), and an index of indices in the worst bucket that there is.
    for members in [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 255, 256, 257, 511, 512, 8191, 8192, 32767, 32768] {
        for lists in [1, 3] {
            denies_exactly_these(&(0..members).map(|member| member * 2).collect(), lists);
            denies_exactly_these(&(0..members).map(|member| member * 2 + 1).collect(), lists);
            // With the highest key.
            denies_exactly_these(
                &(0..members).map(|member| u32::from(u16::MAX) - member * 2).collect(),
                lists,
            );
        }
    }
}

#[test]
fn ranges_of_ipv4_are_exact_in_every_shape() {
    for lists in [1, 3] {
        for ranges in [1, 2, 15, 16, 17, 40] {
            // Too long for points, and not of whole /24s; with and without the end of the bucket.
            let stride = 0x1_0000 / ranges;
            let inside = (0..ranges).flat_map(|range| range * stride + 3..range * stride + stride / 2);
            denies_exactly_these(&inside.collect(), lists);
            let at_the_end =
                (0..ranges).flat_map(|range| range * stride + stride / 2 + 1..(range + 1) * stride);
            denies_exactly_these(&at_the_end.collect(), lists);
            // Whole /24s.
            let stride = 256 / ranges;
            let whole = (0..ranges)
                .flat_map(|range| range * stride..range * stride + stride.div_ceil(2))
                .flat_map(|place| place << 8..(place + 1) << 8);
            denies_exactly_these(&whole.collect(), lists);
        }
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
fn a_fan_of_ipv6_is_exact_for_every_child() {
    // Spread over the bits after the root by an odd multiplier, so that children have none, one or
    // several prefixes, of every length that a record knows and some that it does not.
    for count in [24, 25, 100, 3_000] {
        for length in [21u8, 25, 29, 32, 47, 48, 56, 63, 64, 65, 79, 80, 127, 128] {
            let mut spread: Vec<Ipv6Net> = (0..count)
                .map(|n: u128| {
                    let bits = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) & (u128::MAX >> 16);
                    Ipv6Net::new(Ipv6Addr::from_bits(0x2a02 << 112 | bits), length).unwrap().trunc()
                })
                .collect();
            spread.sort_unstable();
            spread.dedup();
            // Only those that are not adjacent to another one.
            let next = |net: &Ipv6Net| net.broadcast().to_bits() + 1;
            let mut apart: Vec<Ipv6Net> = Vec::new();
            for net in spread {
                if apart.last().is_none_or(|last| next(last) < net.network().to_bits()) {
                    apart.push(net);
                }
            }
            denies_exactly_these_v6(&apart);
        }
    }
}

#[test]
fn a_fan_below_a_denied_network_is_exact() {
    let deny = list(Tier::Deny, "wide", [net("2a02::/16")]);
    let holes: Vec<IpNet> = (0..2_000u128)
        .map(|n| Ipv6Addr::from_bits(0x2a02 << 112 | n << 101 | n << 40))
        .map(|address| Ipv6Net::new(address, 64 + (address.segments()[1] % 65) as u8).unwrap().trunc().into())
        .collect();
    let allow = list(Tier::Allow, "holes", holes.iter().copied());
    let generation = compiled(Verdict::Pass, vec![deny, allow]);
    for hole in holes {
        let (first, last) = (hole.network(), hole.broadcast());
        assert!(!generation.decide(first).is_drop() && !generation.decide(last).is_drop(), "{hole}");
        let IpAddr::V6(last) = last else { unreachable!() };
        assert!(generation.decide(Ipv6Addr::from_bits(last.to_bits() + 1).into()).is_drop(), "{hole}");
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
    assert!(set_v6_root(&mut blocks, 0x2001, V6Entry::plain(Entry::node(FIRST_FREE))));
    assert!(set_v4_root(&mut blocks, 1, V4Entry::leaf(u32::MAX)));
    assert_eq!(lookup_v6(blocks.as_slice(), 0x2001 << 48, 0), Decision::PASS);
    assert_eq!(lookup_v4(blocks.as_slice(), 1 << 16), Decision::PASS);
}
