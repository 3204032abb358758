//! Writes the IPv6 segments into trees; the layout is the contract's.

use gateway_ebpf::generation::{
    Decision, Entry, V6_LEAF_SEGMENTS, V6_LOW_BITS, V6_NODE_FANOUT, V6_ROOT_BITS, V6_UPPER_BITS, v6_leaf,
    v6_node,
};

use super::Tables;
use crate::policy::fold::Segment;

/// Blocks that [`write`] will add.
pub(super) fn count(segments: &[Segment<u128>]) -> u64 {
    slots(segments)
        .map(|(_, slot)| {
            let mut upper_keys = 0;
            let low_trees: u64 =
                slot.upper_keys().inspect(|_| upper_keys += 1).map(|(_, run)| tree_blocks(run.len())).sum();
            low_trees + tree_blocks(upper_keys)
        })
        .sum()
}

/// Adds the blocks below the root, and fills the root.
pub(super) fn write(segments: &[Segment<u128>], tables: &mut Tables) {
    let mut upper = Vec::new();
    let mut low = Vec::new();
    for (number, slot) in slots(segments) {
        upper.clear();
        for (key, run) in slot.upper_keys() {
            let entry = if run.len() == 1 {
                Entry::decision(run.first)
            } else {
                low.clear();
                low.extend(run.low_keys());
                write_tree(&low, tables).low()
            };
            upper.push((key, entry));
        }
        let entry = write_tree(&upper, tables);
        tables.set_v6_root(number, entry);
    }
}

/// Segments that share the leading bits of their addresses.
#[derive(Clone, Copy)]
struct Run<'a> {
    /// What holds at the start.
    first: Decision,
    /// The segments that begin further on.
    inside: &'a [Segment<u128>],
}

/// Every slot of the root with its segments.
fn slots(segments: &[Segment<u128>]) -> impl Iterator<Item = (u32, Run<'_>)> {
    let mut decision = Decision::PASS;
    let mut left = segments;
    (0..1u32 << V6_ROOT_BITS).map(move |slot| {
        let start = u128::from(slot) << (128 - V6_ROOT_BITS);
        let last = start | u128::MAX >> V6_ROOT_BITS;
        (slot, take(&mut left, &mut decision, start, last))
    })
}

/// Cuts the segments from `start` to `last` off `left`. `decision` is what holds before `start`,
/// and then what holds at `last`.
fn take<'a>(left: &mut &'a [Segment<u128>], decision: &mut Decision, start: u128, last: u128) -> Run<'a> {
    if let Some((first, rest)) = left.split_first()
        && first.first == start
    {
        *decision = first.decision;
        *left = rest;
    }
    let end = left.iter().position(|segment| segment.first > last).unwrap_or(left.len());
    let (inside, after) = left.split_at(end);
    let run = Run { first: *decision, inside };
    *left = after;
    if let Some(last) = inside.last() {
        *decision = last.decision;
    }
    run
}

const UPPER_MASK: u128 = (1 << V6_UPPER_BITS) - 1;
const LOW_MASK: u128 = (1 << V6_LOW_BITS) - 1;

impl<'a> Run<'a> {
    fn len(self) -> usize {
        1 + self.inside.len()
    }

    /// The upper keys at which something changes, each with the segments of that key; the first is
    /// key 0. Where something changes within a key, what holds after it starts with the next.
    fn upper_keys(self) -> impl Iterator<Item = (u64, Run<'a>)> {
        let mut decision = self.first;
        let mut left = self.inside;
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let key = next?;
            let run = match left.first() {
                // `take` needs whole addresses; the slot is the same for all of them.
                Some(segment) => {
                    let slot = segment.first & !(UPPER_MASK << V6_LOW_BITS | LOW_MASK);
                    let start = slot | u128::from(key) << V6_LOW_BITS;
                    take(&mut left, &mut decision, start, start | LOW_MASK)
                }
                None => Run { first: decision, inside: &[] },
            };
            let changed_within = !run.inside.is_empty();
            next = if changed_within && key < u64::MAX >> 1 {
                Some(key + 1)
            } else {
                left.first().map(upper_key)
            };
            Some((key, run))
        })
    }

    /// The low keys of a run within one upper key, each with its decision.
    fn low_keys(self) -> impl Iterator<Item = (u64, Entry)> {
        std::iter::once((0, Entry::decision(self.first)))
            .chain(self.inside.iter().map(|segment| (low_key(segment), Entry::decision(segment.decision))))
    }
}

fn upper_key(segment: &Segment<u128>) -> u64 {
    (segment.first >> V6_LOW_BITS & UPPER_MASK) as u64
}

fn low_key(segment: &Segment<u128>) -> u64 {
    (segment.first & LOW_MASK) as u64
}

/// Blocks of the tree over `keys` keys.
fn tree_blocks(keys: usize) -> u64 {
    if keys == 1 {
        return 0;
    }
    let mut level = keys.div_ceil(V6_LEAF_SEGMENTS);
    let mut blocks = level;
    while level > 1 {
        level = level.div_ceil(V6_NODE_FANOUT);
        blocks += level;
    }
    blocks as u64
}

/// Writes the tree over `keys`, which ascend from 0, and returns its root.
fn write_tree(keys: &[(u64, Entry)], tables: &mut Tables) -> Entry {
    if let [(_, only)] = keys {
        return *only;
    }
    let mut span = V6_LEAF_SEGMENTS;
    while span < keys.len() {
        span *= V6_NODE_FANOUT;
    }
    write_siblings(keys, span, tables)
}

/// Writes the blocks that have `span` keys each, side by side, with what hangs below them behind
/// them, so that the lower levels of a tree share pages. Returns the entry of the first.
fn write_siblings(keys: &[(u64, Entry)], span: usize, tables: &mut Tables) -> Entry {
    let first = tables.reserve(keys.len().div_ceil(span));
    for (index, keys) in (first..).zip(keys.chunks(span)) {
        let block = if span == V6_LEAF_SEGMENTS {
            v6_leaf(keys[0].1, keys[1..].iter().copied())
        } else {
            let below = span / V6_NODE_FANOUT;
            let child = write_siblings(keys, below, tables);
            v6_node(child, keys.iter().step_by(below).skip(1).map(|&(key, _)| key))
        };
        *tables.block_mut(index) = block;
    }
    if span == V6_LEAF_SEGMENTS { Entry::leaf(first) } else { Entry::node(first) }
}
