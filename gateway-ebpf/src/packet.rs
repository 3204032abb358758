//! From a frame to the source address of its IP packet, and nothing beyond it.

/// Reads from a frame; `None` past its end. Numbers are in network byte order in the frame and in
/// host byte order here.
pub trait Frame {
    /// The byte at `at`.
    fn byte(&self, at: usize) -> Option<u8>;
    /// The two bytes from `at`.
    fn half(&self, at: usize) -> Option<u16>;
    /// The four bytes from `at`.
    fn word(&self, at: usize) -> Option<u32>;
    /// The eight bytes from `at`.
    fn double(&self, at: usize) -> Option<u64>;
}

impl Frame for [u8] {
    fn byte(&self, at: usize) -> Option<u8> {
        self.get(at).copied()
    }

    fn half(&self, at: usize) -> Option<u16> {
        array(self, at).map(u16::from_be_bytes)
    }

    fn word(&self, at: usize) -> Option<u32> {
        array(self, at).map(u32::from_be_bytes)
    }

    fn double(&self, at: usize) -> Option<u64> {
        array(self, at).map(u64::from_be_bytes)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// An IP packet.
    Ip(Ip),
    /// Something else: ARP, LLDP, a length field of IEEE 802.3.
    Other,
    /// Called IP, but without a source address that could be read; or more VLAN tags than
    /// [`MAX_VLAN_TAGS`]. The host's stack discards the former by itself.
    Malformed,
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Where it comes from.
    pub source: Source,
    /// Where in the frame its header begins.
    pub header: usize,
}

/// A source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// IPv4.
    V4(u32),
    /// IPv6: the first and the last 64 bits.
    V6(u64, u64),
}

/// VLAN tags (IEEE 802.1Q, 802.1ad) that are followed.
pub const MAX_VLAN_TAGS: usize = 2;

/// Offset of the EtherType in a frame without tags.
const ETHER_TYPE: usize = 12;

/// Bytes of a VLAN tag.
const TAG: usize = 4;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: [u16; 2] = [0x8100, 0x88a8];

/// Bytes of an IPv4 header without options (RFC 791 §3.1).
const IPV4_HEADER: usize = 20;

/// Finds the source address.
#[inline(always)]
pub fn network<F: Frame + ?Sized>(frame: &F) -> Network {
    let mut at = ETHER_TYPE;
    for _ in 0..=MAX_VLAN_TAGS {
        let Some(kind) = frame.half(at) else {
            return Network::Malformed;
        };
        match kind {
            IPV4 => return ip(ipv4(frame, at + 2)),
            IPV6 => return ip(ipv6(frame, at + 2)),
            _ if VLAN.contains(&kind) => at += TAG,
            _ => return Network::Other,
        }
    }
    Network::Malformed
}

#[inline(always)]
fn ip(packet: Option<Ip>) -> Network {
    packet.map_or(Network::Malformed, Network::Ip)
}

/// RFC 791 §3.1.
#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F, header: usize) -> Option<Ip> {
    // The last word of the header first: it proves that the others are there.
    frame.word(header + IPV4_HEADER - 4)?;
    let source = frame.word(header + 12)?;
    (frame.byte(header)? >> 4 == 4).then_some(Ip { source: Source::V4(source), header })
}

/// RFC 8200 §3.
#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, header: usize) -> Option<Ip> {
    // The last half of the destination first: it proves that the others are there.
    frame.double(header + 32)?;
    let (high, low) = (frame.double(header + 8)?, frame.double(header + 16)?);
    (frame.byte(header)? >> 4 == 6).then_some(Ip { source: Source::V6(high, low), header })
}

/// Whether this is neighbour discovery (RFC 4861 §4), without which no address on the link can be
/// reached: ICMPv6 of type 133 to 137 directly behind the IPv6 header, from the link itself, which
/// only a hop limit of 255 proves (§6.1, §7.1).
#[inline(always)]
pub fn is_neighbour_discovery<F: Frame + ?Sized>(frame: &F, ip: &Ip) -> bool {
    /// Next header ICMPv6 and hop limit 255.
    const ON_LINK_ICMPV6: u16 = 58 << 8 | 255;
    matches!(ip.source, Source::V6(..))
        && frame.half(ip.header + 6) == Some(ON_LINK_ICMPV6)
        && matches!(frame.byte(ip.header + 40), Some(133..=137))
}
