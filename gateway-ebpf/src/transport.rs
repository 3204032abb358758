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
