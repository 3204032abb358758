//! Who was dropped, or would have been, and how often: see [`gateway_ebpf::clients`].

use core::ptr;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_coarse_ns};
use aya_ebpf::programs::XdpContext;
use gateway_ebpf::clients::{self, Count, Reporting, Slot, Takeover};
use gateway_ebpf::generation::{self, Decision};
use gateway_ebpf::packet::Ip;

use super::above_ip;
use super::maps::{CLIENTS, EVENTS, Live, REPORTING, REPORTS_PER_SECOND, SLOT_BITS};

const SECOND: u64 = 1_000_000_000;

/// Notes a packet that was dropped, or would have been if its list were not only observed.
#[inline(always)]
pub(super) fn blocked(context: &XdpContext, ip: &Ip, decision: Decision, generation: &Live<'_>) {
    let bits = SLOT_BITS.load();
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let index = cpu << (bits & 31) | clients::slot_of(ip.source, bits);
    let (family, high, low) = clients::identity(ip.source);
    let number = generation::number(generation).unwrap_or(0);
    #[expect(clippy::cast_possible_truncation, reason = "the kernel has it as 32 bits")]
    let interface = context.ingress_ifindex() as u32;
    // SAFETY: only this CPU writes to the slot, and nothing else runs here while an XDP program
    // does. The daemon only reads it.
    let slot = CLIENTS.get_ptr_mut(index).map(|slot| unsafe { &mut *slot });
    if let Some(slot) = slot {
        if slot.low == low
            && slot.high == high
            && slot.decision == decision.bits()
            && slot.family == family
            && slot.interface == interface
        {
            publish(slot, slot.count + 1, number);
            return;
        }
        // The budget comes first: under a flood of new clients it is what most packets end at.
        if within_budget() {
            let tenant = Slot {
                count: Count(slot.count).next_tenant().0,
                generation: number,
                high,
                low,
                decision: decision.bits(),
                family,
                interface,
                transport: above_ip(context, ip).bits(),
                padding: [0; 5],
            };
            if take_over(index, slot, &tenant) {
                return;
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

/// Whether this CPU may report one more takeover in this second.
#[inline(always)]
fn within_budget() -> bool {
    let Some(reporting) = reporting() else {
        return false;
    };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    if now.wrapping_sub(reporting.second) >= SECOND {
        reporting.second = now;
        reporting.used = 0;
    }
    if reporting.used >= u64::from(REPORTS_PER_SECOND.load()) {
        return false;
    }
    reporting.used += 1;
    true
}

#[inline(always)]
fn reporting() -> Option<&'static mut Reporting> {
    // SAFETY: this CPU's own element, and nothing else runs here while an XDP program does.
    REPORTING.get_ptr_mut(0).map(|reporting| unsafe { &mut *reporting })
}
