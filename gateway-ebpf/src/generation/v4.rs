//! IPv4: a root of buckets, and below an entry of the root as little as its bucket needs.
//!
//! The top 16 bits of an address choose an entry of the root; the low 16 bits, the *key*, are
//! searched below it. A *segment* is a run of addresses with one decision. Most buckets of real
//! lists know only two decisions, in turns, so those stand in the entry itself, and what hangs
//! below says no more than which of the two: one cache line that is read at one dependent step.
//! Memory is slow and arithmetic is not: what decides about the speed is how many lines there are
//! for the caches to hold (see `docs/measurements.md`).
//!
//! - Bitmap, half a block: one bit for each /24. Every segment begins at a /24.
//! - Points, a block: 32 keys that have the second decision.
//! - Toggles, a block: 32 keys at which the decision changes to the other one.
//! - Leaf, a block: 16 segments, any decisions; words 0 to 3 hold their first keys, four 16-bit
//!   lanes to a word, words 4 to 7 their decisions.
//! - Index, a block: the first keys of up to 32 leaves, which are the next blocks.
//! - Split, a block: 16 entries as in IPv6's root, one for each /20, whose keys are the low 12 bits.
//!   Below it are leaves, indices (nodes) and indices above indices (tops). The children of a top
//!   follow it with their own leaves, 33 blocks each, all of them full but the last.
//!
//! A /20 has 4,096 addresses, so two levels of index cover the worst one: 32 × 32 × 16.

use super::{Block, Blocks, Decision, ENTRIES_PER_BLOCK, Entry, Kind, V4_ROOT};

/// Bits of an address that the root consumes.
pub const V4_ROOT_BITS: u32 = 16;

/// Bits of an address that are searched below the root.
pub const V4_KEY_BITS: u32 = 32 - V4_ROOT_BITS;

/// Bits of a key that are searched below a split.
pub const V4_SPLIT_KEY_BITS: u32 = 12;

/// Entries of the root in one block.
pub(super) const V4_ENTRIES_PER_BLOCK: u32 = 8;

/// Addresses of a block of points, and changes of a block of toggles.
pub const V4_LANES: usize = 32;

/// Segments of a leaf block.
pub const V4_LEAF_SEGMENTS: usize = 16;

/// Children of an index block.
pub const V4_INDEX_FANOUT: usize = 32;

/// Blocks of a full index with its leaves.
const INDEX_STRIDE: u32 = V4_INDEX_FANOUT as u32 + 1;

const _: () = assert!(V4_INDEX_FANOUT.pow(2) * V4_LEAF_SEGMENTS >= 1 << V4_SPLIT_KEY_BITS);
const _: () = assert!(1 << (V4_KEY_BITS - V4_SPLIT_KEY_BITS) == ENTRIES_PER_BLOCK);
const _: () = assert!(V4_ENTRIES_PER_BLOCK as usize * size_of::<V4Entry>() == size_of::<Block>());

/// The highest key, also in lanes that are not used: see [`v4_leaf`] and its like.
const UNUSED: u64 = 0xffff;

/// The value 1 in each of the four lanes of a word.
const LANES: u64 = 0x0001_0001_0001_0001;

/// The top bit of each lane.
const TOPS: u64 = LANES << 15;

/// An entry of the root.
///
/// Bits 61 to 63 hold the kind, bits 32 to 60 the place of what hangs below in halves of blocks,
/// bits 0 to 15 the first decision and bits 16 to 31 the second; for an index, the low bits hold
/// how many children it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct V4Entry(u64);

/// What hangs below an entry of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Shape {
    Decision = 0,
    Bitmap = 1,
    Points = 2,
    Toggles = 3,
    Leaf = 4,
    Index = 5,
    Split = 6,
}

impl V4Entry {
    const KIND_SHIFT: u32 = 61;
    const PLACE_SHIFT: u32 = 32;

    /// Highest block index that an entry can hold.
    pub const MAX_INDEX: u32 = (1 << (Self::KIND_SHIFT - Self::PLACE_SHIFT - 1)) - 1;

    /// One decision for the whole bucket.
    pub const fn decision(decision: Decision) -> Self {
        Self(decision.0 as u64)
    }

