//! Dropped clients: who they are and how many packets each has lost. Clients of observed lists are
//! here as well, with the packets that they would have lost; their decision tells them apart.
//!
//! Every CPU has a table of slots, and only that CPU's program writes to it. A client's address
//! leads to one set of [`WAYS`] slots, and its tag to the slot among them. While a slot has that
//! client, a drop is one addition in place. When none has, the newcomer takes one over, and a
//! [`Takeover`] tells the daemon who moved in, and with which final count the other moved out. So
//! every dropped packet is in exactly one count: of a slot's present tenant, of a tenant that a
//! takeover has reported, or of [`Reporting::unreported`], when the takeover could not be reported
//! and did not happen, or when the packet was one of a flood that is not looked up at all. (An
//! observed packet is then in the counters of its list only.)
//!
//! The tags of a set stand together in two words, and all of them take a 32nd of the room of the
//! slots: a flood of ever new clients, of which most end at the budget, touches only them, and
//! leaves the caches to the rest of the host. They are wide enough that a new client hardly ever has
//! the tag of another: with tags of 8 bits three in a hundred had, and the slots that were looked at
//! for nothing were more than half of what noting cost.

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

impl Slot {
    /// Whether the tenant is the client with this [`identity`], under this decision and at this interface.
    #[inline(always)]
    pub fn is_of(&self, (family, high, low): (u16, u64, u64), decision: u16, interface: u32) -> bool {
        self.low == low
            && self.high == high
            && self.decision == decision
            && self.family == family
            && self.interface == interface
    }
}

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
    /// When the takeovers so far are paid for, see [`Self::pay`].
    pub paid_until: u64,
    /// Dropped packets that are in no slot and no takeover. All but those of a [flood](Self::spares)
    /// are of clients without an account, which would have been reported.
    pub unreported: u64,
    /// The tick of the kernel (`jiffies`) in which it last had no leave to report. The clock that
    /// leave is measured by moves with the ticks, so until the next one there is none either.
    pub without_leave: u64,
    /// [`Self::unreported`] at the start of that.
    pub unreported_before: u64,
}

const _: () = assert!(size_of::<Reporting>() == 32 && align_of::<Reporting>() == 8);

impl Reporting {
    /// Nanoseconds of takeovers that a CPU which had none for so long may report at once.
    pub const BURST: u64 = 1_000_000_000;

    /// Packets of clients without an account, in one tick without leave, that make a flood: with 1,000
    /// ticks a second 256,000 packets a second on one CPU, when 10,000 new clients are reported.
    pub const FLOOD: u64 = 256;

    /// Of so many packets in a flood, one is still looked up.
    pub const SPARED: u64 = 8;

    /// This CPU has no leave to report in this `tick`.
    #[inline(always)]
    pub fn refuse(&mut self, tick: u64) {
        if self.without_leave != tick {
            self.without_leave = tick;
            self.unreported_before = self.unreported;
        }
    }

    /// Whether a dropped packet in this `tick` is one of a flood that is not even looked up, and counts
    /// as unreported. No new client would be reported in this tick; one that has an account may miss
    /// some packets there, and they are in the count of the others.
    #[inline(always)]
    pub fn spares(&self, tick: u64) -> bool {
        let refused = self.unreported.wrapping_sub(self.unreported_before);
        self.without_leave == tick && refused >= Self::FLOOD && !refused.is_multiple_of(Self::SPARED)
    }

    /// Whether this CPU may report one more takeover at the time `now`, when each has to pay for
    /// `interval`, all in nanoseconds. The generic cell rate algorithm (ITU-T I.371): leave comes
    /// back evenly, so that in a flood every client has the same chance, whenever it comes.
    #[inline(always)]
    pub fn pay(&mut self, now: u64, interval: u64) -> bool {
        let from = if self.paid_until > now { self.paid_until } else { now };
        if from - now >= Self::BURST {
            return false;
        }
        self.paid_until = from.wrapping_add(interval);
        true
    }
}

/// Bytes of the ring buffer: room for 14,500 takeovers, more than come within a second.
pub const EVENTS_SIZE: usize = 2 * 1024 * 1024;

/// Slots of one set, each with a tag of 16 bits.
pub const WAYS: u32 = 8;

/// The tags of one set. Those of even slots are in the first word, those of odd ones in the second, so
/// that the [candidates] of both fit into one.
pub type Tags = [u64; 2];

/// Highest number of bits that choose a set of one CPU: 32,768 slots, whose tags fill 64 KiB, a small
/// part of the second-level cache (see `docs/measurements.md`).
pub const MAX_SET_BITS: u32 = 12;

/// Slots of all CPUs together that are aimed at, 16 MiB; more CPUs get fewer slots each. With half
/// of them in use, not one set in a hundred has more clients than slots.
const SLOTS: u32 = 1 << 18;

