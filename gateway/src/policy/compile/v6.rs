//! Writes the IPv6 segments into fans and trees; the layout is the contract's.

use std::collections::BTreeMap;
use std::iter;
use std::ops::Range;

use gateway_ebpf::generation::{
    Block, Decision, Entry, V6_FAN_BITS, V6_LEAF_SEGMENTS, V6_LINE_BITS, V6_LOW_BITS, V6_NODE_FANOUT,
    V6_ROOT_BITS, V6_UPPER_BITS, V6Entry, V6Record, v6_cell, v6_leaf, v6_line, v6_node,
};

use super::Tables;
use crate::policy::fold::Segment;

/// Changes in a slot from which on it gets a fan: a tree of so many has two levels, and a fan is
/// not slower.
const FAN_FROM: usize = V6_LEAF_SEGMENTS * V6_NODE_FANOUT;

/// Children of a fan for each change: so many that most have none, and a source in no list is
/// passed after one line of the fan.
const SPREAD: usize = 4;

/// Words of a block.
const WORDS: u32 = 8;

/// Blocks that [`write`] will add.
pub(super) fn count(segments: &[Segment<u128>]) -> u64 {
    slots(segments).map(|slot| slot.blocks()).sum()
}

/// Adds the blocks below the root, and fills the root.
pub(super) fn write(segments: &[Segment<u128>], tables: &mut Tables) {
    for (number, slot) in (0..).zip(slots(segments)) {
        let entry = slot.write(tables);
        tables.set_v6_root(number, entry);
    }
}

/// Blocks of `slot`, whose `segments` begin at its lowest address.
pub(super) fn slot_blocks(slot: u32, segments: &[Segment<u128>]) -> u64 {
    of_slot(slot, segments).map_or(0, Run::blocks)
}

/// Adds the blocks of that slot, and writes its entry of the root.
pub(super) fn write_slot(slot: u32, segments: &[Segment<u128>], tables: &mut Tables) {
    if let Some(run) = of_slot(slot, segments) {
        let entry = run.write(tables);
        tables.set_v6_root(slot, entry);
    }
}

fn of_slot(slot: u32, segments: &[Segment<u128>]) -> Option<Run<'_>> {
    let (first, inside) = segments.split_first()?;
    Some(Run { start: u128::from(slot) << (128 - V6_ROOT_BITS), first: first.decision, inside })
}

/// Segments that share the leading bits of their addresses.
#[derive(Clone, Copy)]
struct Run<'a> {
    /// The lowest address.
    start: u128,
    /// What holds there.
    first: Decision,
    /// The segments that begin further on.
    inside: &'a [Segment<u128>],
}

/// Every slot of the root with its segments.
fn slots(segments: &[Segment<u128>]) -> impl Iterator<Item = Run<'_>> {
    cut(segments, Decision::PASS, 0, V6_ROOT_BITS, 1 << V6_ROOT_BITS)
}

