//! From an IP packet to the destination port of its TCP or UDP segment. Only packets of denied
//! sources ever come here.

use crate::packet::{Frame, Ip, Source};

/// What a packet carries above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The first fragment, or all, of a TCP or UDP packet.
    Ports {
        /// [`TCP`] or [`UDP`].
        protocol: u8,
        /// The destination port.
        destination: u16,
    },
    /// Another protocol, a later fragment, or a frame that ends before the ports.
    NoPorts {
        /// Of the IP header, or of the last extension header.
        protocol: u8,
    },
    /// The headers contradict themselves, or the frame ends inside them.
    Malformed,
    /// More IPv6 extension headers than [`MAX_EXTENSION_HEADERS`]; there may be TCP behind them.
    TooDeep,
}

impl Transport {
    /// All of it in one word, as it stands in a [slot](crate::clients::Slot).
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Malformed => 0,
            Self::TooDeep => 1 << 24,
            Self::NoPorts { protocol } => 2 << 24 | (protocol as u32) << 16,
            Self::Ports { protocol, destination } => 3 << 24 | (protocol as u32) << 16 | destination as u32,
        }
    }

    /// From [`Self::bits`].
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        let [_, protocol, high, low] = bits.to_be_bytes();
        match bits >> 24 {
            1 => Self::TooDeep,
            2 => Self::NoPorts { protocol },
            3 => Self::Ports { protocol, destination: u16::from_be_bytes([high, low]) },
            _ => Self::Malformed,
        }
    }
}

/// Protocol number of TCP.
pub const TCP: u8 = 6;

/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// IPv6 extension headers that are followed. RFC 8200 §4.1 allows an honest packet six.
pub const MAX_EXTENSION_HEADERS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Finds the transport protocol and the ports.
#[inline(always)]
pub fn transport<F: Frame + ?Sized>(frame: &F, ip: &Ip) -> Transport {
    match ip.source {
        Source::V4(_) => ipv4(frame, ip.header),
        Source::V6(..) => ipv6(frame, ip.header),
    }
    .unwrap_or(Transport::Malformed)
}

#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F, header: usize) -> Option<Transport> {
    let protocol = frame.byte(header + 9)?;
    let length = usize::from(frame.byte(header)? & 0xf) * 4;
    if length < 20 {
        return None;
    }
    let first_fragment = frame.half(header + 6)? & 0x1fff == 0;
    Some(ports(frame, protocol, header + length, first_fragment))
}

/// RFC 8200 §4.
#[inline(always)]
fn ipv6<F: Frame + ?Sized>(frame: &F, header: usize) -> Option<Transport> {
    let mut next = frame.byte(header + 6)?;
    let mut at = header + 40;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(frame.byte(at + 1)?) + 1) * 8,
            // RFC 4302 §2.2.
            AUTHENTICATION => (usize::from(frame.byte(at + 1)?) + 2) * 4,
            FRAGMENT => {
                if frame.half(at + 2)? & !7 != 0 {
                    return Some(Transport::NoPorts { protocol: frame.byte(at)? });
                }
                8
            }
            protocol => return Some(ports(frame, protocol, at, true)),
        };
        next = frame.byte(at)?;
        at += length;
    }
    Some(Transport::TooDeep)
}

#[inline(always)]
fn ports<F: Frame + ?Sized>(frame: &F, protocol: u8, at: usize, first_fragment: bool) -> Transport {
    if first_fragment
        && matches!(protocol, TCP | UDP)
        && let Some(destination) = frame.half(at + 2)
    {
        return Transport::Ports { protocol, destination };
    }
    Transport::NoPorts { protocol }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    const V4: Ip = Ip { source: Source::V4(0), header: 0 };
    const V6: Ip = Ip { source: Source::V6(0, 0), header: 0 };
    const TO_443: [u8; 4] = [0, 80, 1, 0xbb];

    fn ipv4(first: u8, fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = std::vec![0; usize::from(first & 0xf) * 4];
        packet.resize(packet.len().max(20), 0);
        packet[0] = first;
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet.extend(payload);
        packet
    }

    fn ipv6(next: u8, payload: &[&[u8]]) -> Vec<u8> {
        let mut packet = std::vec![0; 40];
        packet[6] = next;
        packet.extend(payload.concat());
        packet
    }

    const fn ports(protocol: u8) -> Transport {
        Transport::Ports { protocol, destination: 443 }
    }

    #[test]
    fn options_are_skipped_and_a_short_header_is_malformed() {
        for first in 0x45..=0x4f {
            assert_eq!(transport(&ipv4(first, 0, TCP, &TO_443)[..], &V4), ports(TCP));
        }
        for first in 0x40..=0x44 {
            assert_eq!(transport(&ipv4(first, 0, TCP, &TO_443)[..], &V4), Transport::Malformed);
        }
    }

    #[test]
    fn only_a_first_fragment_has_ports() {
        let none = Transport::NoPorts { protocol: UDP };
        assert_eq!(transport(&ipv4(0x45, 0x2000, UDP, &TO_443)[..], &V4), ports(UDP));
        assert_eq!(transport(&ipv4(0x45, 0x2001, UDP, &TO_443)[..], &V4), none);
        assert_eq!(transport(&ipv4(0x45, 0x0001, UDP, &TO_443)[..], &V4), none);
        let first = [UDP, 0, 0, 1, 0, 0, 0, 9];
        assert_eq!(transport(&ipv6(FRAGMENT, &[&first, &TO_443])[..], &V6), ports(UDP));
        let later = [UDP, 0, 0, 8, 0, 0, 0, 9];
        assert_eq!(transport(&ipv6(FRAGMENT, &[&later, &TO_443])[..], &V6), none);
    }

    #[test]
    fn extension_headers_are_followed_to_their_limit() {
        let options = [DESTINATION, 0, 0, 0, 0, 0, 0, 0];
        let last = [TCP, 0, 0, 0, 0, 0, 0, 0];
        for count in 1..=MAX_EXTENSION_HEADERS {
            let chain = [options.repeat(count - 1).as_slice(), &last, &TO_443].concat();
            assert_eq!(transport(&ipv6(HOP_BY_HOP, &[&chain])[..], &V6), ports(TCP), "{count}");
        }
        let chain = [options.repeat(MAX_EXTENSION_HEADERS).as_slice(), &last, &TO_443].concat();
        assert_eq!(transport(&ipv6(ROUTING, &[&chain])[..], &V6), Transport::TooDeep);
    }

    #[test]
    fn the_length_of_authentication_is_in_words() {
        let mut header = std::vec![TCP, 5];
        header.resize((5 + 2) * 4, 0);
        assert_eq!(transport(&ipv6(AUTHENTICATION, &[&header, &TO_443])[..], &V6), ports(TCP));
    }

    #[test]
    fn a_packet_cut_off_before_its_ports_has_none() {
        let none = Transport::NoPorts { protocol: TCP };
        assert_eq!(transport(&ipv4(0x45, 0, TCP, &TO_443[..3])[..], &V4), none);
        assert_eq!(transport(&ipv6(TCP, &[&TO_443[..3]])[..], &V6), none);
        assert_eq!(transport(&ipv6(DESTINATION, &[&[TCP]])[..], &V6), Transport::Malformed);
    }

    #[test]
    fn bits_keep_everything() {
        for one in [
            Transport::Malformed,
            Transport::TooDeep,
            Transport::NoPorts { protocol: 255 },
            Transport::NoPorts { protocol: 0 },
            Transport::Ports { protocol: 17, destination: 65_535 },
        ] {
            assert_eq!(Transport::from_bits(one.bits()), one);
        }
    }
}
