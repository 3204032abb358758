//! Folds nested, overlapping and competing prefixes into disjoint segments.

use gateway_ebpf::generation::Decision;

use super::Tier;
use super::rules::{Address, Rule, Rules};

/// A run of addresses with one decision, up to the next segment. Packed, since millions of them
/// exist for a moment.
#[derive(Clone, Copy)]
#[repr(Rust, packed(4))]
pub(super) struct Segment<A> {
    /// First address.
    pub(super) first: A,
    /// What holds from there on.
    pub(super) decision: Decision,
}

/// What the entries of a list do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListDecision {
    /// The list's tier.
    pub(super) tier: Tier,
    /// The decision when the list wins.
    pub(super) decision: Decision,
}

/// The segments of the whole address space, ascending. The first one starts at the lowest address
/// and neighbours differ, so this is the smallest such list.
pub(super) fn fold<A: Address>(
    rules: &Rules<A>,
    lists: &[ListDecision],
    default: Decision,
) -> Vec<Segment<A>> {
    let rules = rules.as_slice();
    sweep(rules, rules.len(), lists, default)
}

/// The segments of the addresses that begin with the same `length` bits as `address`. The first
/// one starts at the lowest of them.
pub(super) fn fold_part<A: Address>(
    rules: &Rules<A>,
    address: A,
    length: u8,
    lists: &[ListDecision],
    default: Decision,
) -> Vec<Segment<A>> {
    let (first, last) = (address.first(length), address.last(length));
    let inside = rules.between(first, last);
    let around = rules.around(first, length);
    let mut segments = sweep(around.chain(inside), inside.len(), lists, default);
    let end = segments.partition_point(|segment| { segment.first } <= last);
    segments.truncate(end);
    let before = segments.partition_point(|segment| { segment.first } <= first).saturating_sub(1);
    segments.drain(..before);
    if let Some(covering) = segments.first_mut() {
        covering.first = first;
    }
    segments
}

/// One sweep over sorted rules: prefixes nest, so the open ones are a stack, and each of them
/// remembers who wins inside it.
fn sweep<'a, A: Address + 'a>(
    rules: impl IntoIterator<Item = &'a Rule<A>>,
    count: usize,
    lists: &[ListDecision],
    default: Decision,
) -> Vec<Segment<A>> {
    let mut segments = Segments::starting_with(default, count);
    let outside = Winner { tier: Tier::Default, length: 0, decision: default };
    // At most one open prefix of each length.
    let mut open: Vec<Open<A>> = Vec::with_capacity(usize::from(A::BITS) + 1);
    for &rule in rules {
        let first = rule.first;
        close(&mut open, outside, &mut segments, |last| last < first);
        let around = open.last().map_or(outside, |open| open.winner);
        let winner = around.or(rule, lists);
        match open.last_mut() {
            Some(same) if same.length == rule.length => same.winner = winner,
            _ => open.push(Open { last: first.last(rule.length), length: rule.length, winner }),
        }
        segments.push(first, winner.decision);
    }
    close(&mut open, outside, &mut segments, |_| true);
    segments.0
}

/// Ends the innermost open prefixes while `ended` says so of their last address.
fn close<A: Address>(
    open: &mut Vec<Open<A>>,
    outside: Winner,
    segments: &mut Segments<A>,
    ended: impl Fn(A) -> bool,
) {
    while let Some(inner) = open.pop_if(|inner| ended(inner.last)) {
        let around = open.last().map_or(outside, |open| open.winner);
        if let Some(after) = inner.last.next() {
            segments.push(after, around.decision);
        }
    }
}

/// A prefix that the sweep is inside of.
struct Open<A> {
    last: A,
    length: u8,
    winner: Winner,
}

/// Who decides inside an open prefix.
#[derive(Clone, Copy)]
struct Winner {
    tier: Tier,
    length: u8,
    decision: Decision,
}

impl Winner {
    /// The winner where `rule` holds too: the higher tier; in one tier the longer prefix; for one
    /// prefix the list that came first.
    fn or<A>(self, rule: Rule<A>, lists: &[ListDecision]) -> Self {
        let Some(list) = lists.get(usize::from(rule.list)) else {
            return self;
        };
        let wins = list.tier < self.tier || list.tier == self.tier && rule.length > self.length;
        if !wins {
            return self;
        }
        Self { tier: list.tier, length: rule.length, decision: list.decision }
    }
}

/// The segments so far.
struct Segments<A>(Vec<Segment<A>>);

impl<A: Address> Segments<A> {
    fn starting_with(decision: Decision, rules: usize) -> Self {
        let mut segments = Vec::with_capacity(rules.saturating_mul(2).saturating_add(1));
        segments.push(Segment { first: A::ZERO, decision });
        Self(segments)
    }

    /// From `first` on, `decision` holds. `first` never decreases.
    fn push(&mut self, first: A, decision: Decision) {
        self.0.pop_if(|last| { last.first } == first);
        if self.0.last().is_none_or(|last| last.decision != decision) {
            self.0.push(Segment { first, decision });
        }
    }
}
