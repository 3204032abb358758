//! Captures: two forms with lengths everywhere, from whoever was asked to send one.

use gateway::capture::frames;

/// Bytes of an Ethernet header, which packets without one get.
const ETHERNET: usize = 14;

pub(crate) fn run(input: &[u8]) {
    let whole = read(input);
    let packets: Vec<&[u8]> = whole.iter().map(|frame| &frame[ETHERNET.min(frame.len())..]).collect();
    let bytes: usize = packets.iter().map(|packet| packet.len()).sum();
    assert!(bytes <= input.len(), "{bytes} bytes from {}", input.len());
    for packet in packets {
        let there = packet.is_empty() || input.windows(packet.len()).any(|window| window == packet);
        assert!(there, "a packet of {} bytes is not in the file", packet.len());
    }
    for length in [input.len() / 4, input.len() / 2, input.len().saturating_sub(1)] {
        let some = read(&input[..length]);
        assert!(whole.starts_with(&some), "{length} bytes give other frames than the whole file");
    }
}

fn read(input: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    // What is no capture has no frames.
    let _ = frames(input, |frame, _| all.push(frame.to_vec()));
    all
}
