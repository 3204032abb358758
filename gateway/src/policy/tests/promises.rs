//! What the operator relies on, one by one.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use gateway_ebpf::generation::{FIRST_FREE, number};

use super::*;

#[test]
fn the_highest_tier_wins_before_the_longest_prefix() {
    let generation = compiled(
        Verdict::Drop,
        vec![
            list(Tier::Deny, "deny", [net("10.1.2.3/32"), net("10.0.0.0/8")]),
            list(Tier::Allow, "allow", [net("10.1.0.0/16")]),
            list(Tier::Ban, "bans", [net("10.1.2.0/24")]),
            list(Tier::NeverBlock, "gatehouse.toml", [net("10.1.2.0/28")]),
        ],
    );
    let tier = |address: [u8; 4]| generation.explain(address.into()).tier;
    assert_eq!(tier([10, 1, 2, 3]), Tier::NeverBlock);
    assert_eq!(tier([10, 1, 2, 99]), Tier::Ban);
    assert_eq!(tier([10, 1, 9, 9]), Tier::Allow);
    assert_eq!(tier([10, 9, 9, 9]), Tier::Deny);
    assert_eq!(tier([11, 0, 0, 0]), Tier::Default);
}

#[test]
fn each_dropping_tier_has_its_reason_and_a_passing_rule_has_none() {
    let generation = compiled(
        Verdict::Drop,
        vec![
            list(Tier::Deny, "deny", [net("10.0.0.0/8")]),
            list(Tier::Allow, "allow", [net("10.1.0.0/16")]),
            list(Tier::Ban, "bans", [net("10.1.2.0/24")]),
        ],
    );
    let reason = |address: [u8; 4]| generation.explain(address.into()).reason();
    assert_eq!(reason([10, 0, 0, 1]), Some(Reason::FirewallDeniedRange));
    assert_eq!(reason([10, 1, 0, 1]), None);
    assert_eq!(reason([10, 1, 2, 1]), Some(Reason::FirewallBanned));
    assert_eq!(reason([8, 8, 8, 8]), Some(Reason::FirewallNotAllowed));
}

#[test]
fn a_mapped_address_is_decided_as_ipv4_and_a_mapped_entry_blocks_ipv4() {
    let generation = compiled(
        Verdict::Pass,
        vec![list(Tier::Deny, "a", [net("192.0.2.0/24"), net("::ffff:198.51.100.0/120")])],
    );
    for address in ["192.0.2.7", "::ffff:192.0.2.7", "198.51.100.9", "::ffff:198.51.100.9"] {
        assert!(generation.decide(address.parse().unwrap()).is_drop(), "{address}");
    }
    let rule = generation.explain("::ffff:198.51.100.9".parse().unwrap());
    assert_eq!(rule.prefix, Some(net("198.51.100.0/24")));
}

#[test]
fn an_ipv6_prefix_around_the_mapped_range_says_nothing_about_ipv4() {
    let lists = vec![list(Tier::Deny, "a", [net("::/0"), net("::/64")])];
    let generation = compiled(Verdict::Pass, lists);
    assert!(!generation.decide("::ffff:192.0.2.7".parse().unwrap()).is_drop());
    assert!(generation.decide("::fffe:0:1".parse().unwrap()).is_drop());
}

#[test]
fn the_first_line_is_named_when_a_prefix_is_repeated() {
    let prefix = net("192.0.2.0/24");
    let lists =
        vec![list(Tier::Deny, "a", [net("10.0.0.0/8"), prefix, prefix]), list(Tier::Deny, "b", [prefix])];
    let rule = compiled(Verdict::Pass, lists).explain([192, 0, 2, 1].into());
    assert_eq!((rule.list.as_deref(), rule.line), (Some("a"), 2));
}

#[test]
fn a_list_keeps_its_source_from_generation_to_generation() {
    let mut sources = SourceTable::default();
    let limits = CompileLimits::default();
    let (a, b) =
        (list(Tier::Deny, "a", [net("192.0.2.0/24")]), list(Tier::Deny, "b", [net("198.51.100.0/24")]));
    let mut source_of_b = |lists: &[&Arc<List>]| {
        let lists = lists.iter().map(|&list| list.clone()).collect();
        let input = PolicyInput { default: Verdict::Pass, lists };
        let generation = compile(1, &input, &limits, &mut sources).unwrap();
        generation.decide([198, 51, 100, 1].into()).source()
    };
    let before = source_of_b(&[&a, &b]);
    assert_eq!(source_of_b(&[&b]), before);
    assert_eq!(source_of_b(&[&b, &a]), before);
}

