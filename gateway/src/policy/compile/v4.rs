//! Writes the IPv4 segments into buckets; the layout is the contract's.

use gateway_ebpf::generation::{
    Decision, Entry, V4_BUCKET_BITS, V4_INDEX_FANOUT, V4_LEAF_SEGMENTS, V4_ROOT, V4_ROOT_BITS, v4_index,
    v4_leaf,
};

use super::Tables;
use crate::policy::fold::Segment;

/// Blocks that [`write`] will add.
pub(super) fn count(segments: &[Segment<u32>]) -> u64 {
    buckets(segments).map(|(_, bucket)| bucket.blocks() as u64).sum()
}

/// Adds the blocks below the root, and fills the root.
pub(super) fn write(segments: &[Segment<u32>], tables: &mut Tables) {
    for (slot, bucket) in buckets(segments) {
        let entry = bucket.write(tables);
        tables.set_root(V4_ROOT, slot, entry);
    }
}

/// Every bucket with the slot that it has in the root.
fn buckets(segments: &[Segment<u32>]) -> impl Iterator<Item = (u32, Bucket<'_>)> {
    let mut decision = Decision::PASS;
    let mut left = segments;
    (0..1 << V4_ROOT_BITS).map(move |slot| {
        let start = slot << V4_BUCKET_BITS;
        if let Some((first, rest)) = left.split_first()
            && first.first == start
        {
            decision = first.decision;
            left = rest;
        }
        let end =
            left.iter().position(|segment| segment.first >> V4_BUCKET_BITS != slot).unwrap_or(left.len());
        let (inside, after) = left.split_at(end);
        let bucket = Bucket { first: decision, inside };
        left = after;
        if let Some(last) = inside.last() {
            decision = last.decision;
        }
        (slot, bucket)
    })
}

/// The segments of one bucket.
struct Bucket<'a> {
    /// What holds at the start.
    first: Decision,
    /// The segments that begin further on.
    inside: &'a [Segment<u32>],
}

impl Bucket<'_> {
    /// Segments of the bucket, the first included.
    fn len(&self) -> usize {
        1 + self.inside.len()
    }

    /// Segment `at`: the key where it begins, and its decision.
    fn segment(&self, at: usize) -> (u16, Decision) {
        match at.checked_sub(1) {
            None => (0, self.first),
            Some(at) => {
                let Segment { first, decision } = self.inside[at];
                let key = (first & ((1 << V4_BUCKET_BITS) - 1)) as u16;
                (key, decision)
            }
        }
    }

    fn blocks(&self) -> usize {
        let leaves = self.len().div_ceil(V4_LEAF_SEGMENTS);
        match self.len() {
            1 => 0,
            _ if leaves == 1 => 1,
            _ if leaves <= V4_INDEX_FANOUT => 1 + leaves,
            _ => 1 + leaves.div_ceil(V4_INDEX_FANOUT) + leaves,
        }
    }

    fn write(&self, tables: &mut Tables) -> Entry {
        let leaves = self.len().div_ceil(V4_LEAF_SEGMENTS);
        let at = tables.end();
        if self.len() == 1 {
            Entry::decision(self.first)
        } else if leaves == 1 {
            self.write_leaves(0, 1, tables);
            Entry::leaf(at)
        } else if leaves <= V4_INDEX_FANOUT {
            self.write_index(0, leaves, tables);
            Entry::node(at)
        } else {
            let below = (0..leaves).step_by(V4_INDEX_FANOUT);
            tables.push(v4_index(below.clone().map(|leaf| self.leaf_key(leaf))));
            for first in below {
                self.write_index(first, leaves.min(first + V4_INDEX_FANOUT), tables);
            }
            Entry::top(at)
        }
    }

    /// Adds an index and, right behind it, its leaves `from..to`.
    fn write_index(&self, from: usize, to: usize, tables: &mut Tables) {
        tables.push(v4_index((from..to).map(|leaf| self.leaf_key(leaf))));
        self.write_leaves(from, to, tables);
    }

    fn write_leaves(&self, from: usize, to: usize, tables: &mut Tables) {
        for leaf in from..to {
            let first = leaf * V4_LEAF_SEGMENTS;
            let end = self.len().min(first + V4_LEAF_SEGMENTS);
            tables.push(v4_leaf((first..end).map(|at| self.segment(at))));
        }
    }

    /// The key where a leaf begins.
    fn leaf_key(&self, leaf: usize) -> u16 {
        self.segment(leaf * V4_LEAF_SEGMENTS).0
    }
}
