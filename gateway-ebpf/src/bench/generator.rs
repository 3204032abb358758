//! Gives each frame of a template its own source, and sends it.

use core::ptr;

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::XDP_ABORTED;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_redirect};
use aya_ebpf::programs::XdpContext;
use gateway_ebpf::bench::{v4_prefix, v6_prefix};

#[unsafe(no_mangle)]
static INTERFACE: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static FIRST: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static COUNT: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static HEADER_SUM: Global<u32> = Global::new(0);

/// Bytes of an Ethernet header without tags.
const ETHERNET: usize = 14;

/// RFC 791 §3.1: checksum and source.
pub(super) fn v4(context: &XdpContext) -> u32 {
    let random = random();
    let source = v4_prefix(prefix(random)) | random & 0xff;
    let mut sum = HEADER_SUM.load() + (source >> 16) + (source & 0xffff);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    write(context, ETHERNET + 10, (!sum as u16).to_be());
    send(write(context, ETHERNET + 12, source.to_be()))
}

/// RFC 8200 §3: source.
pub(super) fn v6(context: &XdpContext) -> u32 {
    let chosen = random();
    let random = u64::from(random());
    let high = v6_prefix(prefix(chosen)) | random & 0xffff;
    write(context, ETHERNET + 16, (random << 32 | u64::from(chosen)).to_be());
    send(write(context, ETHERNET + 8, high.to_be()))
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_prandom_u32() }
}

/// One of the chosen prefixes, all of them as likely.
#[inline(always)]
fn prefix(random: u32) -> u32 {
    FIRST.load() + ((u64::from(random) * u64::from(COUNT.load())) >> 32) as u32
}

#[inline(always)]
fn write<T>(context: &XdpContext, at: usize, value: T) -> bool {
    let start = context.data() + at;
    if start + size_of::<T>() > context.data_end() {
        return false;
    }
    // SAFETY: the bytes are inside the frame, as the verifier checks once more.
    unsafe { ptr::write_unaligned(start as *mut T, value) };
    true
}

#[inline(always)]
fn send(written: bool) -> u32 {
    if !written {
        return XDP_ABORTED;
    }
    // SAFETY: the helper has no preconditions.
    let action = unsafe { bpf_redirect(INTERFACE.load(), 0) };
    u32::try_from(action).unwrap_or(XDP_ABORTED)
}
