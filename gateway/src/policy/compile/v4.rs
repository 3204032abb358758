//! Writes the IPv4 segments into buckets; the layout is the contract's.

use gateway_ebpf::generation::{
    Block, Decision, Entry, V4_INDEX_FANOUT, V4_KEY_BITS, V4_LANES, V4_LEAF_SEGMENTS, V4_ROOT_BITS,
    V4_SPLIT_KEY_BITS, V4Entry, set_v4_bitmap, set_v4_split, v4_index, v4_leaf, v4_points, v4_toggles,
};

use super::Tables;
use crate::policy::fold::Segment;

/// Blocks that [`write`] will add.
pub(super) fn count(segments: &[Segment<u32>]) -> u64 {
    let mut halves = 0;
    let blocks: usize = buckets(segments)
        .map(|(_, bucket)| {
            let shape = bucket.shape();
            halves += u64::from(matches!(shape, Shape::Bitmap(_)));
            bucket.blocks(shape)
        })
        .sum();
    blocks as u64 + halves.div_ceil(2)
}

/// Adds the blocks below the root, and fills the root.
pub(super) fn write(segments: &[Segment<u32>], tables: &mut Tables) {
    let mut half = None;
    for (slot, bucket) in buckets(segments) {
        let entry = bucket.write(tables, &mut half);
        tables.set_v4_root(slot, entry);
    }
}

/// Blocks of the bucket of `slot`, whose `segments` begin at its lowest address; half a block counts
/// as one.
pub(super) fn slot_blocks(slot: u32, segments: &[Segment<u32>]) -> u64 {
    Bucket::of_slot(slot, segments).map_or(0, |bucket| {
        let shape = bucket.shape();
        bucket.blocks(shape) as u64 + u64::from(matches!(shape, Shape::Bitmap(_)))
    })
}

/// Adds the blocks of that bucket, and writes its entry of the root. `half` is the block with room
/// for another bitmap.
pub(super) fn write_slot(slot: u32, segments: &[Segment<u32>], tables: &mut Tables, half: &mut Option<u32>) {
    if let Some(bucket) = Bucket::of_slot(slot, segments) {
        let entry = bucket.write(tables, half);
        tables.set_v4_root(slot, entry);
    }
}

/// Every bucket with the slot that it has in the root.
fn buckets(segments: &[Segment<u32>]) -> impl Iterator<Item = (u32, Bucket<'_>)> {
    cut(segments, Decision::PASS, 0, V4_KEY_BITS, 1 << V4_ROOT_BITS)
}

/// Cuts `segments` into `count` buckets of `key_bits` bits from the address `start` on, where
/// `decision` holds.
fn cut(
    segments: &[Segment<u32>],
    mut decision: Decision,
    start: u32,
    key_bits: u32,
    count: u32,
) -> impl Iterator<Item = (u32, Bucket<'_>)> {
    let mut left = segments;
    (0..count).map(move |slot| {
        let start = start + (slot << key_bits);
        if let Some((first, rest)) = left.split_first()
            && first.first == start
        {
            decision = first.decision;
            left = rest;
        }
        let last = start | ((1 << key_bits) - 1);
        let end = left.iter().position(|segment| segment.first > last).unwrap_or(left.len());
        let (inside, after) = left.split_at(end);
        let bucket = Bucket { start, first: decision, inside };
        left = after;
        if let Some(last) = inside.last() {
            decision = last.decision;
        }
        (slot, bucket)
    })
}

/// The segments of one bucket.
#[derive(Clone, Copy)]
struct Bucket<'a> {
    /// The lowest address.
    start: u32,
    /// What holds there.
    first: Decision,
    /// The segments that begin further on.
    inside: &'a [Segment<u32>],
}

/// How a bucket is written: the first of these that can.
#[derive(Clone, Copy)]
enum Shape {
    Decision,
    /// With the second decision, like the next two.
    Bitmap(Decision),
    Points(Decision),
    Toggles(Decision),
    Leaf,
    Index,
    Split,
}

impl<'a> Bucket<'a> {
    fn of_slot(slot: u32, segments: &'a [Segment<u32>]) -> Option<Self> {
        let (first, inside) = segments.split_first()?;
        Some(Self { start: slot << V4_KEY_BITS, first: first.decision, inside })
    }
}