    /// The half `half` (0 or 1) of the block at `index`, made by [`set_v4_bitmap`]: `decisions[1]`
    /// where a bit is set.
    pub const fn bitmap(index: u32, half: u32, decisions: [Decision; 2]) -> Self {
        Self::below(Shape::Bitmap, index, half, decisions)
    }

    /// A block made by [`v4_points`]: `decisions[1]` at its keys.
    pub const fn points(index: u32, decisions: [Decision; 2]) -> Self {
        Self::below(Shape::Points, index, 0, decisions)
    }

    /// A block made by [`v4_toggles`] of `changes` keys: `decisions[0]` before the first of them.
    pub const fn toggles(index: u32, changes: usize, decisions: [Decision; 2]) -> Self {
        let [before, after] = decisions;
        // An odd number is made even by a change at the lowest key.
        let decisions = if changes & 1 == 0 { [before, after] } else { [after, before] };
        Self::below(Shape::Toggles, index, 0, decisions)
    }

    /// A block made by [`v4_leaf`].
    pub const fn leaf(index: u32) -> Self {
        Self::below(Shape::Leaf, index, 0, [Decision::PASS; 2])
    }

    /// A block made by [`v4_index`] of `children` keys.
    pub const fn index(index: u32, children: usize) -> Self {
        Self::below(Shape::Index, index, 0, [Decision::from_bits(children as u16), Decision::PASS])
    }

    /// A block of 16 entries, see [`set_v4_split`].
    pub const fn split(index: u32) -> Self {
        Self::below(Shape::Split, index, 0, [Decision::PASS; 2])
    }

    const fn below(shape: Shape, index: u32, half: u32, decisions: [Decision; 2]) -> Self {
        let place = (index & Self::MAX_INDEX) << 1 | half & 1;
        Self(
            (shape as u64) << Self::KIND_SHIFT
                | (place as u64) << Self::PLACE_SHIFT
                | (decisions[1].0 as u64) << 16
                | decisions[0].0 as u64,
        )
    }

    #[inline(always)]
    const fn is(self, shape: Shape) -> bool {
        self.0 >> Self::KIND_SHIFT == shape as u64
    }

    #[inline(always)]
    const fn block(self) -> u32 {
        (self.0 >> (Self::PLACE_SHIFT + 1)) as u32 & Self::MAX_INDEX
    }

    #[inline(always)]
    const fn half(self) -> u64 {
        self.0 >> Self::PLACE_SHIFT & 1
    }

    /// The first decision, or the second when `second` is 1.
    #[inline(always)]
    const fn choose(self, second: u64) -> Decision {
        Decision((self.0 >> (second * 16) & 0xffff) as u16)
    }
}

/// The decision on an IPv4 address, in host byte order.
#[inline(always)]
pub fn lookup_v4<B: Blocks + ?Sized>(blocks: &B, address: u32) -> Decision {
    let slot = address >> V4_KEY_BITS;
    let mut key = u64::from(address & ((1 << V4_KEY_BITS) - 1));
    let Some(root) = blocks.block(V4_ROOT.wrapping_add(slot / V4_ENTRIES_PER_BLOCK)) else {
        return Decision::PASS;
    };
    let entry = V4Entry(root[(slot % V4_ENTRIES_PER_BLOCK) as usize]);
    if entry.is(Shape::Decision) {
        return entry.choose(0);
    }
    let mut at = entry.block();
    let Some(block) = blocks.block(at) else {
        return Decision::PASS;
    };
    if entry.is(Shape::Bitmap) {
        let word = block[(entry.half() << 2 | key >> 14) as usize & 7];
        return entry.choose(word >> (key >> 8 & 63) & 1);
    }
    if entry.is(Shape::Points) {
        return entry.choose(is_among(key, block));
    }
    if entry.is(Shape::Toggles) {
        return entry.choose(parity(key, block));
    }
    // The children of an index follow it, so the one that is sought is as many blocks further on as
    // first keys are at most the key.
    if entry.is(Shape::Index) {
        let children = u32::from(entry.choose(0).0);
        at = at.wrapping_add(rank_index(block, key).min(children));
    }
    if entry.is(Shape::Split) {
        let word = block[(key >> (V4_SPLIT_KEY_BITS + 1)) as usize & 7];
        let mut below = Entry((word >> ((key >> V4_SPLIT_KEY_BITS & 1) * 32)) as u32);
        if matches!(below.kind(), Kind::Decision) {
            return below.to_decision();
        }
        key &= (1 << V4_SPLIT_KEY_BITS) - 1;
        if matches!(below.kind(), Kind::Top) {
            let Some(top) = blocks.block(below.index()) else {
                return Decision::PASS;
            };
            let before = last_at_most(rank_index(top, key)).wrapping_mul(INDEX_STRIDE);
            below = Entry::node(below.index().wrapping_add(before).wrapping_add(1));
        }
        at = below.index();
        if matches!(below.kind(), Kind::Node) {
            let Some(index) = blocks.block(at) else {
                return Decision::PASS;
            };
            at = at.wrapping_add(rank_index(index, key));
        }
    }
    let Some(leaf) = blocks.block(at) else {
        return Decision::PASS;
    };
    let [a, b, c, d, ..] = *leaf;
    let segment = last_at_most(rank(key, [a, b, c, d])) & (V4_LEAF_SEGMENTS as u32 - 1);
    let word = leaf[(4 + (segment >> 2)) as usize & 7];
    Decision::from_bits((word >> ((segment & 3) * 16) & 0xffff) as u16)
}

