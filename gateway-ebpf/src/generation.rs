//! A generation: the whole compiled address policy as one array of 64-byte blocks.
//!
//! One block is one cache line and one element of one BPF array map. The policy of both families
//! lives in a single map, so publishing a generation is one store of one map into an
//! array of maps, and a packet sees exactly one generation. (An array map starts its values on a
//! cache line only with `BPF_F_MMAPABLE`; without it every block would straddle two.)
//!
//! ```text
//! block 0                 header: magic and ABI, number of the generation
//! V4_ROOT ..              2^16 entries of 64 bits, one for each /16 of IPv4     (see `v4`)
//! V6_ROOT ..              2^16 entries of 64 bits, one for each /16 of IPv6     (see `v6`)
//! FIRST_FREE ..           leaves and nodes, wherever the compiler put them
//! ```
//!
//! The roots stand at fixed places, so that the first step of a lookup needs no header. Everything
//! else is reached through [`V4Entry`], [`V6Entry`], [`V6Record`] and [`Entry`] values, which hold block indices: a generation can be copied
//! anywhere. Words are in native byte order; program and daemon run on the same host.
//!
//! Every index is masked and every loop is bounded: on a damaged table a lookup ends at
//! [`Decision::PASS`] or at a wrong decision, but it always ends.
//!
//! Lookups hand on values, never an `Option` of one: the compiler may compute with the missing
//! value of a `None` before it throws the result away, and the kernel's verifier refuses to read
//! what was never written.
#![expect(clippy::cast_possible_truncation, reason = "fields are cut out of wider words")]

mod v4;
mod v6;

use v4::V4_ENTRIES_PER_BLOCK;
pub use v4::{
    V4_INDEX_FANOUT, V4_KEY_BITS, V4_LANES, V4_LEAF_SEGMENTS, V4_ROOT_BITS, V4_SPLIT_KEY_BITS, V4Entry,
    lookup_v4, set_v4_bitmap, set_v4_root, set_v4_split, v4_index, v4_leaf, v4_points, v4_toggles,
};
use v6::V6_ENTRIES_PER_BLOCK;
pub use v6::{
    V6_FAN_BITS, V6_LEAF_SEGMENTS, V6_LINE_BITS, V6_LOW_BITS, V6_MAX_STEPS, V6_NODE_FANOUT, V6_ROOT_BITS,
    V6_UPPER_BITS, V6Entry, V6Record, lookup_v6, set_v6_root, set_v6_word, v6_cell, v6_leaf, v6_line,
    v6_node,
};

use crate::packet::Source;

/// One cache line of a generation.
pub type Block = [u64; 8];

/// Bytes of a [`Block`]; the value size of the map.
pub const BLOCK_SIZE: usize = size_of::<Block>();

/// Entries of 32 bits in one block.
const ENTRIES_PER_BLOCK: u32 = 16;

/// First block of the IPv4 root.
pub const V4_ROOT: u32 = 1;

/// First block of the IPv6 root.
pub const V6_ROOT: u32 = V4_ROOT + (1 << V4_ROOT_BITS) / V4_ENTRIES_PER_BLOCK;

/// First block after the roots; also the number of blocks of the smallest generation.
pub const FIRST_FREE: u32 = V6_ROOT + (1 << V6_ROOT_BITS) / V6_ENTRIES_PER_BLOCK;

/// Blocks of the largest generation: 16 GiB.
pub const MAX_BLOCKS: u32 = V4Entry::MAX_INDEX + 1;

const _: () = assert!(MAX_BLOCKS <= Entry::MAX_INDEX);
const _: () = assert!(BLOCK_SIZE == 64);
const _: () = assert!(ENTRIES_PER_BLOCK as usize * size_of::<Entry>() == BLOCK_SIZE);
const _: () = assert!(V4_ROOT == 1 && V6_ROOT == 8_193 && FIRST_FREE == 16_385);

/// "gate" in ASCII.
const MAGIC: u64 = 0x6574_6167;

/// Block 0 of generation `number`.
pub const fn header(number: u64) -> Block {
    [MAGIC | (crate::ABI_VERSION as u64) << 32, number, 0, 0, 0, 0, 0, 0]
}

/// The number of the generation; `None` when these blocks are no generation of this ABI.
#[inline(always)]
pub fn number<B: Blocks + ?Sized>(blocks: &B) -> Option<u64> {
    let [magic, number, ..] = *blocks.block(0)?;
    if magic == header(0)[0] { Some(number) } else { None }
}

/// Where a lookup reads blocks from: a BPF map in the kernel, a slice in user space.
pub trait Blocks {
    /// The block at `index`, or `None` past the end.
    fn block(&self, index: u32) -> Option<&Block>;
}

impl Blocks for [Block] {
    fn block(&self, index: u32) -> Option<&Block> {
        self.get(index as usize)
    }
}

/// The decision on a source address. An IPv4-mapped one (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2) is
/// the IPv4 address: Linux hands packets with such a source to services, and they take it for that.
#[inline(always)]
pub fn lookup<B: Blocks + ?Sized>(blocks: &B, source: Source) -> Decision {
    match source {
        Source::V4(address) => lookup_v4(blocks, address),
        Source::V6(0, low) if low >> 32 == 0xffff => lookup_v4(blocks, low as u32),
        Source::V6(high, low) => lookup_v6(blocks, high, low),
    }
}

