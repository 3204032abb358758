//! From a list to its enforcement: what is accepted is enforced exactly as it stands there.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use gateway::policy::{
    CompileLimits, Generation, List, ListEntry, ParseOptions, PolicyInput, SourceTable, Tier, Verdict,
    compile, parse_list,
};
use ipnet::IpNet;

use crate::lists::PREFIXES;

pub(crate) fn run(input: &[u8]) {
    // Only an allow list may name everybody.
    for (tier, default) in [(Tier::Deny, Verdict::Pass), (Tier::Allow, Verdict::Drop)] {
        if let Ok(list) = parse_list(input, &ParseOptions { tier, prefixes: PREFIXES }) {
            return is_enforced(&list.entries, tier, default);
        }
    }
}

/// At the borders of every entry, an address is decided by the list when one of its entries has
/// it, and else by the default, which says the opposite.
fn is_enforced(entries: &[ListEntry], tier: Tier, default: Verdict) {
    let list = Arc::new(List { tier, name: "fuzzed.list".into(), entries: entries.to_vec() });
    let input = PolicyInput { default, lists: vec![list] };
    let generation = compile(1, &input, &CompileLimits::default(), &mut SourceTable::new(1));
    let Ok(generation) = generation else { unreachable!("a small list is not compiled") };
    for address in entries.iter().flat_map(|entry| borders(entry.prefix)) {
        is_decided(&generation, entries, address);
    }
}

fn is_decided(generation: &Generation, entries: &[ListEntry], address: IpAddr) {
    let listed = entries.iter().filter(|entry| entry.prefix.contains(&address.to_canonical()));
    // Of equal prefixes the first line; `max_by_key` would give the last.
    let longest = listed.min_by_key(|entry| (Reverse(entry.prefix.prefix_len()), entry.line));
    let rule = generation.explain(address);
    assert_eq!(rule.prefix, longest.map(|entry| entry.prefix), "{address}");
    assert_eq!(rule.line, longest.map_or(0, |entry| entry.line), "{address}");
    let by_default = generation.default_verdict() == Verdict::Drop;
    assert_eq!(generation.decide(address).is_drop(), by_default == longest.is_none(), "{address}");
    assert_eq!(rule.verdict == Verdict::Drop, generation.decide(address).is_drop(), "{address}");
}

/// The first and the last address of a prefix, and those beside them.
fn borders(prefix: IpNet) -> [IpAddr; 4] {
    match prefix {
        IpNet::V4(prefix) => {
            let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                .map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpNet::V6(prefix) => {
            let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                .map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}
