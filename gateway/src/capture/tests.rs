//! Captures made by hand, byte by byte.

use std::sync::Arc;

use gateway_ebpf::judgement::judge;

use super::*;
use crate::config::Ports;
use crate::policy::{
    CompileLimits, Generation, List, ListEntry, PolicyInput, SourceTable, Tier, Verdict, compile,
};

const ETHERNET: u32 = 1;
const RAW: u32 = 101;
const SLL: u32 = 113;
const SLL2: u32 = 276;

/// A SYN from 192.0.2.`last` to `port`, without an Ethernet header.
fn packet(last: u8, port: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 192, 0, 2, last, 198, 51, 100, 1];
    packet.extend([0xc0, 0]);
    packet.extend(port.to_be_bytes());
    packet.resize(40, 0);
    packet
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &[8, 0], packet].concat()
}

/// A pcap file in this byte order.
fn pcap(kind: u32, packets: &[Vec<u8>], number: fn(u32) -> [u8; 4], half: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mut file = number(0xa1b2_c3d4).to_vec();
    file.extend([half(2), half(4)].concat());
    file.extend([0, 0, 65_535, kind].map(number).concat());
    for packet in packets {
        let length = u32::try_from(packet.len()).expect("short");
        // One byte was not captured.
        file.extend([1, 2, length, length + 1].map(number).concat());
        file.extend(packet);
    }
    file
}

/// A pcapng file with one interface of each kind, and each packet on the interface beside it.
fn pcapng(kinds: &[u32], packets: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let body = [body, &vec![0; body.len().next_multiple_of(4) - body.len()]].concat();
        let length = (u32::try_from(body.len()).expect("short") + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, &body, &length].concat()
    };
    let mut header = 0x1a2b_3c4du32.to_le_bytes().to_vec();
    header.extend([1, 0, 0, 0]);
    header.extend([0xff; 8]);
    let mut file = block(0x0a0d_0d0a, &header);
    for kind in kinds {
        let kind = u16::try_from(*kind).expect("small").to_le_bytes();
        file.extend(block(1, &[kind[0], kind[1], 0, 0, 0, 0, 4, 0]));
    }
    for (interface, packet) in packets {
        let length = u32::try_from(packet.len()).expect("short");
        let head = [*interface, 0, 0, length, length + 1].map(u32::to_le_bytes).concat();
        file.extend(block(6, &[&head[..], packet].concat()));
    }
    file
}

fn read(file: &[u8]) -> (Vec<(Vec<u8>, u64)>, End) {
    let mut all = Vec::new();
    let end = frames(file, |frame, length| all.push((frame.to_vec(), length))).expect("a capture");
    (all, end)
}

fn generation(lists: Vec<(Tier, &str, &str)>) -> Generation {
    let lists = lists.into_iter().map(|(tier, name, prefix)| {
        let entries = vec![ListEntry { prefix: prefix.parse().expect("a prefix"), line: 1 }];
        Arc::new(List { tier, name: name.into(), entries })
    });
    let input = PolicyInput { default: Verdict::Pass, lists: lists.collect() };
    compile(1, &input, &CompileLimits::default(), &mut SourceTable::default()).expect("a policy")
}

#[test]
fn frames_of_both_forms_and_byte_orders_are_read_with_their_length_on_the_wire() {
    let packets = [ethernet(&packet(1, 80)), ethernet(&packet(2, 80))];
    let expected: Vec<(Vec<u8>, u64)> = packets.iter().map(|packet| (packet.clone(), 55)).collect();
    for file in [
        pcap(ETHERNET, &packets, u32::to_le_bytes, u16::to_le_bytes),
        pcap(ETHERNET, &packets, u32::to_be_bytes, u16::to_be_bytes),
        pcapng(&[ETHERNET], &packets.clone().map(|packet| (0, packet))),
    ] {
        assert_eq!(read(&file), (expected.clone(), End::default()));
    }
}

#[test]
fn packets_without_an_ethernet_header_are_judged_too_and_unknown_kinds_are_counted() {
    let bare = packet(1, 80);
    let sll = [&[0; 14][..], &[8, 0], &bare].concat();
    let sll2 = [&[8, 0][..], &[0; 18], &bare].concat();
    let (all, end) = read(&pcapng(
        &[RAW, SLL, SLL2, 147],
        &[(0, bare.clone()), (1, sll), (2, sll2), (3, bare.clone()), (9, bare.clone())],
    ));
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|(frame, _)| frame[12..] == ethernet(&bare)[12..]), "{all:?}");
    assert_eq!(end, End { cut_off: false, other_packets: 2 });
}

