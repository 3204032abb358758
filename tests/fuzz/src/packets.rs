//! Frames: the code that runs in the kernel, against a parser made for the field.

use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};
use gateway_ebpf::packet::{Ip, MAX_VLAN_TAGS, Network, Source, is_neighbour_discovery, network};
use gateway_ebpf::transport::{TCP, Transport, UDP, transport};

/// EtherTypes of VLAN tags that Linux follows: 802.1Q and 802.1ad.
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];

pub(crate) fn run(input: &[u8]) {
    let whole = network(input);
    for length in 0..input.len() {
        let cut = network(&input[..length]);
        assert!(
            cut == whole || cut == Network::Malformed,
            "{length} bytes: {cut:?}, and the frame is {whole:?}"
        );
    }
    if let Network::Ip(ip) = whole {
        stands_in_the_frame(input, &ip);
        let above = transport(input, &ip);
        assert_eq!(Transport::from_bits(above.bits()), above);
        if is_neighbour_discovery(input, &ip) {
            let packet = &input[ip.header..];
            assert_eq!((packet[0] >> 4, packet[6], packet[7]), (6, 58, 255));
            assert!((133..=137).contains(&packet[40]));
        }
    }
    agrees_with_etherparse(input, whole);
}

/// The source is read where RFC 791 §3.1 and RFC 8200 §3 say that it stands.
fn stands_in_the_frame(frame: &[u8], ip: &Ip) {
    let tags = (ip.header - 14) / 4;
    assert!(tags <= MAX_VLAN_TAGS && ip.header == 14 + 4 * tags);
    assert!((0..tags).all(|tag| TAGS.iter().any(|kind| frame[12 + 4 * tag..].starts_with(kind))));
    let packet = &frame[ip.header..];
    match ip.source {
        Source::V4(source) => assert_eq!((packet[0] >> 4, &packet[12..16]), (4, &source.to_be_bytes()[..])),
        Source::V6(high, low) => {
            let source = [high.to_be_bytes(), low.to_be_bytes()].concat();
            assert_eq!((packet[0] >> 4, &packet[8..24]), (6, &source[..]));
        }
    }
}

/// Where etherparse, which is stricter, finds an IP packet, the same source is found, and the same
/// port.
fn agrees_with_etherparse(frame: &[u8], found: Network) {
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else {
        return;
    };
    let tags = sliced.link_exts.len();
    let is_vlan = |extension: &LinkExtSlice<'_>| matches!(extension, LinkExtSlice::Vlan(_));
    let known = (0..tags).all(|tag| TAGS.iter().any(|kind| frame[12 + 4 * tag..].starts_with(kind)));
    if tags > MAX_VLAN_TAGS || !sliced.link_exts.iter().all(is_vlan) || !known {
        return;
    }
    let (source, fragmented) = match &sliced.net {
        Some(NetSlice::Ipv4(packet)) => {
            let header = packet.header();
            (Source::V4(header.source_addr().to_bits()), header.is_fragmenting_payload())
        }
        Some(NetSlice::Ipv6(packet)) => {
            let bits = packet.header().source_addr().to_bits();
            let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
            (Source::V6(half(bits >> 64), half(bits)), packet.is_payload_fragmented())
        }
        Some(NetSlice::Arp(_)) | None => return,
    };
    let expected = Ip { source, header: 14 + 4 * tags };
    assert_eq!(found, Network::Ip(expected));
    let ports = match &sliced.transport {
        Some(TransportSlice::Tcp(segment)) => (TCP, segment.destination_port()),
        Some(TransportSlice::Udp(datagram)) => (UDP, datagram.destination_port()),
        _ => return,
    };
    if !fragmented {
        let above = transport(frame, &expected);
        let (protocol, destination) = ports;
        assert!(
            above == Transport::Ports { protocol, destination } || above == Transport::TooDeep,
            "{above:?}, and etherparse finds {ports:?}"
        );
    }
}
