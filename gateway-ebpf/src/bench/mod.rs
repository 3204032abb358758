//! What the bench's XDP programs and the bench itself agree on: names, and which prefixes there are.
//!
//! Prefixes are numbered, and a number says everything about its prefix. So the generator needs no
//! table, whose cache misses would slow it, and any list can be made again from its length.

/// Program: sends IPv4 frames, each from a random address of the chosen prefixes.
pub const GENERATE_V4: &str = "generate_v4";
/// Program: sends IPv6 frames, each from a random address of the chosen prefixes.
pub const GENERATE_V6: &str = "generate_v6";
/// Program: drops everything without looking.
pub const DROP_ALL: &str = "drop_all";
/// Program: passes everything without looking.
pub const PASS_ALL: &str = "pass_all";
/// Program: finds the source address as the daemon's program does, and passes.
pub const PARSE_ONLY: &str = "parse_only";
/// Program: finds the source address as the daemon's program does, and drops.
pub const PARSE_DROP: &str = "parse_drop";
/// Program: drops the IPv4 sources that are in [`TRIE_V4`].
pub const TRIE_DROP_V4: &str = "trie_drop_v4";
/// Program: drops the IPv6 sources that are in [`TRIE_V6`].
pub const TRIE_DROP_V6: &str = "trie_drop_v6";

/// Longest-prefix-match trie; its keys are IPv4 addresses in network byte order.
pub const TRIE_V4: &str = "TRIE_V4";
/// Longest-prefix-match trie; its keys are IPv6 addresses in network byte order.
pub const TRIE_V6: &str = "TRIE_V6";

/// Constant, `u32`: index of the interface to send from.
pub const INTERFACE: &str = "INTERFACE";
/// Constant, `u32`: number of the first chosen prefix.
pub const FIRST: &str = "FIRST";
/// Constant, `u32`: how many prefixes are chosen.
pub const COUNT: &str = "COUNT";
/// Constant, `u32`: sum of the 16-bit words of the IPv4 header but for its source and checksum.
pub const HEADER_SUM: &str = "HEADER_SUM";

/// Length of the IPv4 prefixes.
pub const V4_LENGTH: u8 = 24;
/// Length of the IPv6 prefixes.
pub const V6_LENGTH: u8 = 48;

/// First address of IPv4 prefix `index`. Different for different numbers below 2^24, and spread
/// over all addresses.
#[inline(always)]
pub const fn v4_prefix(index: u32) -> u32 {
    const MASK: u32 = (1 << V4_LENGTH) - 1;
    // Odd factors and shifts to the right keep different numbers different.
    let mut bits = index.wrapping_mul(0x9e37_79b1) & MASK;
    bits ^= bits >> 13;
    bits = bits.wrapping_mul(0x85eb_ca6b) & MASK;
    bits ^= bits >> 11;
    bits << (32 - V4_LENGTH)
}

/// First half of the first address of IPv6 prefix `index`, in 2000::/3 (RFC 4291 §2.4). Different
/// for different numbers, and spread over that range.
#[inline(always)]
pub const fn v6_prefix(index: u32) -> u64 {
    const MASK: u64 = (1 << 45) - 1;
    let mut bits = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) & MASK;
    bits ^= bits >> 23;
    bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9) & MASK;
    bits ^= bits >> 22;
    1 << 61 | bits << (64 - V6_LENGTH)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::HashSet;

    use super::*;

    #[test]
    fn different_numbers_are_different_prefixes() {
        let v4: HashSet<u32> = (0..1 << 20).map(v4_prefix).collect();
        let v6: HashSet<u64> = (0..1 << 20).map(v6_prefix).collect();
        assert_eq!((v4.len(), v6.len()), (1 << 20, 1 << 20));
    }

    #[test]
    fn a_prefix_has_no_host_bits_and_lies_where_it_should() {
        for index in 0..10_000 {
            assert_eq!(v4_prefix(index) & 0xff, 0);
            assert_eq!(v6_prefix(index) & 0xffff, 0);
            assert_eq!(v6_prefix(index) >> 61, 1);
        }
    }
}