/// How many bits choose a set, when there are `cpus` CPUs: at least 3, so that the smallest table of
/// slots still is one page, and at most [`MAX_SET_BITS`].
pub const fn set_bits(cpus: u32) -> u32 {
    let share = SLOTS / WAYS / if cpus == 0 { 1 } else { cpus };
    let bits = u32::BITS - 1 - (share | 8).leading_zeros();
    if bits > MAX_SET_BITS { MAX_SET_BITS } else { bits }
}

/// Where a client can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its set among those of one CPU.
    pub set: u32,
    /// Its tag, never 0: that is the tag of a slot without a tenant.
    pub tag: u16,
}

/// The place of a client with this [`identity`], when `bits` choose the set.
#[inline(always)]
pub fn place_of(high: u64, low: u64, bits: u32) -> Place {
    /// The fraction of the golden ratio: consecutive addresses land far apart.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let hash = (high.rotate_left(29) ^ low).wrapping_mul(SPREAD);
    let set = (hash >> 32) as u32 >> ((u32::BITS - bits) & 31);
    // Of bits that did not choose the set, mixed once more: the low ones of a product are weak.
    let tag = ((hash ^ (hash >> 29)).wrapping_mul(SPREAD) >> 48) as u16;
    Place { set, tag: if tag == 0 { 1 } else { tag } }
}

/// Index of slot `way` of `set`, when `bits` choose a set and those above them the CPU. The first slots
/// of all sets of a CPU stand together, then their second ones: a table that is not full is dense where
/// it is used. Set by set, its lines would share an eighth of the rows of the caches.
#[inline(always)]
pub fn slot_index(set: u32, way: u32, bits: u32) -> u32 {
    let bits = bits & 31;
    let (cpu, own) = (set >> bits, set & ((1 << bits) - 1));
    (cpu * WAYS + way) << bits | own
}

/// Which slots of a set with these `tags` can have a client with `tag`: the highest bit of their
/// bytes. Slots above one that has it may be among them without having it.
#[inline(always)]
pub fn candidates(tags: &Tags, tag: u16) -> u64 {
    const LOW: u64 = 0x0001_0001_0001_0001;
    let wanted = LOW * tag as u64;
    let equal = |word: u64| {
        let other = word ^ wanted;
        other.wrapping_sub(LOW) & !other & (LOW << 15)
    };
    equal(tags[0]) >> 8 | equal(tags[1])
}

/// The number of the first slot among `candidates`, and the others; `None` when there is none.
#[inline(always)]
pub fn first(candidates: u64) -> Option<(u32, u64)> {
    /// Shifted up by 8 bits for each slot, it has the number of that slot in its three highest bits:
    /// a loop over the slots is mispredicted for most clients.
    const NUMBERS: u64 = {
        let (mut numbers, mut way) = (0, 1);
        while way < WAYS as u64 {
            numbers |= way << (61 - 8 * way);
            way += 1;
        }
        numbers
    };
    if candidates == 0 {
        return None;
    }
    let others = candidates & (candidates - 1);
    let way = ((candidates ^ others) >> 7).wrapping_mul(NUMBERS) >> 61;
    Some((way as u32, others))
}