/// What a lookup found: the verdict, and which (tier, list) of the generation decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Decision(u16);

impl Decision {
    /// Bit that is set when the packet is to be dropped.
    const DROP: u16 = 1 << 15;

    /// Bit that is set when the packet passes but would be dropped, were its list enforced.
    const OBSERVED: u16 = 1 << 14;

    /// Highest source that a decision can name.
    pub const MAX_SOURCE: u16 = Self::OBSERVED - 1;

    /// Pass, by the policy's default: also the answer of a damaged table.
    pub const PASS: Self = Self(0);

    /// A decision for `source`; `None` when `source` is above [`Self::MAX_SOURCE`].
    pub const fn new(source: u16, drop: bool) -> Option<Self> {
        if source > Self::MAX_SOURCE {
            return None;
        }
        Some(Self(if drop { source | Self::DROP } else { source }))
    }

    /// The same decision by a list that is only observed: the packet passes, and is reported.
    #[must_use]
    pub const fn observed(self) -> Self {
        Self(self.0 & !Self::DROP | Self::OBSERVED)
    }

    /// Whether the packet is to be dropped.
    pub const fn is_drop(self) -> bool {
        self.0 & Self::DROP != 0
    }

    /// Whether the packet passes only because the list that decided is observed and not enforced.
    pub const fn is_observed(self) -> bool {
        self.0 & (Self::DROP | Self::OBSERVED) == Self::OBSERVED
    }

    /// Whether nothing speaks against the packet: it is neither dropped nor observed.
    pub const fn is_clear(self) -> bool {
        self.0 & (Self::DROP | Self::OBSERVED) == 0
    }

    /// Index of the (tier, list) that decided; 0 is the policy's default. Stable while a list
    /// stays in the configuration, so that counters indexed by it survive reloads.
    pub const fn source(self) -> u16 {
        self.0 & Self::MAX_SOURCE
    }

    /// The bits as they stand in a table.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// A decision from the bits of a table.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

/// Where a lookup goes next: to a decision, or to another block.
///
/// Bits 31 and 30 hold the kind, bit 29 the mark [`Entry::low`], the others the block index or, in
/// their low half, the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(u32);

/// What an [`Entry`] leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    Decision = 0,
    Leaf = 1,
    /// IPv6: a node. Below a split of IPv4: an index above leaves.
    Node = 2,
    /// Below a split of IPv4: an index above indices. In the root of IPv6: a fan.
    Top = 3,
}

impl Entry {
    const KIND_SHIFT: u32 = 30;
    const LOW: u32 = 1 << 29;

    /// Highest block index that an entry can hold.
    pub const MAX_INDEX: u32 = Self::LOW - 1;

    /// The end of a lookup.
    pub const fn decision(decision: Decision) -> Self {
        Self(decision.0 as u32)
    }

    /// A leaf block, at most at [`Self::MAX_INDEX`].
    pub const fn leaf(index: u32) -> Self {
        Self::block(Kind::Leaf, index)
    }

    /// IPv6: a node, or the first of a node's children. Below a split of IPv4: an index above
    /// leaves. At most at [`Self::MAX_INDEX`].
    pub const fn node(index: u32) -> Self {
        Self::block(Kind::Node, index)
    }

    /// Below a split of IPv4: an index above indices. In the root of IPv6: a fan. At most at [`Self::MAX_INDEX`].
    pub const fn top(index: u32) -> Self {
        Self::block(Kind::Top, index)
    }

    /// IPv6: from here on the search is among the last [`V6_LOW_BITS`] bits of the address.
    #[must_use]
    pub const fn low(self) -> Self {
        Self(self.0 | Self::LOW)
    }

    /// The bits as they stand in a table.
    pub const fn bits(self) -> u32 {
        self.0
    }

    const fn block(kind: Kind, index: u32) -> Self {
        Self((kind as u32) << Self::KIND_SHIFT | index & Self::MAX_INDEX)
    }

    #[inline(always)]
    const fn kind(self) -> Kind {
        match self.0 >> Self::KIND_SHIFT {
            0 => Kind::Decision,
            1 => Kind::Leaf,
            2 => Kind::Node,
            _ => Kind::Top,
        }
    }

    #[inline(always)]
    const fn is_low(self) -> bool {
        self.0 & Self::LOW != 0
    }

    #[inline(always)]
    const fn index(self) -> u32 {
        self.0 & Self::MAX_INDEX
    }

    #[inline(always)]
    const fn to_decision(self) -> Decision {
        Decision((self.0 & 0xffff) as u16)
    }

    /// The entry of the block `rank` places further on.
    #[inline(always)]
    const fn child(self, rank: u32) -> Self {
        Self(self.0.wrapping_add(rank))
    }
}

/// Writes `entry` into its place among the entries of a block.
fn set_entry(block: &mut Block, slot: u32, entry: Entry) {
    let word = &mut block[(slot >> 1 & 7) as usize];
    let shift = (slot & 1) * 32;
    *word = *word & !(0xffff_ffff << shift) | u64::from(entry.0) << shift;
}
