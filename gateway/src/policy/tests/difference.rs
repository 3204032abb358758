//! What changes from one generation to another.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn deny(prefixes: &[&str]) -> Arc<List> {
    list(Tier::Deny, "deny", prefixes.iter().map(|prefix| net(prefix)).collect::<Vec<_>>())
}

fn range(first: &str, last: &str) -> (IpAddr, IpAddr) {
    (first.parse().expect("an address"), last.parse().expect("an address"))
}

#[test]
fn added_and_removed_entries_and_the_addresses_that_they_concern_are_told() {
    let allow = list(Tier::Allow, "allow", [net("192.0.2.0/26")]);
    let before = compiled(Verdict::Pass, vec![deny(&["192.0.2.0/25", "10.0.0.0/8"]), allow.clone()]);
    let after = compiled(Verdict::Pass, vec![deny(&["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/63"]), allow]);
    let difference = Difference::between(&before, &after);
    let deny = &difference.lists[0];
    assert_eq!((deny.prefixes, deny.added, deny.removed), (3, 2, 1));
    assert_eq!((difference.lists[1].prefixes, difference.lists[1].added), (1, 0));
    assert_eq!((difference.dropped.v4, difference.dropped.v6_networks), (128, 2));
    assert_eq!(difference.dropped.examples[0], range("192.0.2.128", "192.0.2.255"));
    assert_eq!(difference.dropped.examples[1], range("2001:db8::", "2001:db8:0:1:ffff:ffff:ffff:ffff"));
    assert!(difference.passing.is_empty());
    assert!(Difference::between(&after, &after).is_empty());
    let back = Difference::between(&after, &before);
    assert_eq!((back.passing, back.dropped.is_empty()), (difference.dropped, true));
}

#[test]
fn a_list_that_is_only_observed_drops_nobody() {
    let enforced = compiled(Verdict::Pass, vec![deny(&["192.0.2.0/24"])]);
    let observed = compiled(Verdict::Pass, vec![list(Tier::Observe, "deny", [net("192.0.2.0/24")])]);
    let difference = Difference::between(&enforced, &observed);
    assert_eq!((difference.dropped.v4, difference.passing.v4), (0, 256));
    let told = |tier| difference.lists.iter().find(|list| list.source.tier == tier).expect("there");
    assert_eq!((told(Tier::Observe).added, told(Tier::Deny).removed), (1, 1));
}

#[test]
fn parts_of_one_64_bit_network_are_one_network() {
    let before = compiled(Verdict::Pass, vec![]);
    let after =
        compiled(Verdict::Pass, vec![deny(&["2001:db8::1/128", "2001:db8::5/128", "2001:db8:0:2::7/128"])]);
    assert_eq!(Difference::between(&before, &after).dropped.v6_networks, 2);
}

#[test]
fn a_default_that_turns_around_concerns_every_address() {
    let (open, closed) = (compiled(Verdict::Pass, vec![]), compiled(Verdict::Drop, vec![]));
    let difference = Difference::between(&open, &closed);
    assert_eq!((difference.dropped.v4, difference.dropped.v6_networks), (1 << 32, 1 << 64));
}

/// Prefixes inside 192.0.2.0/24.
fn few() -> impl Strategy<Value = Vec<IpNet>> {
    prop::collection::vec((0u8..=255, 24u8..=32), 0..12).prop_map(|prefixes| {
        let net = |(last, length)| IpNet::new([192, 0, 2, last].into(), length).expect("a length").trunc();
        prefixes.into_iter().map(net).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// As many as change when every address is asked.
    #[test]
    fn changed_addresses_are_counted_one_by_one(
        one in (few(), few(), few()),
        other in (few(), few(), few()),
        drops in any::<bool>(),
    ) {
        let policy = |(deny, allow, observe): (Vec<IpNet>, Vec<IpNet>, Vec<IpNet>)| {
            let lists = vec![
                list(Tier::Deny, "deny", deny),
                list(Tier::Allow, "allow", allow),
                list(Tier::Observe, "observe", observe),
            ];
            compiled(if drops { Verdict::Drop } else { Verdict::Pass }, lists)
        };
        let (before, after) = (policy(one), policy(other));
        let difference = Difference::between(&before, &after);
        let (mut dropped, mut passing) = (0, 0);
        for last in 0..=255u8 {
            let address = IpAddr::from([192, 0, 2, last]);
            match (before.decide(address).is_drop(), after.decide(address).is_drop()) {
                (false, true) => dropped += 1,
                (true, false) => passing += 1,
                _ => {}
            }
        }
        prop_assert_eq!((difference.dropped.v4, difference.passing.v4), (dropped, passing));
    }
}
