//! What the daemon's program is compared with. They count and report nothing, which is to their
//! advantage.

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::LpmTrie;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use gateway_ebpf::packet::{Network, Source, network};

use super::frame::Packet;

/// The bench sets the lengths.
#[btf_map]
static TRIE_V4: LpmTrie<u32, u32, 1> = LpmTrie::new();

#[btf_map]
static TRIE_V6: LpmTrie<[u32; 4], u32, 1> = LpmTrie::new();

#[inline(always)]
fn source(context: &XdpContext) -> Option<Source> {
    match network(&Packet::new(context)) {
        Network::Ip(ip) => Some(ip.source),
        Network::Other | Network::Malformed => None,
    }
}

/// Depends on the address, so that the compiler cannot leave the parsing out.
#[inline(always)]
pub(super) fn parse_only(context: &XdpContext) -> u32 {
    match source(context) {
        Some(Source::V4(0) | Source::V6(0, 0)) => XDP_ABORTED,
        _ => XDP_PASS,
    }
}

/// As [`parse_only`], for the drop path.
#[inline(always)]
pub(super) fn parse_drop(context: &XdpContext) -> u32 {
    match source(context) {
        Some(Source::V4(0) | Source::V6(0, 0)) => XDP_ABORTED,
        _ => XDP_DROP,
    }
}

#[inline(always)]
pub(super) fn trie_drop_v4(context: &XdpContext) -> u32 {
    let Some(Source::V4(address)) = source(context) else {
        return XDP_PASS;
    };
    verdict(TRIE_V4.get(&Key::new(32, address.to_be())))
}

#[inline(always)]
pub(super) fn trie_drop_v6(context: &XdpContext) -> u32 {
    let Some(Source::V6(high, low)) = source(context) else {
        return XDP_PASS;
    };
    let words = [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32];
    verdict(TRIE_V6.get(&Key::new(128, words.map(u32::to_be))))
}

#[inline(always)]
fn verdict(found: Option<&u32>) -> u32 {
    if found.is_some() { XDP_DROP } else { XDP_PASS }
}
