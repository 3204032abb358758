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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_its_own_bit() {
        let mut words = [0u64; WORDS as usize];
        for port in 0..=u16::MAX {
            let word = &mut words[word(port) as usize];
            assert_eq!(*word & bit(port), 0, "port {port}");
            *word |= bit(port);
        }
        assert!(words.iter().all(|word| *word == u64::MAX));
    }

    #[test]
    fn only_tcp_to_a_guarded_port_and_what_may_hide_it_is_in_scope() {
        let guarded = |port| port == 443;
        assert!(applies(Transport::Ports { protocol: TCP, destination: 443 }, guarded));
        assert!(applies(Transport::TooDeep, guarded));
        assert!(!applies(Transport::Ports { protocol: TCP, destination: 80 }, guarded));
        assert!(!applies(Transport::Ports { protocol: 17, destination: 443 }, guarded));
        assert!(!applies(Transport::NoPorts { protocol: TCP }, guarded));
        assert!(!applies(Transport::Malformed, guarded));
    }
}
