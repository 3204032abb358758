//! What one generation does that another did not: entries, and addresses whose verdict changes.

use std::collections::HashMap;
use std::net::IpAddr;

use gateway_ebpf::generation::Decision;

use super::Verdict;
use super::fold::{ListDecision, Segment, fold};
use super::generation::Generation;
use super::rules::{Address, Rule, Rules};
use super::source::Source;

/// Ranges that are named for each change; the others are counted.
const EXAMPLES: usize = 5;

/// What changes from one generation to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The lists of both, in the order of the newer generation, then those that are gone.
    pub lists: Vec<ListDifference>,
    /// Who passed and is dropped now.
    pub dropped: Change,
    /// Who was dropped and passes now.
    pub passing: Change,
}

/// What changes about one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListDifference {
    /// The list in its tier.
    pub source: Source,
    /// Different prefixes that it has now.
    pub prefixes: usize,
    /// Those that it did not have before.
    pub added: usize,
    /// Those that it has no more.
    pub removed: usize,
}

/// Addresses whose verdict changes in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// IPv4 addresses.
    pub v4: u64,
    /// IPv6 networks of 64 bits with at least one such address.
    pub v6_networks: u128,
    /// The first ranges of each family: first and last address.
    pub examples: Vec<(IpAddr, IpAddr)>,
}

impl Change {
    /// Whether nothing changes.
    pub const fn is_empty(&self) -> bool {
        self.v4 == 0 && self.v6_networks == 0
    }
}

impl Difference {
    /// What changes from `before` to `after`.
    pub fn between(before: &Generation, after: &Generation) -> Self {
        let mut lists = Entries::new(before, after);
        lists.compare(&before.v4, &after.v4);
        lists.compare(&before.v6, &after.v6);
        let mut difference = Self { lists: lists.lists, ..Self::default() };
        let v4 = Verdicts::new(&segments(before, &before.v4), &segments(after, &after.v4));
        for (target, ranges) in
            [(&mut difference.dropped, &v4.dropped), (&mut difference.passing, &v4.passing)]
        {
            target.v4 = ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum();
            target.name(ranges);
        }
        let v6 = Verdicts::new(&segments(before, &before.v6), &segments(after, &after.v6));
        for (target, ranges) in
            [(&mut difference.dropped, &v6.dropped), (&mut difference.passing, &v6.passing)]
        {
            target.v6_networks = networks(ranges);
            target.name(ranges);
        }
        difference
    }

    /// Whether no entry and no verdict differs.
    pub fn is_empty(&self) -> bool {
        self.dropped.is_empty()
            && self.passing.is_empty()
            && self.lists.iter().all(|list| list.added == 0 && list.removed == 0)
    }
}

impl Change {
    fn name<A: Address>(&mut self, ranges: &[(A, A)]) {
        self.examples.extend(ranges.iter().take(EXAMPLES).map(|(first, last)| (first.to_ip(), last.to_ip())));
    }
}

/// The /64s that `ranges`, ascending and disjoint, touch.
fn networks(ranges: &[(u128, u128)]) -> u128 {
    let mut count = 0;
    let mut counted = None;
    for (first, last) in ranges {
        let (first, last) = (first >> 64, last >> 64);
        count += last - first + u128::from(counted != Some(first));
        counted = Some(last);
    }
    count
}

/// The whole address space by decision.
fn segments<A: Address>(generation: &Generation, rules: &Rules<A>) -> Vec<Segment<A>> {
    let decisions: Vec<ListDecision> = generation.lists.iter().map(|list| list.decision).collect();
    let drops = generation.default == Verdict::Drop;
    let default = Decision::new(Source::DEFAULT, drops).unwrap_or(Decision::PASS);
    fold(rules, &decisions, default)
}

/// Ranges, ascending and disjoint, of the addresses whose verdict changes.
struct Verdicts<A> {
    dropped: Vec<(A, A)>,
    passing: Vec<(A, A)>,
}

impl<A: Address> Verdicts<A> {
    /// One walk along both; each starts at the lowest address.
    fn new(before: &[Segment<A>], after: &[Segment<A>]) -> Self {
        let mut changes = Self { dropped: Vec::new(), passing: Vec::new() };
        let (mut old, mut new) = (0, 0);
        let mut first = A::ZERO;
        while let (Some(was), Some(is)) = (before.get(old), after.get(new)) {
            let ends = [before.get(old + 1), after.get(new + 1)];
            let next = ends.into_iter().flatten().map(|segment| segment.first).min();
            let last = next.and_then(Address::previous).unwrap_or_else(|| first.last(0));
            match (was.decision.is_drop(), is.decision.is_drop()) {
                (false, true) => extend(&mut changes.dropped, first, last),
                (true, false) => extend(&mut changes.passing, first, last),
                _ => {}
            }
            let Some(next) = next else { break };
            old += usize::from(before.get(old + 1).is_some_and(|segment| { segment.first } == next));
            new += usize::from(after.get(new + 1).is_some_and(|segment| { segment.first } == next));
            first = next;
        }
        changes
    }
}

/// Adds a range; one that follows the last one directly makes it longer.
fn extend<A: Address>(ranges: &mut Vec<(A, A)>, first: A, last: A) {
    match ranges.last_mut() {
        Some(range) if range.1.next() == Some(first) => range.1 = last,
        _ => ranges.push((first, last)),
    }
}

/// The entries of both generations, list by list.
struct Entries {
    lists: Vec<ListDifference>,
    /// For each list of either generation, its place in `lists`.
    before: Vec<usize>,
    after: Vec<usize>,
}

impl Entries {
    fn new(before: &Generation, after: &Generation) -> Self {
        let mut lists: Vec<ListDifference> = Vec::new();
        let mut places = HashMap::new();
        let mut place = |generation: &Generation| {
            let sources = generation.lists.iter().map(|list| Source::list(list.tier(), list.name.clone()));
            sources
                .map(|source| {
                    *places.entry(source.clone()).or_insert_with(|| {
                        lists.push(ListDifference { source, prefixes: 0, added: 0, removed: 0 });
                        lists.len() - 1
                    })
                })
                .collect()
        };
        let after = place(after);
        let before = place(before);
        Self { lists, before, after }
    }

    /// One walk along the rules of one family of both, which are in the same order.
    fn compare<A: Address>(&mut self, before: &Rules<A>, after: &Rules<A>) {
        let (mut before, mut after) = (before.as_slice(), after.as_slice());
        let (mut had, mut has) = (Vec::new(), Vec::new());
        while let Some(prefix) = before.first().into_iter().chain(after.first()).map(prefix).min() {
            take(&mut before, prefix, &self.before, &mut had);
            take(&mut after, prefix, &self.after, &mut has);
            for list in &has {
                self.lists[*list].prefixes += 1;
                self.lists[*list].added += usize::from(!had.contains(list));
            }
            for list in had.iter().filter(|list| !has.contains(list)) {
                self.lists[*list].removed += 1;
            }
        }
    }
}

fn prefix<A: Address>(rule: &Rule<A>) -> (A, u8) {
    (rule.first, rule.length)
}

/// Takes the rules of `wanted` from the front of `rules`; `lists` are the places of their lists.
fn take<A: Address>(rules: &mut &[Rule<A>], wanted: (A, u8), places: &[usize], lists: &mut Vec<usize>) {
    lists.clear();
    while let Some((rule, rest)) = rules.split_first()
        && prefix(rule) == wanted
    {
        // Two lists of one name and tier are one.
        if let Some(place) = places.get(usize::from(rule.list))
            && !lists.contains(place)
        {
            lists.push(*place);
        }
        *rules = rest;
    }
}
