//! From a frame to the source address of its IP packet, and nothing beyond it.

use core::net::IpAddr;

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

impl From<IpAddr> for Source {
    #[expect(clippy::cast_possible_truncation, reason = "an address is cut in two halves")]
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                Self::V6((bits >> 64) as u64, bits as u64)
            }
        }
    }
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

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    /// A frame with these tags and then this EtherType and payload.
    fn frame(tags: &[u16], kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = std::vec![0xee; 12];
        for tag in tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 1]);
        }
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn ipv4() -> [u8; 20] {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&[192, 0, 2, 7]);
        packet
    }

    fn ipv6() -> [u8; 48] {
        let mut packet = [0; 48];
        (packet[0], packet[6], packet[7], packet[40]) = (0x60, 58, 255, 135);
        packet[8..24].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        packet
    }

    #[test]
    fn the_source_is_found_behind_up_to_two_tags() {
        for tags in [&[][..], &[0x8100], &[0x88a8], &[0x88a8, 0x8100], &[0x8100, 0x8100]] {
            let header = 14 + 4 * tags.len();
            assert_eq!(
                network(frame(tags, IPV4, &ipv4()).as_slice()),
                Network::Ip(Ip { source: Source::V4(0xc000_0207), header })
            );
            assert_eq!(
                network(frame(tags, IPV6, &ipv6()).as_slice()),
                Network::Ip(Ip { source: Source::V6(0x2001_0db8 << 32, 7), header })
            );
        }
        assert_eq!(network(frame(&[0x8100; 3], IPV4, &ipv4()).as_slice()), Network::Malformed);
    }

    #[test]
    fn a_frame_cut_off_before_the_end_of_the_ip_header_is_malformed() {
        let (v4, v6) = (frame(&[0x8100], IPV4, &ipv4()), frame(&[0x8100], IPV6, &ipv6()));
        for length in 0..18 + 20 {
            assert_eq!(network(&v4[..length]), Network::Malformed, "{length} bytes");
        }
        for length in 0..18 + 40 {
            assert_eq!(network(&v6[..length]), Network::Malformed, "{length} bytes");
        }
        assert!(matches!(network(&v4[..]), Network::Ip(_)));
        assert!(matches!(network(&v6[..18 + 40]), Network::Ip(_)));
    }

    #[test]
    fn a_version_that_contradicts_the_type_is_malformed() {
        assert_eq!(network(frame(&[], IPV4, &ipv6()).as_slice()), Network::Malformed);
        let mut long = [0; 40];
        long[0] = 0x45;
        assert_eq!(network(frame(&[], IPV6, &long).as_slice()), Network::Malformed);
    }

    #[test]
    fn only_on_link_messages_of_neighbour_discovery_are_neighbour_discovery() {
        let judge = |change: fn(&mut [u8; 48])| {
            let mut packet = ipv6();
            change(&mut packet);
            let frame = frame(&[], IPV6, &packet);
            let Network::Ip(ip) = network(frame.as_slice()) else { panic!("not IP") };
            is_neighbour_discovery(frame.as_slice(), &ip)
        };
        assert!(judge(|_| {}));
        assert!(judge(|packet| packet[40] = 133) && judge(|packet| packet[40] = 137));
        assert!(!judge(|packet| packet[40] = 132) && !judge(|packet| packet[40] = 138));
        assert!(!judge(|packet| packet[7] = 254), "routed");
        assert!(!judge(|packet| packet[6] = 6), "TCP");
        let echo = frame(&[], IPV4, &[ipv4().as_slice(), &ipv6()].concat());
        let ip = Ip { source: Source::V4(0), header: 14 };
        assert!(!is_neighbour_discovery(echo.as_slice(), &ip));
    }
}
