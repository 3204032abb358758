//! IPv4: a root of buckets, then at most two index blocks, then a leaf.
//!
//! The top 18 bits of an address choose an entry of the root; the low 14 bits, the *key*, are
//! searched below it. A *segment* is a run of addresses with one decision.
//!
//! - Leaf: 16 segments; words 0 to 3 hold their first keys, four 16-bit lanes to a word, words 4
//!   to 7 their decisions.
//! - Index: the first keys of up to 32 children. The children of an index above leaves are the
//!   next blocks. The children of an index above indices follow it with their own leaves, 33
//!   blocks each, all of them full but the last.
//!
//! A bucket has 16,384 addresses, so two levels of index cover the worst one: 32 × 32 × 16.

use super::{Block, Blocks, Decision, Entry, Kind, V4_ROOT, root_entry};

/// Bits of an address that the root consumes.
pub const V4_ROOT_BITS: u32 = 18;

/// Bits of an address that are searched below the root.
pub const V4_BUCKET_BITS: u32 = 32 - V4_ROOT_BITS;

/// Segments of a leaf block.
pub const V4_LEAF_SEGMENTS: usize = 16;

/// Children of an index block.
pub const V4_INDEX_FANOUT: usize = 32;

/// Blocks of a full index with its leaves.
const INDEX_STRIDE: u32 = V4_INDEX_FANOUT as u32 + 1;

const _: () = assert!(V4_INDEX_FANOUT.pow(2) * V4_LEAF_SEGMENTS == 1 << V4_BUCKET_BITS);

/// A key above every real one, for lanes that are not used. The top bit of a lane stays clear for
/// the comparison, see [`rank`].
const UNUSED: u64 = 0x7fff;

/// The value 1 in each of the four lanes of a word.
const LANES: u64 = 0x0001_0001_0001_0001;

/// The decision on an IPv4 address, in host byte order.
#[inline(always)]
pub fn lookup_v4<B: Blocks + ?Sized>(blocks: &B, address: u32) -> Decision {
    let key = u64::from(address & ((1 << V4_BUCKET_BITS) - 1));
    let mut entry = root_entry(blocks, V4_ROOT, address >> V4_BUCKET_BITS);
    if matches!(entry.kind(), Kind::Decision) {
        return entry.to_decision();
    }
    if matches!(entry.kind(), Kind::Top) {
        let Some(top) = blocks.block(entry.index()) else {
            return Decision::PASS;
        };
        let child = rank_index(top, key);
        entry = Entry::node(entry.index().wrapping_add(1 + child * INDEX_STRIDE));
    }
    if matches!(entry.kind(), Kind::Node) {
        let Some(index) = blocks.block(entry.index()) else {
            return Decision::PASS;
        };
        let child = rank_index(index, key);
        entry = Entry::leaf(entry.index().wrapping_add(1 + child));
    }
    let Some(leaf) = blocks.block(entry.index()) else {
        return Decision::PASS;
    };
    let [a, b, c, d, ..] = *leaf;
    let segment = last_at_most(rank(key, [a, b, c, d])) & (V4_LEAF_SEGMENTS as u32 - 1);
    let word = leaf[(4 + (segment >> 2)) as usize & 7];
    Decision::from_bits((word >> ((segment & 3) * 16) & 0xffff) as u16)
}

/// The child of an index block that has `key`.
#[inline(always)]
fn rank_index(block: &Block, key: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = *block;
    let before = rank(key, [a, b, c, d]).wrapping_add(rank(key, [e, f, g, h]));
    last_at_most(before) & (V4_INDEX_FANOUT as u32 - 1)
}

/// How many of the 16 lanes are at most `key`, without a branch: in each lane, the top bit of
/// `key + 0x8000 - lane` survives the subtraction exactly when `lane <= key`. Both are below
/// 0x8000, so no lane borrows from its neighbour.
#[inline(always)]
fn rank(key: u64, words: [u64; 4]) -> u32 {
    let keys = key.wrapping_mul(LANES) | LANES << 15;
    let [a, b, c, d] = words;
    let sum = (keys.wrapping_sub(a) >> 15 & LANES)
        .wrapping_add(keys.wrapping_sub(b) >> 15 & LANES)
        .wrapping_add(keys.wrapping_sub(c) >> 15 & LANES)
        .wrapping_add(keys.wrapping_sub(d) >> 15 & LANES);
    // The product's top lane is the sum of the four lanes.
    (sum.wrapping_mul(LANES) >> 48) as u32
}

/// From the number of keys at most the one sought to the position of the last of them. The first
/// key of a block never exceeds a key that led to it, so the number is at least 1.
#[inline(always)]
const fn last_at_most(count: u32) -> u32 {
    count.wrapping_sub(1)
}

/// A leaf of up to [`V4_LEAF_SEGMENTS`] segments, by ascending first key; the first of them is
/// where the leaf begins. More are ignored.
pub fn v4_leaf(segments: impl IntoIterator<Item = (u16, Decision)>) -> Block {
    let mut block = lanes_unused::<4>();
    for (lane, (key, decision)) in segments.into_iter().take(V4_LEAF_SEGMENTS).enumerate() {
        set_lane(&mut block, lane, key);
        set_lane(&mut block, V4_LEAF_SEGMENTS + lane, decision.bits());
    }
    block
}

/// An index of up to [`V4_INDEX_FANOUT`] children, by ascending first key. More are ignored.
pub fn v4_index(first_keys: impl IntoIterator<Item = u16>) -> Block {
    let mut block = lanes_unused::<8>();
    for (lane, key) in first_keys.into_iter().take(V4_INDEX_FANOUT).enumerate() {
        set_lane(&mut block, lane, key);
    }
    block
}

/// A block with unused lanes in its first `WORDS` words.
fn lanes_unused<const WORDS: usize>() -> Block {
    let mut block = [0; 8];
    block.iter_mut().take(WORDS).for_each(|word| *word = UNUSED * LANES);
    block
}

fn set_lane(block: &mut Block, lane: usize, value: u16) {
    let shift = (lane & 3) * 16;
    let word = &mut block[lane >> 2 & 7];
    *word = *word & !(0xffff << shift) | u64::from(value) << shift;
}
