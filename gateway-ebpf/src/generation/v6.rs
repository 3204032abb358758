//! IPv6: a root, then a B-tree.
//!
//! An address is cut in three: 16 bits choose an entry of the root, the next 63 bits (the *upper*
//! key, down to /79) are searched in a tree below it, and only where longer prefixes share one
//! upper key are the last 49 bits (the *low* key) searched in a tree of their own. A key below
//! 2^63 can be compared by one subtraction, without a branch.
//!
//! - Node: words 0 to 6 hold the first keys of the children 1 to 7; the low half of word 7 is the
//!   entry of child 0. The children are consecutive blocks of one kind.
//! - Leaf: words 0 to 2 hold six entries: a decision, or the tree of the low keys; words 3 to 7
//!   hold the first keys of the segments 1 to 5. (The entries come first because they are read at
//!   a computed place: there the kernel's verifier, whose bound is loose, sees it inside.)
//!
//! The first key of a block is implied by the way that led to it.

use super::{Block, Blocks, Decision, Entry, Kind, root_entry};

/// Bits of an address that the root consumes.
pub const V6_ROOT_BITS: u32 = 16;

/// Bits of the upper key.
pub const V6_UPPER_BITS: u32 = 63;

/// Bits of the low key.
pub const V6_LOW_BITS: u32 = 128 - V6_ROOT_BITS - V6_UPPER_BITS;

/// Segments of a leaf.
pub const V6_LEAF_SEGMENTS: usize = 6;

/// Children of a node.
pub const V6_NODE_FANOUT: usize = 8;

/// Blocks below the root that one lookup reads at most: two trees of nine nodes and a leaf.
pub const V6_MAX_STEPS: u32 = 20;

/// A key above every real one, for words that are not used.
const UNUSED: u64 = 1 << V6_UPPER_BITS;

/// The decision on an IPv6 address: its first and its last 64 bits, in host byte order.
#[inline(always)]
pub fn lookup_v6<B: Blocks + ?Sized>(blocks: &B, high: u64, low: u64) -> Decision {
    let mut entry = root_entry(blocks, (high >> 48) as u32);
    let mut key = high << V6_ROOT_BITS >> 1 | low >> V6_LOW_BITS;
    for _ in 0..=V6_MAX_STEPS {
        if matches!(entry.kind(), Kind::Decision) {
            return entry.to_decision();
        }
        if entry.is_low() {
            key = low & ((1 << V6_LOW_BITS) - 1);
        }
        let Some(block) = blocks.block(entry.index()) else {
            return Decision::PASS;
        };
        entry =
            if matches!(entry.kind(), Kind::Leaf) { leaf_entry(block, key) } else { node_child(block, key) };
    }
    Decision::PASS
}

#[inline(always)]
fn leaf_entry(block: &Block, key: u64) -> Entry {
    let [.., a, b, c, d, e] = *block;
    let after = above(key, a)
        .wrapping_add(above(key, b))
        .wrapping_add(above(key, c))
        .wrapping_add(above(key, d))
        .wrapping_add(above(key, e));
    let segment = 5u64.wrapping_sub(after);
    let word = block[(segment >> 1) as usize & 3];
    Entry((word >> ((segment & 1) * 32)) as u32)
}

#[inline(always)]
fn node_child(block: &Block, key: u64) -> Entry {
    let [a, b, c, d, e, f, g, first] = *block;
    let after = above(key, a)
        .wrapping_add(above(key, b))
        .wrapping_add(above(key, c))
        .wrapping_add(above(key, d))
        .wrapping_add(above(key, e))
        .wrapping_add(above(key, f))
        .wrapping_add(above(key, g));
    Entry(first as u32).child(7u64.wrapping_sub(after) as u32)
}

/// 1 when `first` is above `key`, else 0; the difference of two numbers of 63 bits has its top bit
/// set exactly when it is negative.
#[inline(always)]
const fn above(key: u64, first: u64) -> u64 {
    key.wrapping_sub(first) >> 63
}

/// A leaf. `first` decides from where the leaf begins; each of `rest` from its key on, ascending.
/// At most [`V6_LEAF_SEGMENTS`] in all; more are ignored.
pub fn v6_leaf(first: Entry, rest: impl IntoIterator<Item = (u64, Entry)>) -> Block {
    let mut block = [UNUSED; 8];
    block[0] = u64::from(first.bits());
    block[1] = 0;
    block[2] = 0;
    for (at, (key, entry)) in rest.into_iter().take(V6_LEAF_SEGMENTS - 1).enumerate() {
        block[3 + at] = key;
        let slot = at + 1;
        block[slot / 2] |= u64::from(entry.bits()) << (slot % 2 * 32);
    }
    block
}

/// A node. `first` is the entry of child 0, each of `rest` the first key of a further child,
/// ascending. At most [`V6_NODE_FANOUT`] children; more are ignored.
pub fn v6_node(first: Entry, rest: impl IntoIterator<Item = u64>) -> Block {
    let mut block = [UNUSED; 8];
    block[7] = u64::from(first.bits());
    for (word, key) in block.iter_mut().zip(rest.into_iter().take(V6_NODE_FANOUT - 1)) {
        *word = key;
    }
    block
}
