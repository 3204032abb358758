//! Counters. Every packet is counted exactly once: under its outcome when no verdict on the source
//! was applied, else under the source of the decision; and once more under the interface that it came
//! in by.

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Frames.
    pub packets: u64,
    /// Bytes of the frames, from the Ethernet header on.
    pub bytes: u64,
}

/// What became of the packets on which one source of decisions decided, or of those of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Verdicts {
    /// Sent on to the host; for an observed list, what it would have dropped.
    pub passed: Counter,
    /// Dropped.
    pub dropped: Counter,
}

const _: () = assert!(size_of::<Counter>() == 16 && align_of::<Counter>() == 8);
const _: () = assert!(size_of::<Verdicts>() == 32 && align_of::<Verdicts>() == 8);
const _: () = assert!(core::mem::offset_of!(Verdicts, dropped) == 16);

/// Sources with counters of their own; those from the last one up share its counters.
pub const SOURCES: u32 = 4096;

/// Interfaces with counters of their own: a power of two. Interfaces whose indices differ by a
/// multiple of it share theirs.
pub const INTERFACES: u32 = 1024;

/// Where the counters of the interface with this index are.
#[inline(always)]
pub const fn interface_slot(index: u32) -> u32 {
    index & (INTERFACES - 1)
}

/// A packet that passed, for a reason other than the verdict on its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// Not IP: ARP and its like.
    NotIp = 0,
    /// Without a source address that could be read.
    Malformed = 1,
    /// Neighbour discovery of a denied source, or one in an observed list.
    NeighbourDiscovery = 2,
    /// From a denied source, or one in an observed list, but not to a guarded port.
    OutOfScope = 3,
    /// Before the first generation was published.
    NoGeneration = 4,
}

impl Outcome {
    /// Every outcome, in the order of its index.
    pub const ALL: [Self; 5] =
        [Self::NotIp, Self::Malformed, Self::NeighbourDiscovery, Self::OutOfScope, Self::NoGeneration];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::Malformed => "malformed",
            Self::NeighbourDiscovery => "neighbour_discovery",
            Self::OutOfScope => "out_of_scope",
            Self::NoGeneration => "no_generation",
        }
    }
}