/// Puts `tag` for slot `way`.
#[inline(always)]
pub fn set_tag(tags: &mut Tags, way: u32, tag: u16) {
    let word = if way & 1 == 0 { &mut tags[0] } else { &mut tags[1] };
    let shift = (way >> 1 & 3) * 16;
    *word = *word & !(0xffff << shift) | ((tag as u64) << shift);
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
            let bits = set_bits(cpus);
            assert!((3..=MAX_SET_BITS).contains(&bits), "{cpus} CPUs: {bits} bits");
        }
        assert_eq!((set_bits(1), set_bits(8), set_bits(16), set_bits(64)), (12, 12, 11, 9));
    }

    #[test]
    fn sets_are_in_range_and_neighbours_are_spread_over_sets_and_tags() {
        for bits in 3..=MAX_SET_BITS {
            let (count, mut sets, mut tags) = (1u32 << bits, [0u32; 1 << MAX_SET_BITS], [0u32; 256]);
            // Of the tags, only the upper byte: there are too few clients for all bits.
            for address in 0..4 * count {
                let Place { set, tag } = place_of(0, 0x0a42_0000 + u64::from(address), bits);
                sets[set as usize] += 1;
                assert_ne!(tag, 0);
                tags[usize::from(tag >> 8)] += 1;
                assert!(place_of(u64::from(address) << 32, u64::MAX, bits).set < count);
            }
            assert!(sets.iter().all(|&clients| clients <= WAYS), "a set is too full with {bits} bits");
            if count >= 1024 {
                let even = 4 * count / 256;
                assert!(tags.iter().all(|&clients| clients < 4 * even), "{bits} bits: {tags:?}");
            }
        }
    }

    fn with_tag(mut tags: Tags, way: u32, tag: u16) -> Tags {
        set_tag(&mut tags, way, tag);
        tags
    }

    #[test]
    fn every_slot_of_every_set_has_an_index_of_its_own() {
        let (bits, cpus) = (3, 5);
        let slots = (0..cpus << bits).flat_map(|set| (0..WAYS).map(move |way| slot_index(set, way, bits)));
        let mut slots: std::vec::Vec<u32> = slots.collect();
        slots.sort_unstable();
        assert!(slots.iter().copied().eq(0..(cpus << bits) * WAYS));
    }

    #[test]
    fn the_slot_with_a_tag_is_always_among_the_candidates() {
        let others = [0x8001_0002_7fff_fe00, 0x0000_8000_ffff_0100];
        for way in 0..WAYS {
            for tag in 1..=u16::MAX {
                let tags = with_tag(others, way, tag);
                let mut left = candidates(&tags, tag);
                let mut found = false;
                while let Some((one, others)) = first(left) {
                    found |= one == way;
                    left = others;
                }
                assert!(found, "{tags:x?} {way} {tag}");
            }
        }
        assert_eq!(first(candidates(&[0x0203_0405_0607_0809, 0x0a0b_0c0d_0e0f_1011], 1)), None);
        let full = [u64::MAX; 2];
        assert_eq!(candidates(&full, 0), 0, "a full set has no free slot");
        for way in 0..WAYS {
            assert_eq!(first(candidates(&with_tag(full, way, 0), 0)), Some((way, 0)));
        }
    }

    #[test]
    fn a_tag_goes_to_its_slot_and_leaves_the_others_as_they_are() {
        let mut tags = [0; 2];
        for (way, tag) in (0..WAYS).zip(0x1111..) {
            set_tag(&mut tags, way, tag);
        }
        for (way, tag) in (0..WAYS).zip(0x1111..) {
            assert_eq!(first(candidates(&tags, tag)).map(|(slot, _)| slot), Some(way), "{tags:x?}");
        }
    }

    #[test]
    fn hardly_any_new_client_has_the_tag_of_another_in_its_set() {
        let bits = MAX_SET_BITS;
        let mut sets = std::vec![[0; 2]; 1 << bits];
        let mut ways = std::vec![0; 1 << bits];
        for address in 0..WAYS << bits {
            let Place { set, tag } = place_of(0, 0x0a42_0000 + u64::from(address), bits);
            let way = &mut ways[set as usize];
            set_tag(&mut sets[set as usize], *way % WAYS, tag);
            *way += 1;
        }
        let strangers = 0xcb00_7100..0xcb00_7100 + 100_000_u64;
        let taken_for_another = strangers.filter(|&address| {
            let Place { set, tag } = place_of(0, address, bits);
            candidates(&sets[set as usize], tag) != 0
        });
        assert!(taken_for_another.count() < 100, "of 100,000; 12 are expected");
    }

    #[test]
    fn the_next_tenancy_begins_with_one_packet() {
        let next = Count(5 << 48 | 1234).next_tenant();
        assert_eq!((next.tenancy(), next.packets()), (6, 1));
        let wrapped = Count(u64::MAX).next_tenant();
        assert_eq!((wrapped.tenancy(), wrapped.packets()), (0, 1));
    }

    #[test]
    fn a_flood_is_spared_in_its_tick_alone_and_every_eighth_packet_of_it_is_looked_up() {
        let mut reporting = Reporting { unreported: 7, ..Reporting::default() };
        reporting.refuse(1);
        for tick in [1, 2] {
            assert!(!reporting.spares(tick + 1), "nothing is known of another tick");
            let mut looked_up = 0;
            for _ in 0..Reporting::FLOOD + 800 {
                if !reporting.spares(tick) {
                    looked_up += 1;
                    // As often as it is looked up in vain.
                    reporting.refuse(tick);
                }
                reporting.unreported += 1;
            }
            assert_eq!(looked_up, Reporting::FLOOD + 800 / Reporting::SPARED, "tick {tick}");
            reporting.refuse(tick + 1);
        }
    }

    #[test]
    fn leave_to_report_is_a_burst_and_then_comes_back_evenly() {
        const MS: u64 = 1_000_000;
        let mut reporting = Reporting::default();
        let start = 77 * Reporting::BURST;
        let burst = (0..1000).filter(|_| reporting.pay(start, 10 * MS)).count();
        assert_eq!(burst, 100);
        for step in 1..=1000 {
            let now = start + step * 10 * MS;
            assert_eq!((0..50).filter(|_| reporting.pay(now, 10 * MS)).count(), 1, "step {step}");
        }
    }
}