/// How many keys of an index block are at most `key`; at most as many as it can have.
#[inline(always)]
fn rank_index(block: &Block, key: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = *block;
    rank(key, [a, b, c, d]).wrapping_add(rank(key, [e, f, g, h]))
}

/// How many of the 16 lanes are at most `key`, without a branch.
#[inline(always)]
fn rank(key: u64, words: [u64; 4]) -> u32 {
    let keys = key.wrapping_mul(LANES);
    let [a, b, c, d] = words;
    let sum = (at_most(a, keys) >> 15)
        .wrapping_add(at_most(b, keys) >> 15)
        .wrapping_add(at_most(c, keys) >> 15)
        .wrapping_add(at_most(d, keys) >> 15);
    // The product's top lane is the sum of the four lanes.
    (sum.wrapping_mul(LANES) >> 48) as u32
}

/// 1 when an odd number of the block's 32 lanes are at most `key`, else 0.
#[inline(always)]
fn parity(key: u64, block: &Block) -> u64 {
    let keys = key.wrapping_mul(LANES);
    let [a, b, c, d, e, f, g, h] = *block;
    let odd = at_most(a, keys)
        ^ at_most(b, keys)
        ^ at_most(c, keys)
        ^ at_most(d, keys)
        ^ at_most(e, keys)
        ^ at_most(f, keys)
        ^ at_most(g, keys)
        ^ at_most(h, keys);
    let odd = odd ^ odd >> 32;
    (odd ^ odd >> 16) >> 15 & 1
}

/// The top bit of each lane of `word` that is at most the key, of which each lane of `keys` is a
/// copy: what the lanes' lower 15 bits say after a subtraction that borrows from nobody counts only
/// where the top bits are the same.
#[inline(always)]
const fn at_most(word: u64, keys: u64) -> u64 {
    let low = (keys | TOPS).wrapping_sub(word & !TOPS);
    (keys & !word | !(keys ^ word) & low) & TOPS
}

/// 1 when one of the block's 32 lanes is `key`, else 0.
#[inline(always)]
fn is_among(key: u64, block: &Block) -> u64 {
    let keys = key.wrapping_mul(LANES);
    let [a, b, c, d, e, f, g, h] = *block;
    let found = zeroes(a ^ keys)
        | zeroes(b ^ keys)
        | zeroes(c ^ keys)
        | zeroes(d ^ keys)
        | zeroes(e ^ keys)
        | zeroes(f ^ keys)
        | zeroes(g ^ keys)
        | zeroes(h ^ keys);
    (found != 0) as u64
}

/// Not zero exactly when a lane of `word` is: the lowest such lane is the first that borrows.
#[inline(always)]
const fn zeroes(word: u64) -> u64 {
    word.wrapping_sub(LANES) & !word & TOPS
}

