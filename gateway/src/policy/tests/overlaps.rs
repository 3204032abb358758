//! Entries that change no verdict, against the plainest model.

use proptest::prelude::*;

use super::model::{boundaries, policies};
use super::*;

/// The policy without the entries that another one of the same or of a higher tier covers. Of the same prefix in one
/// tier, the first remains. Where the default drops, observed lists have no say.
fn without_overlaps(input: &PolicyInput) -> PolicyInput {
    let all: Vec<(Tier, usize, ListEntry)> = input
        .lists
        .iter()
        .enumerate()
        .flat_map(|(number, list)| list.entries.iter().map(move |entry| (list.tier, number, *entry)))
        .collect();
    let covers = |(tier, number, entry): &(Tier, usize, ListEntry), own: &(Tier, usize, ListEntry)| {
        let (own_tier, own_number, own_entry) = own;
        if entry.prefix == own_entry.prefix {
            (tier, number, entry.line) < (own_tier, own_number, own_entry.line)
        } else {
            entry.prefix.contains(&own_entry.prefix) && tier <= own_tier
        }
    };
    let needed = |number: usize| {
        let silent = input.default == Verdict::Drop;
        let own =
            all.iter().filter(move |(tier, own, _)| *own == number && !(silent && *tier == Tier::Observe));
        own.filter(|own| !all.iter().any(|other| covers(other, own))).map(|(_, _, entry)| *entry)
    };
    let lists = input.lists.iter().enumerate().map(|(number, list)| {
        let entries = needed(number).collect();
        Arc::new(List { tier: list.tier, name: Arc::clone(&list.name), entries })
    });
    PolicyInput { default: input.default, lists: lists.collect() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn overlaps_are_the_entries_without_which_every_verdict_stays(input in policies()) {
        let shorter = without_overlaps(&input);
        let (whole, rest) = (compiled(input.default, input.lists.clone()), compiled(input.default, shorter.lists.clone()));
        let left: Vec<usize> = input.lists.iter().zip(whole.overlaps()).map(|(list, overlaps)| list.entries.len() - overlaps).collect();
        let expected: Vec<usize> = shorter.lists.iter().map(|list| list.entries.len()).collect();
        prop_assert_eq!(left, expected);
        for address in boundaries(&input) {
            let (one, other) = (whole.decide(address), rest.decide(address));
            prop_assert_eq!(one.is_drop(), other.is_drop(), "{}", address);
            prop_assert_eq!(one.is_observed(), other.is_observed(), "{}", address);
        }
        prop_assert!(rest.overlaps().iter().all(|overlaps| *overlaps == 0));
    }
}

#[test]
fn an_entry_inside_an_allowed_range_and_a_repeated_one_overlap() {
    let generation = compiled(
        Verdict::Pass,
        vec![
            list(Tier::Allow, "allow", [net("10.0.0.0/16"), net("192.0.2.1/32")]),
            list(Tier::Deny, "a", [net("10.0.7.0/24"), net("10.0.0.0/8"), net("192.0.2.0/24")]),
            list(Tier::Deny, "b", [net("192.0.2.0/24"), net("192.0.2.9/32"), net("2001:db8::/32")]),
        ],
    );
    assert_eq!(generation.overlaps(), [0, 1, 2]);
}
