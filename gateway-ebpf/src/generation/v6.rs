//! IPv6: a root, then a fan where there is much to tell apart, then a B-tree.
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
//!
//! A *fan* takes the next bits of the address at once, so many that most of its children know only
//! one decision, which stands in the root's entry. The others have a *record* each: a single
//! prefix, or an entry as anywhere else.
//!
//! - Line of a fan: words 0 to 3 have a bit for each of 256 children; the low half of word 4 is the
//!   number of the first record, counted in words from block 0, and bytes 4 to 7 say how many
//!   records the words before each of the four have.
//! - Cell, two words: a prefix beyond /64. The upper 48 of the first word are those of the address
//!   from bit 16 on, the others the decision; the second word is the last 64 bits of the address.

use super::{Block, Blocks, Decision, Entry, Kind, V6_ROOT};

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

/// Entries of the root in one block.
pub(super) const V6_ENTRIES_PER_BLOCK: u32 = 8;

/// Bits that one line of a fan tells apart.
pub const V6_LINE_BITS: u32 = 8;

/// Most bits that a fan consumes.
pub const V6_FAN_BITS: u32 = 24;

/// Bits of an address between the root's and the last 64.
const MIDDLE_BITS: u32 = 64 - V6_ROOT_BITS;

const _: () = assert!(V6_ENTRIES_PER_BLOCK as usize * size_of::<V6Entry>() == size_of::<Block>());
const _: () = assert!(size_of::<V6Record>() == size_of::<u64>());

/// An entry of the root: in its low half an [`Entry`]; above a fan, bits 32 to 47 hold the decision
/// of the children without a record, and bits 48 to 52 how many bits the fan consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct V6Entry(u64);

impl V6Entry {
    /// A decision, or a tree.
    pub const fn plain(entry: Entry) -> Self {
        Self(entry.0 as u64)
    }

    /// A fan of `bits` bits whose first line is at `index`.
    pub const fn fan(index: u32, bits: u32, common: Decision) -> Self {
        Self((bits as u64 & 31) << 48 | (common.0 as u64) << 32 | Entry::top(index).0 as u64)
    }

    #[inline(always)]
    const fn entry(self) -> Entry {
        Entry(self.0 as u32)
    }

    #[inline(always)]
    const fn bits(self) -> u32 {
        (self.0 >> 48) as u32 & 31
    }

    #[inline(always)]
    const fn common(self) -> u64 {
        self.0 >> 32 & 0xffff
    }
}

/// What a fan knows of one child: an [`Entry`] in the low half; or, when bits 62 and 63 are
/// [`V6Record::PREFIX`] or [`V6Record::CELL`], one prefix with a decision in an otherwise common
/// child. Bits 56 to 61 then are how many bits of the address's half follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct V6Record(u64);

impl V6Record {
    const PREFIX: u64 = 1;
    const CELL: u64 = 2;
    const VALUE: u64 = (1 << (MIDDLE_BITS - V6_LINE_BITS)) - 1;

    /// A decision, or a tree.
    pub const fn plain(entry: Entry) -> Self {
        Self(entry.0 as u64)
    }

    /// The prefix of `length` bits, at most 64 and more than the fan's, of an address whose first
    /// half is `high`. Bits 40 to 55 hold the decision, bits 0 to 39 the prefix without what every
    /// fan consumes.
    pub const fn prefix(high: u64, length: u32, decision: Decision) -> Self {
        let after = 64 - length;
        let value = (high & Self::VALUE) >> after;
        Self(Self::PREFIX << 62 | (after as u64) << 56 | (decision.0 as u64) << 40 | value)
    }

    /// A prefix of `length` bits, from 65 to 128, in the cell number `cell`, counted in words from
    /// block 0.
    pub const fn cell(cell: u32, length: u32) -> Self {
        Self(Self::CELL << 62 | (128 - length as u64) << 56 | cell as u64)
    }

    #[inline(always)]
    const fn kind(self) -> u64 {
        self.0 >> 62
    }

    #[inline(always)]
    const fn after(self) -> u64 {
        self.0 >> 56 & 63
    }
}

/// The words of a cell: a prefix beyond /64 of the address `high`, `low`.
pub const fn v6_cell(high: u64, low: u64, decision: Decision) -> [u64; 2] {
    [high << V6_ROOT_BITS | decision.0 as u64, low]
}