/// Cuts `segments` into `count` runs, each of the addresses that share their first `bits` bits, from
/// the address `start` on, where `decision` holds.
fn cut(
    segments: &[Segment<u128>],
    mut decision: Decision,
    start: u128,
    bits: u32,
    count: u32,
) -> impl Iterator<Item = Run<'_>> {
    let mut left = segments;
    (0..count).map(move |number| {
        let start = start + (u128::from(number) << (128 - bits));
        take(&mut left, &mut decision, start, start | u128::MAX >> bits)
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
    let run = Run { start, first: *decision, inside };
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

    /// Blocks of a slot.
    fn blocks(self) -> u64 {
        let Some(fan) = self.fan() else {
            return self.tree_blocks();
        };
        let (mut records, mut cells, mut trees) = (0, 0, 0);
        for part in fan.parts() {
            match fan.child(part.run) {
                Child::Common => continue,
                Child::Cell { .. } => cells += 1,
                Child::Tree => trees += part.run.tree_blocks(),
                Child::Decision(_) | Child::Prefix { .. } => {}
            }
            records += part.children.len();
        }
        (fan.lines() + fan.record_blocks(records) + fan.cell_blocks(cells)) as u64 + trees
    }

    /// Adds the blocks of a slot.
    fn write(self, tables: &mut Tables) -> V6Entry {
        match self.fan() {
            Some(fan) => fan.write(tables),
            None => V6Entry::plain(self.write_tree(tables)),
        }
    }

    /// The fan of a slot, if it is worth one.
    fn fan(self) -> Option<Fan<'a>> {
        if self.inside.len() < FAN_FROM {
            return None;
        }
        let wanted = (self.inside.len() * SPREAD).next_power_of_two().trailing_zeros();
        let bits = wanted.clamp(V6_LINE_BITS, V6_FAN_BITS);
        let mut fan = Fan { run: self, bits, common: self.first };
        let mut children: BTreeMap<u16, usize> = BTreeMap::new();
        let mut fullest = 0;
        for part in fan.parts() {
            fullest = fullest.max(part.run.inside.len());
            *children.entry(part.run.first.bits()).or_default() += part.children.len();
        }
        // Where everything is in one child, a fan is only one step more.
        if fullest > self.inside.len() / 2 {
            return None;
        }
        let common = children.into_iter().max_by_key(|&(_, count)| count)?;
        fan.common = Decision::from_bits(common.0);
        Some(fan)
    }

    /// Blocks of the tree.
    fn tree_blocks(self) -> u64 {
        let mut upper_keys = 0;
        let low_trees: u64 =
            self.upper_keys().inspect(|_| upper_keys += 1).map(|(_, run)| tree_blocks(run.len())).sum();
        low_trees + tree_blocks(upper_keys)
    }

    /// Adds the tree.
    fn write_tree(self, tables: &mut Tables) -> Entry {
        let keys: Vec<(u64, Entry)> = self
            .upper_keys()
            .map(|(key, run)| match run.inside {
                [] => (key, Entry::decision(run.first)),
                _ => {
                    let low: Vec<(u64, Entry)> = run.low_keys().collect();
                    (key, write_tree(&low, tables).low())
                }
            })
            .collect();
        write_tree(&keys, tables)
    }

    /// The upper keys at which something changes, each with the segments of that key; the first is
    /// that of the run's start. Where something changes within a key, what holds after it starts
    /// with the next.
    fn upper_keys(self) -> impl Iterator<Item = (u64, Run<'a>)> {
        let mut decision = self.first;
        let mut left = self.inside;
        let mut next = Some(upper_key(self.start));
        let slot = self.start & !(UPPER_MASK << V6_LOW_BITS | LOW_MASK);
        iter::from_fn(move || {
            let key = next?;
            let start = slot | u128::from(key) << V6_LOW_BITS;
            let run = take(&mut left, &mut decision, start, start | LOW_MASK);
            let changed_within = !run.inside.is_empty();
            next = if changed_within && key < u64::MAX >> 1 {
                Some(key + 1)
            } else {
                left.first().map(|segment| upper_key(segment.first))
            };
            Some((key, run))
        })
    }

    /// The low keys of a run within one upper key, each with its decision.
    fn low_keys(self) -> impl Iterator<Item = (u64, Entry)> {
        iter::once((0, Entry::decision(self.first))).chain(
            self.inside.iter().map(|segment| (low_key(segment.first), Entry::decision(segment.decision))),
        )
    }
}

fn upper_key(address: u128) -> u64 {
    (address >> V6_LOW_BITS & UPPER_MASK) as u64
}

fn low_key(address: u128) -> u64 {
    (address & LOW_MASK) as u64
}

/// The fan of a slot.
struct Fan<'a> {
    run: Run<'a>,
    /// Bits that it consumes.
    bits: u32,
    /// What most children are.
    common: Decision,
}

/// One child with changes inside, or several in a row without.
struct Part<'a> {
    children: Range<u32>,
    run: Run<'a>,
}

/// What a fan has of a child.
#[derive(Clone, Copy)]
enum Child {
    /// The common decision; no record.
    Common,
    /// Another decision.
    Decision(Decision),
    /// One prefix, up to /64, within the common decision.
    Prefix { high: u64, length: u32, decision: Decision },
    /// One prefix beyond /64 within the common decision.
    Cell { address: u128, length: u32, decision: Decision },
    /// Anything else.
    Tree,
}

