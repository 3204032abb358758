//! A generation: the whole compiled address policy as one array of 64-byte blocks.
//!
//! One block is one cache line and one element of one BPF array map. The policy of both families
//! lives in a single map, so publishing a generation is one store of one map into an
//! array of maps, and a packet sees exactly one generation.

/// One cache line of a generation: 16 little-endian words.
pub type Block = [u32; 16];

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

/// What a lookup found: the verdict, and which (tier, list) of the generation decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Decision(u16);

impl Decision {
    /// Bit that is set when the packet is to be dropped.
    const DROP: u16 = 1 << 15;

    /// Highest source that a decision can name.
    pub const MAX_SOURCE: u16 = Self::DROP - 1;

    /// A decision for `source`; `None` when `source` is above [`Self::MAX_SOURCE`].
    pub const fn new(source: u16, drop: bool) -> Option<Self> {
        if source > Self::MAX_SOURCE {
            return None;
        }
        Some(Self(if drop { source | Self::DROP } else { source }))
    }

    /// Whether the packet is to be dropped.
    pub const fn is_drop(self) -> bool {
        self.0 & Self::DROP != 0
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
