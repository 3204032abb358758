//! Promises about the parser of frames on input that nobody thought of. It is the code that runs
//! in the kernel.

use gateway_ebpf::packet::{Network, is_neighbour_discovery, network};
use gateway_ebpf::transport::transport;
use proptest::prelude::*;

/// Bytes that often look like a frame: a few tags, a type, and a version that may fit.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop_oneof![Just(0x8100u16), Just(0x88a8)];
    let kind = prop_oneof![Just(0x0800u16), Just(0x86dd), any::<u16>()];
    let version = prop_oneof![Just(0x45u8), Just(0x4f), Just(0x60), any::<u8>()];
    let next = prop_oneof![Just(0u8), Just(6), Just(43), Just(44), Just(51), Just(60), any::<u8>()];
    let payload = prop::collection::vec(prop_oneof![Just(0u8), Just(60), any::<u8>()], 0..200);
    (prop::collection::vec(tag, 0..4), kind, version, next, payload).prop_map(
        |(tags, kind, version, next, payload)| {
            let mut frame = vec![0; 12];
            for tag in tags {
                frame.extend(tag.to_be_bytes());
                frame.extend([0, 0]);
            }
            frame.extend(kind.to_be_bytes());
            frame.push(version);
            frame.extend([0; 5]);
            frame.push(next);
            frame.extend(payload);
            frame
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Network::Ip(ip) = network(frame.as_slice()) {
            transport(frame.as_slice(), &ip);
            is_neighbour_discovery(frame.as_slice(), &ip);
        }
    }

    #[test]
    fn bytes_that_follow_never_change_the_source(frame in frame()) {
        let whole = network(frame.as_slice());
        for length in 0..frame.len() {
            let cut = network(&frame[..length]);
            prop_assert!(cut == whole || cut == Network::Malformed, "{length} bytes: {cut:?}, not {whole:?}");
        }
        if let Network::Ip(ip) = whole {
            for length in 0..=frame.len() {
                transport(&frame[..length], &ip);
            }
        }
    }
}