impl<'a> Fan<'a> {
    /// All children, in order.
    fn parts(&self) -> impl Iterator<Item = Part<'a>> + use<'a> {
        let (start, shift) = (self.run.start, 128 - V6_ROOT_BITS - self.bits);
        let end = 1u32 << self.bits;
        let mut left = self.run.inside;
        let mut decision = self.run.first;
        let mut next = 0;
        iter::from_fn(move || {
            if next == end {
                return None;
            }
            let from = next;
            let first = start + (u128::from(from) << shift);
            if let Some((change, rest)) = left.split_first()
                && change.first == first
            {
                decision = change.decision;
                left = rest;
            }
            let child =
                left.first().map_or(end, |segment| ((segment.first - start) >> shift & 0xffff_ffff) as u32);
            let run = if child == from {
                next = from + 1;
                take(&mut left, &mut decision, first, first | ((1 << shift) - 1))
            } else {
                next = child;
                Run { start: first, first: decision, inside: &[] }
            };
            Some(Part { children: from..next, run })
        })
    }

    fn child(&self, child: Run<'_>) -> Child {
        // The only run of addresses with another decision than the common one.
        let (outside, common) = (child.first == self.common, self.common);
        let (from, after, decision) = match *child.inside {
            [] if outside => return Child::Common,
            [] => return Child::Decision(child.first),
            [one] if outside => (one.first, None, one.decision),
            [one] if one.decision == common => (child.start, Some(one.first), child.first),
            [one, after] if outside && after.decision == common => {
                (one.first, Some(after.first), one.decision)
            }
            _ => return Child::Tree,
        };
        let last = after.map_or(child.start | u128::MAX >> (V6_ROOT_BITS + self.bits), |after| after - 1);
        let length = (from ^ last).leading_zeros();
        let host = u128::MAX.checked_shr(length).unwrap_or(0);
        if from & host != 0 || last & host != host {
            return Child::Tree;
        }
        if length <= 64 {
            Child::Prefix { high: (from >> 64) as u64, length, decision }
        } else {
            Child::Cell { address: from, length, decision }
        }
    }

    /// Blocks with the bits of the children.
    fn lines(&self) -> usize {
        1 << (self.bits - V6_LINE_BITS)
    }

    fn record_blocks(&self, records: usize) -> usize {
        records.div_ceil(WORDS as usize)
    }

    fn cell_blocks(&self, cells: usize) -> usize {
        (cells * 2).div_ceil(WORDS as usize)
    }

    /// Adds the lines, the records, the cells, and the trees behind them.
    fn write(&self, tables: &mut Tables) -> V6Entry {
        let parts: Vec<(Part<'a>, Child)> = self
            .parts()
            .map(|part| {
                let child = self.child(part.run);
                (part, child)
            })
            .filter(|(_, child)| !matches!(child, Child::Common))
            .collect();
        let records = parts.iter().map(|(part, _)| part.children.len()).sum();
        let cells = parts.iter().filter(|(_, child)| matches!(child, Child::Cell { .. })).count();
        let lines = tables.reserve(self.lines());
        let mut record = tables.reserve(self.record_blocks(records)) * WORDS;
        let mut cell = tables.reserve(self.cell_blocks(cells)) * WORDS;
        let mut line = Line { children: [0; 4], first: record };
        let mut at = 0;
        for (Part { children, run }, child) in parts {
            let word = match child {
                Child::Common => continue,
                Child::Decision(decision) => V6Record::plain(Entry::decision(decision)),
                Child::Prefix { high, length, decision } => V6Record::prefix(high, length, decision),
                Child::Cell { address, length, decision } => {
                    let words = v6_cell((address >> 64) as u64, (address & LOW_HALF) as u64, decision);
                    for (number, word) in (cell..).zip(words) {
                        tables.set_v6_word(number, word);
                    }
                    cell += 2;
                    V6Record::cell(cell - 2, length)
                }
                Child::Tree => V6Record::plain(run.write_tree(tables)),
            };
            for child in children {
                // Lines without any record are written, too.
                while at < child >> V6_LINE_BITS {
                    *tables.block_mut(lines + at) = line.block();
                    line = Line { children: [0; 4], first: record };
                    at += 1;
                }
                line.children[(child >> 6 & 3) as usize] |= 1 << (child & 63);
                tables.set_v6_word(record, word.word());
                record += 1;
            }
        }
        // The lines behind the last record are zero already: they have no children.
        *tables.block_mut(lines + at) = line.block();
        V6Entry::fan(lines, self.bits, self.common)
    }
}

/// A line that is being written.
struct Line {
    children: [u64; 4],
    first: u32,
}

impl Line {
    fn block(&self) -> Block {
        v6_line(self.children, self.first)
    }
}

const LOW_HALF: u128 = u64::MAX as u128;

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