#[test]
fn a_packet_that_does_not_fit_into_the_first_buffer_is_read_and_one_without_end_is_not() {
    let mut long = ethernet(&packet(1, 80));
    let packets = |long: &[u8]| [ethernet(&packet(2, 80)), long.to_vec(), ethernet(&packet(3, 80))];
    for (length, read_to_the_end) in [(70_000, true), (250_000, true), (2_000_000, false)] {
        long.resize(length, 7);
        let packets = packets(&long);
        for file in [
            pcap(ETHERNET, &packets, u32::to_le_bytes, u16::to_le_bytes),
            pcapng(&[ETHERNET], &packets.clone().map(|packet| (0, packet))),
        ] {
            let (all, end) = read(&file);
            assert_eq!((all.len() == 3, end.cut_off), (read_to_the_end, !read_to_the_end), "{length} bytes");
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_gives_the_frames_before_that() {
    let packets = [ethernet(&packet(1, 80)), ethernet(&packet(2, 80)), ethernet(&packet(3, 80))];
    for file in [
        pcap(ETHERNET, &packets, u32::to_le_bytes, u16::to_le_bytes),
        pcapng(&[ETHERNET], &packets.clone().map(|packet| (0, packet))),
    ] {
        let whole = read(&file).0;
        for length in 0..file.len() {
            let mut all = Vec::new();
            let end = frames(&file[..length], |frame, length| all.push((frame.to_vec(), length)));
            assert!(all.len() < whole.len() && whole.starts_with(&all), "{length} bytes");
            // At the border of two records nothing shows that there were more.
            let border = [length + 70, length + 88].contains(&file.len());
            let said = end.is_err() || end.is_ok_and(|end| end.cut_off);
            assert!(said || border || all.len() + 1 < whole.len(), "{length} bytes");
        }
    }
    assert_eq!(frames(&b"no capture"[..], |_, _| {}), Err(CaptureError::NotACapture));
}

#[test]
fn packets_are_added_up_by_list_and_the_busiest_sources_are_named() {
    let generation = generation(vec![
        (Tier::Deny, "deny", "192.0.2.0/30"),
        (Tier::Observe, "new", "192.0.2.0/28"),
        (Tier::Allow, "allow", "192.0.2.1/32"),
    ]);
    let mut tally = Tally::new(&generation, &Ports::Only(vec![443, 80]));
    let sent = [(1, 80), (2, 80), (2, 443), (2, 22), (3, 80), (9, 80), (9, 22), (77, 80)];
    for (last, port) in sent {
        let frame = ethernet(&packet(last, port));
        let guarded = |port| [80, 443].contains(&port);
        let dropped = tally.report().dropped_packets;
        tally.add(&frame, 100);
        let judged = judge(generation.blocks(), frame.as_slice(), Some(guarded)).is_drop();
        assert_eq!(tally.report().dropped_packets - dropped, u64::from(judged));
    }
    let report = tally.report();
    assert_eq!((report.packets, report.bytes, report.dropped_packets), (8, 800, 3));
    let told: Vec<(&str, &str, u64)> =
        report.lists.iter().map(|list| (list.tier.as_str(), list.verdict.as_str(), list.packets)).collect();
    for expected in [("deny", "dropped", 3), ("observe", "passed, observed", 1), ("allow", "passed", 1)] {
        assert!(told.contains(&expected), "{told:?}");
    }
    assert_eq!(report.passed_otherwise, [("out_of_scope".to_owned(), 2)]);
    let top = &report.top_dropped[0];
    assert_eq!((top.source.to_string().as_str(), top.packets, top.line), ("192.0.2.2", 2, 1));

    // Before, 192.0.2.3 was not dropped and 192.0.2.77 was.
    let before =
        |source: std::net::IpAddr| ["192.0.2.2", "192.0.2.77"].contains(&source.to_string().as_str());
    let changes = tally.changes(|source| Some(before(source)));
    assert_eq!((changes.newly_dropped.sources, changes.newly_dropped.packets), (1, 1));
    assert_eq!(changes.newly_passing.top[0].source.to_string(), "192.0.2.77");
}

#[test]
fn sources_beyond_the_limit_are_in_the_sums_and_told_as_left_out() {
    let generation = generation(vec![(Tier::Deny, "deny", "192.0.2.0/24")]);
    let mut tally = Tally::new(&generation, &Ports::All);
    let most = u32::try_from(MOST_SOURCES).expect("small");
    let mut frame = ethernet(&packet(1, 80));
    for number in 0..most + 3 {
        frame[26..30].copy_from_slice(&number.to_be_bytes());
        tally.add(&frame, 60);
    }
    let report = tally.report();
    assert_eq!((report.sources, report.packets_of_more_sources), (MOST_SOURCES, 3));
    assert_eq!(report.packets, u64::from(most) + 3);
}
