//! Who was dropped, or would have been, and how often: see [`gateway_ebpf::clients`].

use core::ptr;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_coarse_ns};
use aya_ebpf::programs::XdpContext;
use gateway_ebpf::clients::{self, Count, Place, Reporting, Slot, Takeover, WAYS};
use gateway_ebpf::generation::{self, Decision};
use gateway_ebpf::packet::{Ip, Source};

use super::above_ip;
use super::maps::{CLIENTS, EVENTS, Generation, Live, REPORT_INTERVAL, REPORTING, SET_BITS, TAGS};

/// Notes a packet that was dropped, or would have been if its list were not only observed.
#[inline(always)]
pub(super) fn blocked(context: &XdpContext, ip: &Ip, decision: Decision, generation: &Live<'_>) {
    // A constant of the program: where it is 0, the kernel leaves out all that follows.
    if REPORT_INTERVAL.load() == 0 {
        return;
    }
    // SAFETY: the helper has no preconditions.
    let tick = unsafe { bpf_jiffies64() };
    let Some(reporting) = reporting() else { return };
    // What the packets of a flood end at is here, and the rest a function of its own: that halved what
    // they cost beyond their drop (`cargo xtask bench policy -- --noting`).
    if decision.is_drop() && reporting.spares(tick) {
        reporting.unreported += 1;
        return;
    }
    let identity @ (family, high, low) = clients::identity(ip.source);
    let Place { set, tag } = place(high, low);
    if let Some(tags) = TAGS.get(set) {
        match clients::first(clients::candidates(tags, tag)) {
            Some((way, _)) => {
                if let Some(slot) = slot(set, way)
                    && slot.is_of(identity, decision.bits(), interface(context))
                {
                    publish(slot, slot.count + 1, generation::number(generation).unwrap_or(0));
                    return;
                }
            }
            None if reporting.without_leave == tick => {
                if decision.is_drop() {
                    reporting.unreported += 1;
                }
                return;
            }
            None => {}
        }
    }
    let what = ((ip.header as u64) << 32) | (u64::from(family) << 16) | u64::from(decision.bits());
    note(context, high, low, what, generation.0);
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the kernel has it as 32 bits")]
fn interface(context: &XdpContext) -> u32 {
    context.ingress_ifindex() as u32
}

/// Where this CPU has a client.
#[inline(always)]
fn place(high: u64, low: u64) -> Place {
    let bits = SET_BITS.load();
    let Place { set, tag } = clients::place_of(high, low, bits);
    // SAFETY: the helper has no preconditions.
    Place { set: unsafe { bpf_get_smp_processor_id() } << (bits & 31) | set, tag }
}

/// A function of its own in the kernel, for the same reason as that of what stands above IP. It takes
/// five words at most: `what` has the place of the header, the family and the decision.
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "a word is taken apart")]
fn note(context: &XdpContext, high: u64, low: u64, what: u64, generation: &Generation) {
    let (decision, family) = (Decision::from_bits(what as u16), (what >> 16) as u16);
    let header = (what >> 32) as usize;
    let source = if family == 6 { Source::V6(high, low) } else { Source::V4(low as u32) };
    let Place { set, tag } = place(high, low);
    let number = generation::number(&Live(generation)).unwrap_or(0);
    let interface = interface(context);
    // SAFETY: only this CPU writes to the tags of its sets, and nobody else reads them.
    if let Some(tags) = TAGS.get_ptr_mut(set).map(|tags| unsafe { &mut *tags }) {
        let mut left = clients::candidates(tags, tag);
        for _ in 0..CANDIDATES {
            let Some((way, others)) = clients::first(left) else { break };
            left = others;
            if let Some(slot) = slot(set, way)
                && slot.is_of((family, high, low), decision.bits(), interface)
            {
                publish(slot, slot.count + 1, number);
                return;
            }
        }
        // The budget comes first: under a flood of new clients it is what most packets end at.
        if let Some(now) = within_budget() {
            let way = match clients::first(clients::candidates(tags, 0)) {
                Some((free, _)) => free,
                // Whoever it hits: a client that goes on comes back with its next packet.
                None => (now >> 22) as u32 ^ set.wrapping_mul(5) ^ u32::from(tag),
            } & (WAYS - 1);
            if let Some(slot) = slot(set, way) {
                let tenant = Slot {
                    count: Count(slot.count).next_tenant().0,
                    generation: number,
                    high,
                    low,
                    decision: decision.bits(),
                    family,
                    interface,
                    transport: above_ip(context, &Ip { source, header }).bits(),
                    padding: [0; 5],
                };
                if take_over(clients::slot_index(set, way, SET_BITS.load()), slot, &tenant) {
                    clients::set_tag(tags, way, tag);
                    return;
                }
            }
        }
    }
    if !decision.is_drop() {
        return;
    }
    if let Some(reporting) = reporting() {
        reporting.unreported += 1;
    }
}

/// Slots that are looked at for one packet. Two clients of one set have the same tag in one case of
/// 65,535; a client that is not found among so many gets one more slot.
const CANDIDATES: u32 = 2;

#[inline(always)]
fn slot(set: u32, way: u32) -> Option<&'static mut Slot> {
    // SAFETY: only this CPU writes to the slots of its sets, and nothing else runs here while an XDP
    // program does. The daemon only reads them.
    CLIENTS.get_ptr_mut(clients::slot_index(set, way, SET_BITS.load())).map(|slot| unsafe { &mut *slot })
}

/// Gives the slot to a new tenant; `false`, and nothing happened, when that cannot be reported.
#[inline(always)]
fn take_over(index: u32, slot: &mut Slot, tenant: &Slot) -> bool {
    let Some(mut event) = EVENTS.reserve(0) else {
        return false;
    };
    event.write(Takeover { index, padding: 0, evicted: *slot, taken: *tenant });
    publish(slot, tenant.count, tenant.generation);
    slot.high = tenant.high;
    slot.low = tenant.low;
    slot.decision = tenant.decision;
    slot.family = tenant.family;
    slot.interface = tenant.interface;
    slot.transport = tenant.transport;
    event.submit(0);
    true
}

/// Writes what the daemon reads without waiting for an event, the count first: whoever reads them
/// the other way round and finds the tenant that he knows has the tenant's own generation.
#[inline(always)]
fn publish(slot: &mut Slot, count: u64, generation: u64) {
    // SAFETY: both are fields of a live reference.
    unsafe {
        ptr::write_volatile(&raw mut slot.count, count);
        ptr::write_volatile(&raw mut slot.generation, generation);
    }
}

/// The time, when this CPU may report one more takeover.
#[inline(always)]
fn within_budget() -> Option<u64> {
    let reporting = reporting()?;
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    if reporting.pay(now, REPORT_INTERVAL.load()) {
        return Some(now);
    }
    // SAFETY: as above.
    reporting.refuse(unsafe { bpf_jiffies64() });
    None
}

#[inline(always)]
fn reporting() -> Option<&'static mut Reporting> {
    // SAFETY: this CPU's own element, and nothing else runs here while an XDP program does.
    REPORTING.get_ptr_mut(0).map(|reporting| unsafe { &mut *reporting })
}