impl Bucket<'_> {
    fn shape(&self) -> Shape {
        let Some(next) = self.inside.first() else {
            return Shape::Decision;
        };
        if self.in_turns(next.decision) {
            if self.inside.iter().all(|segment| segment.first.trailing_zeros() >= 8) {
                return Shape::Bitmap(next.decision);
            }
            if self.points().nth(V4_LANES).is_none() {
                return Shape::Points(next.decision);
            }
            if self.inside.len() <= V4_LANES {
                return Shape::Toggles(next.decision);
            }
        }
        match self.len() {
            ..=V4_LEAF_SEGMENTS => Shape::Leaf,
            len if len <= V4_LEAF_SEGMENTS * V4_INDEX_FANOUT => Shape::Index,
            _ => Shape::Split,
        }
    }

    /// Whether the bucket knows two decisions only. Neighbours differ, so they take turns.
    fn in_turns(&self, second: Decision) -> bool {
        let expected = [second, self.first];
        self.inside
            .iter()
            .zip(expected.iter().cycle())
            .all(|(segment, expected)| segment.decision == *expected)
    }

    /// The keys with the second decision, when there are two.
    fn points(&self) -> impl Iterator<Item = u16> {
        let changes = self.inside.chunks(2);
        changes.flat_map(|change| {
            let from = self.key(change[0].first);
            let to = change.get(1).map_or(u16::MAX, |after| self.key(after.first) - 1);
            from..=to
        })
    }

    /// The key of an address.
    fn key(&self, address: u32) -> u16 {
        ((address - self.start) & 0xffff) as u16
    }

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
                (self.key(first), decision)
            }
        }
    }

    /// Whole blocks that the bucket takes; a bitmap takes half a block.
    fn blocks(&self, shape: Shape) -> usize {
        match shape {
            Shape::Decision | Shape::Bitmap(_) => 0,
            Shape::Points(_) | Shape::Toggles(_) | Shape::Leaf => 1,
            Shape::Index => 1 + self.leaves(),
            Shape::Split => 1 + self.parts().map(|(_, part)| part.blocks_of_part()).sum::<usize>(),
        }
    }

    fn leaves(&self) -> usize {
        self.len().div_ceil(V4_LEAF_SEGMENTS)
    }

    /// Adds the bucket's blocks. `half` is the block with room for another bitmap.
    fn write(&self, tables: &mut Tables, half: &mut Option<u32>) -> V4Entry {
        let at = tables.end();
        match self.shape() {
            Shape::Decision => V4Entry::decision(self.first),
            Shape::Bitmap(second) => {
                let (at, place) = half.take().map_or((at, 0), |at| (at, 1));
                if place == 0 {
                    tables.push(Block::default());
                    *half = Some(at);
                }
                set_v4_bitmap(tables.block_mut(at), place, self.bits());
                V4Entry::bitmap(at, place, [self.first, second])
            }
            Shape::Points(second) => {
                tables.push(v4_points(self.points()));
                V4Entry::points(at, [self.first, second])
            }
            Shape::Toggles(second) => {
                tables.push(v4_toggles(self.inside.iter().map(|segment| self.key(segment.first))));
                V4Entry::toggles(at, self.inside.len(), [self.first, second])
            }
            Shape::Leaf => {
                self.write_leaves(0, 1, tables);
                V4Entry::leaf(at)
            }
            Shape::Index => {
                self.write_index(0, self.leaves(), tables);
                V4Entry::index(at, self.leaves())
            }
            Shape::Split => {
                let mut split = Block::default();
                tables.push(split);
                for (slot, part) in self.parts() {
                    set_v4_split(&mut split, slot, part.write_part(tables));
                }
                *tables.block_mut(at) = split;
                V4Entry::split(at)
            }
        }
    }

    /// A bit for each /24 that has the second decision.
    fn bits(&self) -> [u64; 4] {
        let mut bits = [0; 4];
        for change in self.inside.chunks(2) {
            let from = self.key(change[0].first) >> 8;
            let to = change.get(1).map_or(256, |after| self.key(after.first) >> 8);
            for place in usize::from(from)..usize::from(to) {
                bits[place >> 6] |= 1 << (place & 63);
            }
        }
        bits
    }

    /// The buckets below a split.
    fn parts(&self) -> impl Iterator<Item = (u32, Bucket<'_>)> {
        cut(self.inside, self.first, self.start, V4_SPLIT_KEY_BITS, 1 << (V4_KEY_BITS - V4_SPLIT_KEY_BITS))
    }

    fn blocks_of_part(&self) -> usize {
        match self.leaves() {
            1 if self.len() == 1 => 0,
            1 => 1,
            leaves if leaves <= V4_INDEX_FANOUT => 1 + leaves,
            leaves => 1 + leaves.div_ceil(V4_INDEX_FANOUT) + leaves,
        }
    }

    fn write_part(&self, tables: &mut Tables) -> Entry {
        let leaves = self.leaves();
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