/// Writes record number `number`, as the root counts them, or a word of a cell; `false` when
/// `blocks` ends before it.
#[must_use]
pub fn set_v6_word(blocks: &mut [Block], number: u32, word: u64) -> bool {
    let Some(block) = blocks.get_mut((number >> 3) as usize) else {
        return false;
    };
    block[(number & 7) as usize] = word;
    true
}

impl V6Record {
    /// The record as it stands in a table.
    pub const fn word(self) -> u64 {
        self.0
    }
}

/// A line of a fan: which of the 256 children have records, and the number of the first.
pub const fn v6_line(children: [u64; 4], first: u32) -> Block {
    let [a, b, c, d] = children;
    let one = a.count_ones() as u64;
    let two = one + b.count_ones() as u64;
    let three = two + c.count_ones() as u64;
    [a, b, c, d, first as u64 | one << 40 | two << 48 | three << 56, 0, 0, 0]
}

/// Writes `entry` into slot `slot` of the root; `false` when `blocks` ends before it.
#[must_use]
pub fn set_v6_root(blocks: &mut [Block], slot: u32, entry: V6Entry) -> bool {
    let Some(block) = blocks.get_mut((V6_ROOT + slot / V6_ENTRIES_PER_BLOCK) as usize) else {
        return false;
    };
    block[(slot % V6_ENTRIES_PER_BLOCK) as usize] = entry.0;
    true
}

/// The decision on an IPv6 address: its first and its last 64 bits, in host byte order.
#[inline(always)]
pub fn lookup_v6<B: Blocks + ?Sized>(blocks: &B, high: u64, low: u64) -> Decision {
    let slot = (high >> (64 - V6_ROOT_BITS)) as u32;
    let Some(block) = blocks.block(V6_ROOT.wrapping_add(slot / V6_ENTRIES_PER_BLOCK)) else {
        return Decision::PASS;
    };
    let root = V6Entry(block[(slot % V6_ENTRIES_PER_BLOCK) as usize]);
    let mut entry = root.entry();
    if matches!(entry.kind(), Kind::Top) {
        let record = fan_record(blocks, root, high);
        if record.kind() == V6Record::PREFIX {
            let unlike = ((high & V6Record::VALUE) >> record.after()) ^ (record.0 & VALUE_BITS);
            return choose(unlike, record.0 >> 40 & 0xffff, root.common());
        }
        if record.kind() == V6Record::CELL {
            let cell = record.0 as u32;
            let Some(block) = blocks.block(cell >> 3) else {
                return Decision::PASS;
            };
            let (first, second) = (block[(cell & 6) as usize], block[(cell & 6 | 1) as usize]);
            let unlike = (first ^ high << V6_ROOT_BITS) >> V6_ROOT_BITS | (second ^ low) >> record.after();
            return choose(unlike, first & 0xffff, root.common());
        }
        entry = Entry(record.0 as u32);
    }
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

/// Bits of a record that hold the value of a prefix.
const VALUE_BITS: u64 = V6Record::VALUE;

/// What the fan below `root` says about an address: the record of its child, or the common
/// decision.
#[inline(always)]
fn fan_record<B: Blocks + ?Sized>(blocks: &B, root: V6Entry, high: u64) -> V6Record {
    // Shifts of no more than 63, whatever the table says.
    let child = high << V6_ROOT_BITS >> (64u32.wrapping_sub(root.bits()) & 63);
    let line = root.entry().index().wrapping_add((child >> V6_LINE_BITS) as u32);
    let Some(line) = blocks.block(line) else {
        return V6Record(0);
    };
    let at = child >> 6 & 3;
    let word = line[at as usize];
    if word >> (child & 63) & 1 == 0 {
        return V6Record(root.common());
    }
    let before = ones(word & ((1 << (child & 63)) - 1));
    let first = (line[4] as u32).wrapping_add((line[4] >> 32 >> (at * 8) & 0xff) as u32);
    let number = first.wrapping_add(before);
    match blocks.block(number >> 3) {
        Some(block) => V6Record(block[(number & 7) as usize]),
        None => V6Record(0),
    }
}

/// `one` where `unlike` is zero, else `other`, without a branch.
#[inline(always)]
const fn choose(unlike: u64, one: u64, other: u64) -> Decision {
    let differs = (unlike | unlike.wrapping_neg()) >> 63;
    Decision((other ^ (one ^ other) & differs.wrapping_sub(1)) as u16)
}

/// How many bits are set: the kernel's machine has no instruction for it.
#[inline(always)]
const fn ones(word: u64) -> u32 {
    let pairs = word - (word >> 1 & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let eights = (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (eights.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
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
