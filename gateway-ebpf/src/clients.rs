//! Dropped clients: who they are and how many packets each has lost. Clients of observed lists are
//! here as well, with the packets that they would have lost; their decision tells them apart.
//!
//! Every CPU has a table of slots, and only that CPU's program writes to it. A client's address
//! leads to one slot. While the slot has that client, a drop is one addition in place. When it has
//! another, the newcomer takes it over, and a [`Takeover`] tells the daemon who moved in, and with
//! which final count the other moved out. So every dropped packet is in exactly one count: of a
//! slot's present tenant, of a tenant that a takeover has reported, or of
//! [`Reporting::unreported`], when the takeover could not be reported and did not happen. (An
//! observed packet is then in the counters of its list only.)

use crate::packet::Source;

/// One dropped client, on one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    /// The tenancy and the packets, see [`Count`]. In one word, because the daemon reads it while
    /// the program writes it.
    pub count: u64,
    /// Number of the generation that decided last.
    pub generation: u64,
    /// First 64 bits of an IPv6 address; 0 for IPv4.
    pub high: u64,
    /// Last 64 bits of an IPv6 address, or the IPv4 address.
    pub low: u64,
    /// Bits of the [decision](crate::generation::Decision).
    pub decision: u16,
    /// 4 or 6; 0 in a slot that never had a tenant.
    pub family: u16,
    /// Index of the interface.
    pub interface: u32,
    /// [Bits](crate::transport::Transport::bits) of the tenant's first packet.
    pub transport: u32,
    /// Fills the cache line.
    pub padding: [u32; 5],
}

const _: () = assert!(size_of::<Slot>() == 64 && align_of::<Slot>() == 8);
const _: () = assert!(core::mem::offset_of!(Slot, count) == 0);
const _: () = assert!(core::mem::offset_of!(Slot, generation) == 8);
const _: () = assert!(core::mem::offset_of!(Slot, decision) == 32);
const _: () = assert!(core::mem::offset_of!(Slot, padding) == 44);

/// The dropped packets of one tenancy of a slot.
///
/// The upper 16 bits number the tenancies and may wrap: the ring buffer cannot hold that many
/// unread takeovers. The lower 48 bits count packets; ten million a second need 325 days to
/// overflow them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Count(pub u64);

impl Count {
    const PACKETS: u64 = (1 << 48) - 1;

    /// The number of the tenancy.
    pub const fn tenancy(self) -> u64 {
        self.0 >> 48
    }

    /// The packets.
    pub const fn packets(self) -> u64 {
        self.0 & Self::PACKETS
    }

    /// The first packet of the next tenancy.
    #[inline(always)]
    pub const fn next_tenant(self) -> Self {
        Self((self.0 | Self::PACKETS).wrapping_add(2))
    }
}

/// A slot changed hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Takeover {
    /// Index of the slot in the map.
    pub index: u32,
    /// Keeps the layout free of gaps.
    pub padding: u32,
    /// The former tenant, with its final count.
    pub evicted: Slot,
    /// The new tenant, with its first packet.
    pub taken: Slot,
}

const _: () = assert!(size_of::<Takeover>() == 136 && align_of::<Takeover>() == 8);
const _: () = assert!(core::mem::offset_of!(Takeover, taken) == 72);

/// What one CPU may report, and what it could not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Reporting {
    /// When the present second began, in nanoseconds of the coarse monotonic clock.
    pub second: u64,
    /// Takeovers in this second.
    pub used: u64,
    /// Dropped packets that are in no slot and no takeover, each of a client that would have been
    /// reported.
    pub unreported: u64,
}

const _: () = assert!(size_of::<Reporting>() == 24 && align_of::<Reporting>() == 8);

/// Bytes of the ring buffer: room for 1,800 takeovers.
pub const EVENTS_SIZE: usize = 256 * 1024;

/// Highest number of bits that choose a slot of one CPU.
pub const MAX_SLOT_BITS: u32 = 12;

/// Slots of all CPUs together that are aimed at; more CPUs get fewer slots each.
const SLOTS: u32 = 1 << 16;

/// How many bits choose a slot, when there are `cpus` CPUs: at least 6, so that the smallest table
/// still is one page, and at most [`MAX_SLOT_BITS`].
pub const fn slot_bits(cpus: u32) -> u32 {
    let share = SLOTS / if cpus == 0 { 1 } else { cpus };
    let bits = u32::BITS - 1 - (share | 64).leading_zeros();
    if bits > MAX_SLOT_BITS { MAX_SLOT_BITS } else { bits }
}

/// The slot of a client among the slots of one CPU.
#[inline(always)]
pub fn slot_of(source: Source, bits: u32) -> u32 {
    /// The fraction of the golden ratio: consecutive addresses land far apart.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let key = match source {
        Source::V4(address) => u64::from(address),
        Source::V6(high, low) => high.rotate_left(29) ^ low,
    };
    let hash = (key.wrapping_mul(SPREAD) >> 32) as u32;
    hash >> ((u32::BITS - bits) & 31)
}

/// The client as a slot has it: family, first and last 64 bits.
#[inline(always)]
pub fn identity(source: Source) -> (u16, u64, u64) {
    match source {
        Source::V4(address) => (4, 0, address as u64),
        Source::V6(high, low) => (6, high, low),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn every_number_of_cpus_gets_whole_pages_of_slots_and_no_more_than_the_limit() {
        for cpus in 0..=8192 {
            let bits = slot_bits(cpus);
            assert!((6..=MAX_SLOT_BITS).contains(&bits), "{cpus} CPUs: {bits} bits");
        }
        assert_eq!((slot_bits(1), slot_bits(16), slot_bits(64)), (12, 12, 10));
    }

    #[test]
    fn slots_are_in_range_and_neighbours_are_spread() {
        for bits in 6..=MAX_SLOT_BITS {
            let count = 1u32 << bits;
            let mut used = std::collections::HashSet::new();
            for address in 0..count {
                let slot = slot_of(Source::V4(0x0a42_0000 + address), bits);
                assert!(slot < count);
                used.insert(slot);
                assert!(slot_of(Source::V6(u64::from(address) << 32, u64::MAX), bits) < count);
            }
            assert!(used.len() > count as usize / 2, "{} of {count}", used.len());
        }
    }

    #[test]
    fn the_next_tenancy_begins_with_one_packet() {
        let next = Count(5 << 48 | 1234).next_tenant();
        assert_eq!((next.tenancy(), next.packets()), (6, 1));
        let wrapped = Count(u64::MAX).next_tenant();
        assert_eq!((wrapped.tenancy(), wrapped.packets()), (0, 1));
    }
}
