//! Frames, byte by byte.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const QTAG: u16 = 0x8100;
pub(crate) const STAG: u16 = 0x88a8;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// An Ethernet frame; `tags` are the EtherTypes of its VLAN tags, outermost first.
pub(crate) fn ethernet(tags: &[u16], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 packet with so many words of options and this flags-and-fragment field.
pub(crate) fn ipv4(source: Ipv4Addr, protocol: u8, options: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + 4 * usize::from(options);
    let length = u16::try_from(header + payload.len()).unwrap();
    let mut packet = vec![0x45 + options, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend([192, 0, 2, 1]);
    packet.resize(header, 1);
    packet.extend(payload);
    packet
}

/// An IPv6 packet.
pub(crate) fn ipv6(source: Ipv6Addr, next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(source.octets());
    packet.extend(Ipv6Addr::LOCALHOST.octets());
    packet.extend(payload);
    packet
}

/// The beginning of a TCP or UDP segment to `port`.
pub(crate) fn segment(port: u16) -> Vec<u8> {
    let mut segment = vec![0xc0, 0];
    segment.extend(port.to_be_bytes());
    segment.resize(20, 0);
    segment
}

/// Extension headers of these kinds, 8 bytes each, and behind them `last`.
pub(crate) fn extensions(kinds: &[u8], last: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    let mut chain = Vec::new();
    for next in kinds.iter().skip(1).chain([&last]) {
        chain.extend([*next, 0, 0, 0, 0, 0, 0, 0]);
    }
    chain.extend(payload);
    (kinds.first().copied().unwrap_or(last), chain)
}
