//! The frames of a pcap or pcapng file.

use std::io::Read;

use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

/// Bytes that are in memory at first, and more than the largest block that is read once one does
/// not fit. Packets are at most 256 KiB long.
const BUFFER: usize = 64 * 1024;
const LARGEST_BUFFER: usize = 1024 * 1024;

/// Interfaces of one section of a pcapng file; packets of others are counted as of no known kind.
const MOST_INTERFACES: usize = 4096;

/// Bytes of an Ethernet header without tags, of which only the EtherType says something.
const ETHERNET: usize = 14;

/// Where the protocol stands in the headers of captures on all interfaces, and where the packet.
const SLL: (usize, usize) = (14, 16);
const SLL2: (usize, usize) = (0, 20);

/// Why a file cannot be read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// Neither form.
    #[error("is neither a pcap nor a pcapng file")]
    NotACapture,
    /// The file system failed.
    #[error("cannot be read")]
    Read,
}

/// How a file ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// It was cut off, or is damaged from some point on: the frames before that were read.
    pub cut_off: bool,
    /// Packets without an Ethernet frame that could be judged.
    pub other_packets: u64,
}

/// Gives every frame of `file` to `take`, with its length on the wire. Packets that were captured
/// without Ethernet header get one.
///
/// # Errors
///
/// When this is no capture, or the file system fails.
pub fn frames(file: impl Read + Send, mut take: impl FnMut(&[u8], u64)) -> Result<End, CaptureError> {
    let mut reader = match create_reader(BUFFER, file) {
        Ok(reader) => reader,
        Err(PcapError::ReadError) => return Err(CaptureError::Read),
        Err(_) => return Err(CaptureError::NotACapture),
    };
    let mut end = End::default();
    let mut kinds = Kinds::default();
    let mut frame = Vec::new();
    let mut grown = false;
    loop {
        let available = reader.data().len();
        let offset = match reader.next() {
            Ok((offset, block)) => {
                match packet(&block, &mut kinds) {
                    Some((data, length, kind)) => match ethernet(kind, data, &mut frame) {
                        Some(frame) => take(frame, length),
                        None => end.other_packets += 1,
                    },
                    None if is_packet(&block) => end.other_packets += 1,
                    None => {}
                }
                offset
            }
            Err(PcapError::Eof) => return Ok(end),
            Err(PcapError::Incomplete(_) | PcapError::BufferTooSmall) => {
                let exhausted = reader.reader_exhausted();
                reader.refill().map_err(|_| CaptureError::Read)?;
                if reader.data().len() > available || (reader.reader_exhausted() && !exhausted) {
                    continue;
                }
                // A block that does not fit, or a file that ends inside one.
                if grown || !reader.grow(LARGEST_BUFFER) {
                    return Ok(End { cut_off: true, ..end });
                }
                grown = true;
                continue;
            }
            Err(PcapError::ReadError) => return Err(CaptureError::Read),
            Err(_) => return Ok(End { cut_off: true, ..end }),
        };
        if offset == 0 {
            return Ok(End { cut_off: true, ..end });
        }
        reader.consume(offset);
    }
}

/// Of which kind the packets of each interface are.
#[derive(Default)]
struct Kinds(Vec<Linktype>);

/// The packet in a block with its length on the wire and its kind. Other blocks tell about kinds.
fn packet<'a>(block: &'a PcapBlockOwned<'_>, kinds: &mut Kinds) -> Option<(&'a [u8], u64, Linktype)> {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            // The upper half tells about checksums behind the frames.
            kinds.0 = vec![Linktype(header.network.0 & 0xffff)];
            None
        }
        PcapBlockOwned::Legacy(packet) => {
            let length = packet.caplen.max(packet.origlen);
            Some((packet.data, length.into(), *kinds.0.first()?))
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            kinds.0.clear();
            None
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            if kinds.0.len() < MOST_INTERFACES {
                kinds.0.push(interface.linktype);
            }
            None
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let kind = *kinds.0.get(usize::try_from(packet.if_id).ok()?)?;
            Some((packet.packet_data(), packet.caplen.max(packet.origlen).into(), kind))
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            Some((packet.packet_data(), packet.origlen.into(), *kinds.0.first()?))
        }
        PcapBlockOwned::NG(_) => None,
    }
}

fn is_packet(block: &PcapBlockOwned<'_>) -> bool {
    matches!(
        block,
        PcapBlockOwned::Legacy(_) | PcapBlockOwned::NG(Block::EnhancedPacket(_) | Block::SimplePacket(_))
    )
}

/// The packet as an Ethernet frame; `None` when its kind is none that carries IP in a known way.
fn ethernet<'a>(kind: Linktype, data: &'a [u8], frame: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let (ether_type, packet) = match kind {
        Linktype::ETHERNET => return Some(data),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 => match data.first()? >> 4 {
            4 => ([0x08, 0x00], data),
            6 => ([0x86, 0xdd], data),
            _ => return None,
        },
        Linktype::LINUX_SLL => cooked(data, SLL)?,
        Linktype::LINUX_SLL2 => cooked(data, SLL2)?,
        _ => return None,
    };
    frame.clear();
    frame.resize(ETHERNET - ether_type.len(), 0);
    frame.extend(ether_type);
    frame.extend(packet);
    Some(frame)
}

/// Protocol and packet behind the header of a capture on all interfaces.
fn cooked(data: &[u8], (protocol, packet): (usize, usize)) -> Option<([u8; 2], &[u8])> {
    Some((*data.get(protocol..)?.first_chunk()?, data.get(packet..)?))
}