/// From the number of keys at most the one sought to the position of the last of them. The first
/// key of a block never exceeds a key that led to it, so the number is at least 1.
#[inline(always)]
const fn last_at_most(count: u32) -> u32 {
    count.wrapping_sub(1)
}

/// Writes `entry` into slot `slot` of the root; `false` when `blocks` ends before it.
#[must_use]
pub fn set_v4_root(blocks: &mut [Block], slot: u32, entry: V4Entry) -> bool {
    let Some(block) = blocks.get_mut((V4_ROOT + slot / V4_ENTRIES_PER_BLOCK) as usize) else {
        return false;
    };
    block[(slot % V4_ENTRIES_PER_BLOCK) as usize] = entry.0;
    true
}

/// Sets the bits of the half `half` (0 or 1) of a block: bit `n` of the 256 is for the /24 that
/// begins at the key `n << 8`.
pub fn set_v4_bitmap(block: &mut Block, half: u32, bits: [u64; 4]) {
    let words = block.iter_mut().skip((half & 1) as usize * 4);
    words.zip(bits).for_each(|(word, bits)| *word = bits);
}

/// Up to [`V4_LANES`] keys, at least one. More are ignored.
pub fn v4_points(keys: impl IntoIterator<Item = u16>) -> Block {
    let mut block = [0; 8];
    let mut keys = keys.into_iter().peekable();
    let first = keys.peek().copied().unwrap_or(0);
    for lane in 0..V4_LANES {
        set_lane(&mut block, lane, keys.next().unwrap_or(first));
    }
    block
}

/// Up to [`V4_LANES`] keys, ascending from 1, each with the one at which the decision changes. More
/// are ignored.
pub fn v4_toggles(keys: impl IntoIterator<Item = u16>) -> Block {
    // Lanes that are not used count for the highest key, but an even number of them tells nothing.
    let mut block = unused::<8>();
    let mut odd = false;
    let mut end = 0;
    for (lane, key) in keys.into_iter().take(V4_LANES).enumerate() {
        set_lane(&mut block, lane, key);
        odd = !odd;
        end = lane + 1;
    }
    if odd {
        set_lane(&mut block, end, 0);
    }
    block
}

/// A leaf of up to [`V4_LEAF_SEGMENTS`] segments, by ascending first key; the first of them is
/// where the leaf begins. More are ignored.
pub fn v4_leaf(segments: impl IntoIterator<Item = (u16, Decision)>) -> Block {
    let mut block = unused::<4>();
    let mut last = Decision::PASS;
    let mut end = 0;
    for (lane, (key, decision)) in segments.into_iter().take(V4_LEAF_SEGMENTS).enumerate() {
        set_lane(&mut block, lane, key);
        set_lane(&mut block, V4_LEAF_SEGMENTS + lane, decision.bits());
        last = decision;
        end = lane + 1;
    }
    // Lanes that are not used are found by the highest key.
    for lane in end..V4_LEAF_SEGMENTS {
        set_lane(&mut block, V4_LEAF_SEGMENTS + lane, last.bits());
    }
    block
}

/// An index of up to [`V4_INDEX_FANOUT`] children, by ascending first key. More are ignored. Lanes
/// that are not used count for the highest key, which below a split there is not, and which
/// [`V4Entry::index`] makes good.
pub fn v4_index(first_keys: impl IntoIterator<Item = u16>) -> Block {
    let mut block = unused::<8>();
    for (lane, key) in first_keys.into_iter().take(V4_INDEX_FANOUT).enumerate() {
        set_lane(&mut block, lane, key);
    }
    block
}

/// Writes the entry of the /20 number `slot` into a split.
pub fn set_v4_split(block: &mut Block, slot: u32, entry: Entry) {
    super::set_entry(block, slot, entry);
}

/// A block with unused lanes in its first `WORDS` words.
fn unused<const WORDS: usize>() -> Block {
    let mut block = [0; 8];
    block.iter_mut().take(WORDS).for_each(|word| *word = UNUSED * LANES);
    block
}

fn set_lane(block: &mut Block, lane: usize, value: u16) {
    let shift = (lane & 3) * 16;
    let word = &mut block[lane >> 2 & 7];
    *word = *word & !(0xffff << shift) | u64::from(value) << shift;
}
