//! The rules of one address family: every prefix of every list, sorted.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::sort;

/// An address of one family as a number.
pub(super) trait Address: Copy + Debug + Ord + Send + Sync + Into<u128> {
    /// Bits of an address.
    const BITS: u8;

    /// The lowest address.
    const ZERO: Self;

    /// The next address; `None` after the highest.
    fn next(self) -> Option<Self>;

    /// The address before; `None` before the lowest.
    fn previous(self) -> Option<Self>;

    /// The first address of the prefix of `length` bits that has this address.
    fn first(self, length: u8) -> Self;

    /// The last address of the prefix of `length` bits that has this address.
    fn last(self, length: u8) -> Self;

    /// The address as the standard library has it.
    fn to_ip(self) -> IpAddr;
}

impl Address for u32 {
    const BITS: u8 = 32;
    const ZERO: Self = 0;

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }

    fn first(self, length: u8) -> Self {
        self & !Self::MAX.checked_shr(length.into()).unwrap_or(0)
    }

    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(length.into()).unwrap_or(0)
    }

    fn to_ip(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }
}

impl Address for u128 {
    const BITS: u8 = 128;
    const ZERO: Self = 0;

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }

    fn first(self, length: u8) -> Self {
        self & !Self::MAX.checked_shr(length.into()).unwrap_or(0)
    }

    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(length.into()).unwrap_or(0)
    }

    fn to_ip(self) -> IpAddr {
        Ipv6Addr::from_bits(self).into()
    }
}

/// One prefix of one list. Packed, since there can be millions that live as long as their
/// generation: 12 bytes for IPv4, 24 for IPv6.
#[derive(Clone, Copy)]
#[repr(Rust, packed(4))]
pub(super) struct Rule<A> {
    /// First address of the prefix.
    pub(super) first: A,
    /// Line in the list, counted from 1; 0 when the list has no lines.
    pub(super) line: u32,
    /// Position of the list in the policy.
    pub(super) list: u16,
    /// Length of the prefix.
    pub(super) length: u8,
}

const _: () = assert!(size_of::<Rule<u32>>() == 12 && size_of::<Rule<u128>>() == 24);

impl<A: Address> Rule<A> {
    /// By which rules are sorted.
    pub(super) fn key(&self) -> (A, u64) {
        (self.first, u64::from(self.length) << 48 | u64::from(self.list) << 32 | u64::from(self.line))
    }
}

/// The rules of one family, by first address; a prefix stands before those that it contains, and
/// the same prefix in several lists in the order of the lists, and in one list in the order of its
/// lines.
pub(super) struct Rules<A>(Vec<Rule<A>>);

impl<A: Address> Rules<A> {
    /// Sorts `rules`.
    pub(super) fn new(rules: Vec<Rule<A>>) -> Self {
        Self(sort::sorted(rules))
    }

    /// `rules` that are in order already.
    pub(super) fn sorted(rules: Vec<Rule<A>>) -> Self {
        debug_assert!(rules.is_sorted_by_key(Rule::key));
        Self(rules)
    }

    /// All of them, in order.
    pub(super) fn as_slice(&self) -> &[Rule<A>] {
        &self.0
    }

    /// The longest prefix with `address` in a list that `wanted` accepts.
    pub(super) fn longest_match(&self, address: A, wanted: impl Fn(u16) -> bool) -> Option<Rule<A>> {
        (0..=A::BITS).rev().find_map(|length| {
            self.exactly(address.first(length), length).find(|rule| wanted(rule.list)).copied()
        })
    }

    /// The prefixes that have addresses in common with the prefix of `length` bits that has
    /// `address`, in lists that `wanted` accepts: first those around it, shortest first, then those
    /// inside it. Of a prefix that a list has more than once, the first line stands for all.
    pub(super) fn overlapping<'a>(
        &'a self,
        address: A,
        length: u8,
        wanted: impl Fn(u16) -> bool + 'a,
    ) -> impl Iterator<Item = Rule<A>> + 'a {
        let around = (0..=length).flat_map(move |length| self.exactly(address.first(length), length));
        let (first, last) = (address.first(length), address.last(length));
        let from = self.0.partition_point(|rule| { rule.first } < first);
        let inside = self.0[from..].iter().take_while(move |rule| { rule.first } <= last);
        let inside = inside.filter(move |rule| rule.length > length);
        let mut before = None;
        around.chain(inside).filter(move |rule| wanted(rule.list)).copied().filter(move |rule| {
            let prefix = (rule.first, rule.length, rule.list);
            before.replace(prefix) != Some(prefix)
        })
    }

    /// The rules whose first address is none before `first` and none behind `last`.
    pub(super) fn between(&self, first: A, last: A) -> &[Rule<A>] {
        let from = self.0.partition_point(|rule| { rule.first } < first);
        let behind = self.0[from..].partition_point(|rule| { rule.first } <= last);
        &self.0[from..from + behind]
    }

    /// The rules of prefixes that have `first`, the lowest address of a prefix of `length` bits, and
    /// begin before it; in order.
    pub(super) fn around(&self, first: A, length: u8) -> impl Iterator<Item = &Rule<A>> {
        let shorter = (0..length).filter(move |&length| first.first(length) < first);
        shorter.flat_map(move |length| self.exactly(first.first(length), length))
    }

    /// The rules of exactly one prefix.
    fn exactly(&self, first: A, length: u8) -> impl Iterator<Item = &Rule<A>> {
        let prefix = (first, length);
        let from = self.0.partition_point(|rule| (rule.first, rule.length) < prefix);
        self.0[from..].iter().take_while(move |rule| (rule.first, rule.length) == prefix)
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.0.capacity() * size_of::<Rule<A>>()
    }
}
