//! The XDP program.
#![no_std]
#![no_main]
#![expect(missing_docs, unreachable_pub, reason = "of the symbol that the attribute makes")]

mod program;

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Judges one frame. The name is what `ip link` and `bpftool` show.
#[xdp(frags)]
pub fn gatehouse(context: XdpContext) -> u32 {
    program::judge(&context)
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
