//! Which traffic of a denied source is dropped, when not all of it: TCP to guarded ports.

use crate::transport::{TCP, Transport};

/// Words of the set of guarded ports: one bit for each port.
pub const WORDS: u32 = 65_536 / u64::BITS;

/// The word of the set that has `port`.
pub const fn word(port: u16) -> u32 {
    port as u32 / u64::BITS
}

/// The bit of its word that stands for `port`.
pub const fn bit(port: u16) -> u64 {
    1 << (port as u32 % u64::BITS)
}

/// Whether the verdict on the source applies to a packet, given a test for guarded ports.
///
/// A later fragment and a packet whose port cannot be read are let through: without its first
/// fragment, which is dropped, a packet is never put together, and a host discards a segment whose
/// header is cut off. A chain of extension headers too long to follow may hide a guarded port, so
/// it is dropped.
#[inline(always)]
pub fn applies(transport: Transport, guarded: impl FnOnce(u16) -> bool) -> bool {
    match transport {
        Transport::Ports { protocol: TCP, destination } => guarded(destination),
        Transport::TooDeep => true,
        Transport::Ports { .. } | Transport::NoPorts { .. } | Transport::Malformed => false,
    }
}
