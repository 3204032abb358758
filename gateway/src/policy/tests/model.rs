//! The compiled tables and the explanation against the plainest model of the policy.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::*;

const TIERS: [Tier; 5] = [Tier::NeverBlock, Tier::Ban, Tier::Allow, Tier::Deny, Tier::Observe];

/// What the policy says, entry by entry.
pub(super) fn model(input: &PolicyInput, address: IpAddr) -> MatchedRule {
    // Where the default drops, observed lists would add nothing and have no say.
    let has_say = |list: &List| list.tier != Tier::Observe || input.default == Verdict::Pass;
    let lists = input.lists.iter().enumerate().filter(|(_, list)| has_say(list));
    let matching = lists.flat_map(|(number, list)| {
        list.entries
            .iter()
            .filter(move |entry| entry.prefix.contains(&address))
            .map(move |entry| (number, list, entry))
    });
    let winner = matching.min_by_key(|(number, list, entry)| {
        let longest = std::cmp::Reverse(entry.prefix.prefix_len());
        (list.tier, longest, *number, entry.line)
    });
    match winner {
        None => MatchedRule {
            tier: Tier::Default,
            verdict: input.default,
            prefix: None,
            list: None,
            line: 0,
            generation: 7,
        },
        Some((_, list, entry)) => MatchedRule {
            tier: list.tier,
            verdict: match list.tier {
                Tier::NeverBlock | Tier::Allow | Tier::Observe => Verdict::Pass,
                _ => Verdict::Drop,
            },
            prefix: Some(entry.prefix.trunc()),
            list: Some(list.name.to_string()),
            line: entry.line,
            generation: 7,
        },
    }
}

/// The first and the last address of every entry, their neighbours, and the ends of both families.
pub(super) fn boundaries(input: &PolicyInput) -> BTreeSet<IpAddr> {
    let mut all = BTreeSet::new();
    for entry in input.lists.iter().flat_map(|list| &list.entries) {
        match entry.prefix {
            IpNet::V4(prefix) => {
                let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
                let near = [first.wrapping_sub(1), first, last, last.wrapping_add(1)];
                all.extend(near.map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))));
            }
            IpNet::V6(prefix) => {
                let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
                let near = [first.wrapping_sub(1), first, last, last.wrapping_add(1)];
                all.extend(near.map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))));
            }
        }
    }
    all.extend([0, u32::MAX].map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))));
    all.extend([0, u128::MAX].map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))));
    // An IPv4-mapped address is the IPv4 address, of which the model knows nothing.
    all.retain(|address| address.to_canonical() == *address);
    all
}

/// IPv4 prefixes that meet each other often, around the border of a bucket.
pub(super) fn crowded_v4() -> impl Strategy<Value = IpNet> {
    let start = 0x0a00_3f80u32;
    (0u32..256, prop_oneof![8 => 24u8..=32, 2 => 10u8..24, 1 => 0u8..10]).prop_map(move |(offset, length)| {
        let address = Ipv4Addr::from_bits(start + offset);
        IpNet::V4(Ipv4Net::new(address, length).unwrap().trunc())
    })
}

/// IPv6 prefixes that meet each other often, at every border of the three keys.
pub(super) fn crowded_v6() -> impl Strategy<Value = IpNet> {
    let bits = prop::collection::vec(
        prop::sample::select(vec![0u32, 1, 14, 15, 16, 17, 62, 63, 64, 65, 77, 78, 79, 80, 81, 126, 127]),
        0..6,
    );
    let length = prop_oneof![
        4 => prop::sample::select(vec![15u8, 16, 17, 63, 64, 65, 78, 79, 80, 81, 127, 128]),
        1 => 0u8..=128,
    ];
    (bits, any::<bool>(), length).prop_map(|(bits, ones, length)| {
        let set = bits.iter().fold(0u128, |set, bit| set | 1 << (127 - bit));
        // Either few bits set or few bits clear.
        let address = Ipv6Addr::from_bits(if ones { !set } else { set });
        IpNet::V6(Ipv6Net::new(address, length).unwrap().trunc())
    })
}

pub(super) fn policies() -> impl Strategy<Value = PolicyInput> {
    let prefix = prop_oneof![crowded_v4(), crowded_v6()];
    let one = (prop::sample::select(TIERS.to_vec()), prop::collection::vec(prefix, 0..24));
    (prop::collection::vec(one, 0..7), any::<bool>()).prop_map(|(lists, drop)| PolicyInput {
        default: if drop { Verdict::Drop } else { Verdict::Pass },
        lists: lists
            .into_iter()
            .enumerate()
            .map(|(number, (tier, prefixes))| list(tier, &format!("list {number}"), prefixes))
            .collect(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn tables_and_explanation_say_what_the_policy_says(input in policies()) {
        let generation = compiled(input.default, input.lists.clone());
        for address in boundaries(&input) {
            let expected = model(&input, address);
            prop_assert_eq!(&generation.explain(address), &expected, "{}", address);
            let decision = generation.decide(address);
            prop_assert_eq!(decision.is_drop(), expected.verdict == Verdict::Drop, "{}", address);
            prop_assert_eq!(decision.is_observed(), expected.tier == Tier::Observe, "{}", address);
            let source = generation.source(decision.source()).unwrap();
            prop_assert_eq!(source.tier, expected.tier);
            prop_assert_eq!(source.list.as_deref(), expected.list.as_deref());
        }
    }
}
