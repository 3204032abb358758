//! The bench's XDP programs: the generator of its traffic, and what the daemon's program is
//! compared with.
#![no_std]
#![no_main]
#![expect(clippy::cast_possible_truncation, reason = "random numbers and addresses are cut in parts")]
#![expect(missing_docs, unreachable_pub, reason = "of the symbols that the attribute makes")]

#[expect(dead_code, reason = "nothing counts bytes here")]
#[path = "../program/frame.rs"]
mod frame;
mod generator;
mod peers;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

#[xdp]
pub fn generate_v4(context: XdpContext) -> u32 {
    generator::v4(&context)
}

#[xdp]
pub fn generate_v6(context: XdpContext) -> u32 {
    generator::v6(&context)
}

#[xdp]
pub fn drop_all(_: XdpContext) -> u32 {
    XDP_DROP
}

#[xdp]
pub fn pass_all(_: XdpContext) -> u32 {
    XDP_PASS
}

#[xdp]
pub fn parse_only(context: XdpContext) -> u32 {
    peers::parse_only(&context)
}

#[xdp]
pub fn parse_drop(context: XdpContext) -> u32 {
    peers::parse_drop(&context)
}

#[xdp]
pub fn trie_drop_v4(context: XdpContext) -> u32 {
    peers::trie_drop_v4(&context)
}

#[xdp]
pub fn trie_drop_v6(context: XdpContext) -> u32 {
    peers::trie_drop_v6(&context)
}

/// Without this licence the kernel refuses the helpers that only free programs may call.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: nothing above can panic, or the verifier would refuse it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
