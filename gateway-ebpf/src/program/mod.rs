//! The judgement: one lookup of the source address, one count, one verdict. User space has the same
//! order in [`gateway_ebpf::judgement`].

mod frame;
mod maps;
mod report;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::programs::XdpContext;
use gateway_ebpf::counters::{Counter, Outcome, SOURCES as SOURCE_COUNT, Verdicts, interface_slot};
use gateway_ebpf::generation::{Decision, lookup};
use gateway_ebpf::packet::{Ip, Network, Source, is_neighbour_discovery, network};
use gateway_ebpf::scope;
use gateway_ebpf::transport::{Transport, transport};

use frame::Packet;
use maps::{GENERATION, INTERFACES, Live, OUTCOMES, PORTS, SCOPED, SOURCES};

/// Whether a frame passes. The source address decides; what stands above IP is read only for
/// sources that are denied, or in an observed list.
#[inline(always)]
pub(crate) fn judge(context: &XdpContext) -> u32 {
    let packet = Packet::new(context);
    // Looked up once: the whole judgement sees one generation.
    let Some(generation) = GENERATION.get(0).map(Live) else {
        return pass(context, &packet, Outcome::NoGeneration);
    };
    let ip = match network(&packet) {
        Network::Ip(ip) => ip,
        Network::Other => return pass(context, &packet, Outcome::NotIp),
        Network::Malformed => return pass(context, &packet, Outcome::Malformed),
    };
    let decision = lookup(&generation, ip.source);
    if decision.is_clear() {
        count(context, &packet, decision);
        return XDP_PASS;
    }
    if is_neighbour_discovery(&packet, &ip) {
        return pass(context, &packet, Outcome::NeighbourDiscovery);
    }
    if SCOPED.load() != 0 && !scope::applies(above_ip(context, &ip), guarded) {
        return pass(context, &packet, Outcome::OutOfScope);
    }
    count(context, &packet, decision);
    report::blocked(context, &ip, decision, &generation);
    if decision.is_drop() { XDP_DROP } else { XDP_PASS }
}

/// What stands above IP.
#[inline(always)]
fn above_ip(context: &XdpContext, ip: &Ip) -> Transport {
    let v6 = matches!(ip.source, Source::V6(..));
    Transport::from_bits(transport_bits(context, ip.header, v6))
}

/// A function of its own in the kernel, too: when this code is inlined at both its callers, LLVM
/// shares values between the copies that on some way were never computed, which the verifier
/// refuses.
#[inline(never)]
fn transport_bits(context: &XdpContext, header: usize, v6: bool) -> u32 {
    let source = if v6 { Source::V6(0, 0) } else { Source::V4(0) };
    transport(&Packet::new(context), &Ip { source, header }).bits()
}

#[inline(always)]
fn guarded(port: u16) -> bool {
    PORTS.get(scope::word(port)).is_some_and(|word| word & scope::bit(port) != 0)
}

#[inline(always)]
fn pass(context: &XdpContext, packet: &Packet, outcome: Outcome) -> u32 {
    let length = packet.length();
    if let Some(counter) = OUTCOMES.get_ptr_mut(outcome as u32) {
        // SAFETY: this CPU's own element, and nothing else runs here while an XDP program does.
        add(unsafe { &mut *counter }, length);
    }
    // SAFETY: as above.
    if let Some(interface) = interface(context).map(|verdicts| unsafe { &mut *verdicts }) {
        add(&mut interface.passed, length);
    }
    XDP_PASS
}

#[inline(always)]
fn count(context: &XdpContext, packet: &Packet, decision: Decision) {
    let length = packet.length();
    let source = u32::from(decision.source()).min(SOURCE_COUNT - 1);
    // One after the other: the verifier refuses a comparison of both pointers at once.
    if let Some(source) = SOURCES.get_ptr_mut(source) {
        // SAFETY: as in `pass`.
        add(of(unsafe { &mut *source }, decision), length);
    }
    if let Some(interface) = interface(context) {
        // SAFETY: as in `pass`.
        add(of(unsafe { &mut *interface }, decision), length);
    }
}

#[inline(always)]
fn of(verdicts: &mut Verdicts, decision: Decision) -> &mut Counter {
    if decision.is_drop() { &mut verdicts.dropped } else { &mut verdicts.passed }
}

/// The counters of the interface that the packet came in by.
#[inline(always)]
fn interface(context: &XdpContext) -> Option<*mut Verdicts> {
    #[expect(clippy::cast_possible_truncation, reason = "the kernel has it as 32 bits")]
    let index = context.ingress_ifindex() as u32;
    INTERFACES.get_ptr_mut(interface_slot(index))
}

#[inline(always)]
fn add(counter: &mut Counter, length: u64) {
    counter.packets += 1;
    counter.bytes += length;
}