#[test]
fn a_policy_above_a_limit_is_refused_with_the_figure_and_changes_no_index() {
    let mut sources = SourceTable::new(1);
    let input = |lists| PolicyInput { default: Verdict::Pass, lists };
    let a = list(Tier::Deny, "a", [net("192.0.2.0/25"), net("198.51.100.0/25")]);
    let limits = CompileLimits { prefixes: 1, ..CompileLimits::default() };
    let result = compile(1, &input(vec![a.clone()]), &limits, &mut sources);
    let too_many = CompileError::TooManyPrefixes { count: 2, limit: 1 };
    assert_eq!(result.unwrap_err(), too_many);

    let limits = CompileLimits { blocks: FIRST_FREE + 1, ..CompileLimits::default() };
    let result = compile(1, &input(vec![a.clone()]), &limits, &mut sources);
    let blocks = u64::from(FIRST_FREE) + 2;
    let limit = FIRST_FREE + 1;
    assert_eq!(result.unwrap_err(), CompileError::TooManyBlocks { blocks, limit });

    let b = list(Tier::Deny, "b", [net("192.0.2.0/24")]);
    let both = input(vec![a.clone(), b]);
    let limits = CompileLimits::default();
    let result = compile(1, &both, &limits, &mut sources);
    assert_eq!(result.unwrap_err(), CompileError::TooManyLists { count: 2, limit: 1 });

    assert_eq!(sources.index(&Source::list(Tier::Deny, "a".into())), None);
    assert!(compile(1, &input(vec![a]), &limits, &mut sources).is_ok());
}

#[test]
fn an_empty_policy_is_its_default_and_carries_its_number() {
    for (default, drops) in [(Verdict::Pass, false), (Verdict::Drop, true)] {
        let generation = compiled(default, vec![]);
        assert_eq!(generation.decide(Ipv4Addr::LOCALHOST.into()).is_drop(), drops);
        assert_eq!(generation.decide(Ipv6Addr::LOCALHOST.into()).is_drop(), drops);
        assert_eq!(number(generation.blocks()), Some(7));
        assert_eq!(generation.blocks().len(), FIRST_FREE as usize);
    }
}

#[test]
fn a_policy_that_is_too_large_is_told_in_mebibytes() {
    let error = CompileError::TooManyBlocks { blocks: 1 << 20, limit: 1 << 14 };
    let message = error.to_string();
    assert!(message.contains("needs 64 MiB, above the limit of 1 MiB"), "{message}");
}

#[test]
fn blocks_of_another_version_are_no_generation() {
    let mut header = gateway_ebpf::generation::header(7);
    assert_eq!(number([header].as_slice()), Some(7));
    header[0] += 1 << 32;
    assert_eq!(number([header].as_slice()), None);
    assert_eq!(number([[0; 8]].as_slice()), None);
}

#[test]
fn entries_around_and_inside_a_prefix_are_found_in_the_tier_asked_for() {
    let generation = compiled(
        Verdict::Pass,
        vec![
            list(
                Tier::Deny,
                "deny",
                ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "10.2.0.0/16", "fe80::/10"].map(net),
            ),
            list(Tier::Allow, "allow", [net("10.1.2.0/24")]),
        ],
    );
    let found = |prefix| -> Vec<(String, u32)> {
        let overlaps = generation.overlapping(net(prefix), Tier::Deny);
        overlaps.map(|overlap| (overlap.prefix.to_string(), overlap.line)).collect()
    };
    let all = [("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("10.1.2.3/32", 3)];
    assert_eq!(found("10.1.0.0/16"), all.map(|(prefix, line)| (prefix.to_owned(), line)));
    assert_eq!(found("fe80::1/128"), [("fe80::/10".to_owned(), 5)]);
    assert_eq!(found("192.0.2.0/24"), []);
    assert_eq!(generation.overlapping(net("10.0.0.0/8"), Tier::Allow).count(), 1);
}
