//! A compiled policy: the tables for the card, and what is needed to say why.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use gateway_ebpf::generation::{Block, Decision, lookup};
use gateway_ebpf::packet;
use ipnet::IpNet;

use super::compile::List;
use super::fold::ListDecision;
use super::rules::{Address, Rule, Rules};
use super::source::Source;
use super::{MatchedRule, Tier, Verdict};

/// A compiled policy. Immutable.
pub struct Generation {
    pub(super) number: u64,
    pub(super) blocks: Vec<Block>,
    pub(super) v4: Rules<u32>,
    pub(super) v6: Rules<u128>,
    pub(super) default: Verdict,
    pub(super) lists: Vec<ListSummary>,
    pub(super) sources: BTreeMap<u16, Source>,
    /// Blocks to which nothing leads any more.
    pub(super) garbage: u64,
}

/// What a generation has from one list.
#[derive(Clone, Debug)]
pub struct ListSummary {
    /// The name of the list.
    pub name: Arc<str>,
    /// Entries, with those that other entries repeat.
    pub entries: usize,
    pub(super) decision: ListDecision,
    /// The very list, as long as it is there.
    pub(super) made_of: Weak<List>,
}

/// An entry that has addresses in common with a prefix that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The entry's prefix.
    pub prefix: IpNet,
    /// The list that it is in.
    pub list: Arc<str>,
    /// Its line; 0 when the list has no lines.
    pub line: u32,
}

impl ListSummary {
    /// The tier of the list.
    pub const fn tier(&self) -> Tier {
        self.decision.tier
    }

    /// The index under which decisions name the list.
    pub const fn source(&self) -> u16 {
        self.decision.decision.source()
    }
}

impl Generation {
    /// The number that was given to this generation.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The tables, as the XDP program reads them.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The verdict on addresses in no list.
    pub const fn default_verdict(&self) -> Verdict {
        self.default
    }

    /// Looks `address` up as the XDP program does. An IPv4-mapped address (`::ffff:a.b.c.d`), as
    /// sockets for both families have it, is the IPv4 address.
    pub fn decide(&self, address: IpAddr) -> Decision {
        lookup(self.blocks(), packet::Source::from(address))
    }

    /// Says which rule decides about `address`: the source that [`Self::decide`] finds, and the
    /// longest prefix that it has for the address.
    pub fn explain(&self, address: IpAddr) -> MatchedRule {
        let decision = self.decide(address);
        let source = self.source(decision.source());
        let (prefix, line) = match address.to_canonical() {
            IpAddr::V4(address) => self.prefix(&self.v4, address.to_bits(), decision),
            IpAddr::V6(address) => self.prefix(&self.v6, address.to_bits(), decision),
        }
        .map_or((None, 0), |(prefix, line)| (Some(prefix), line));
        MatchedRule {
            tier: source.map_or(Tier::Default, |source| source.tier),
            verdict: if decision.is_drop() { Verdict::Drop } else { Verdict::Pass },
            prefix,
            list: source.and_then(|source| source.list.as_deref().map(str::to_owned)),
            line,
            generation: self.number,
        }
    }

    /// The entries of lists of `tier` that have addresses in common with `prefix`.
    pub fn overlapping(&self, prefix: IpNet, tier: Tier) -> impl Iterator<Item = Overlap> {
        let wanted = move |list: u16| self.lists.get(usize::from(list)).is_some_and(|own| own.tier() == tier);
        let (v4, v6) = match prefix {
            IpNet::V4(v4) => (Some(v4), None),
            IpNet::V6(v6) => (None, Some(v6)),
        };
        let v4 = v4.into_iter().flat_map(move |prefix| {
            let rules = self.v4.overlapping(prefix.addr().to_bits(), prefix.prefix_len(), wanted);
            rules.filter_map(|rule| self.overlap(rule))
        });
        let v6 = v6.into_iter().flat_map(move |prefix| {
            let rules = self.v6.overlapping(prefix.addr().to_bits(), prefix.prefix_len(), wanted);
            rules.filter_map(|rule| self.overlap(rule))
        });
        v4.chain(v6)
    }

    fn overlap<A: Address>(&self, rule: Rule<A>) -> Option<Overlap> {
        Some(Overlap {
            prefix: IpNet::new(rule.first.to_ip(), rule.length).ok()?,
            list: Arc::clone(&self.lists.get(usize::from(rule.list))?.name),
            line: rule.line,
        })
    }

    /// The (tier, list) that decisions name by `index`; `None` when this generation has none.
    pub fn source(&self, index: u16) -> Option<&Source> {
        self.sources.get(&index)
    }

    /// Every index that decisions of this generation can name, with its source; the default first.
    pub fn sources(&self) -> impl Iterator<Item = (u16, &Source)> {
        self.sources.iter().map(|(&index, source)| (index, source))
    }

    /// The lists, in the order of the policy.
    pub fn lists(&self) -> &[ListSummary] {
        &self.lists
    }

    /// Entries of all lists.
    pub fn entries(&self) -> usize {
        self.lists.iter().map(|list| list.entries).sum()
    }

    /// Bytes of the tables and of the rules behind them.
    pub fn memory(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + self.v4.memory() + self.v6.memory()
    }

    /// The longest prefix with `address` that the source of `decision` has, and its line.
    fn prefix<A: Address>(&self, rules: &Rules<A>, address: A, decision: Decision) -> Option<(IpNet, u32)> {
        let rule = rules.longest_match(address, |list| {
            self.lists.get(usize::from(list)).is_some_and(|list| list.source() == decision.source())
        })?;
        let prefix = IpNet::new(rule.first.to_ip(), rule.length).ok()?;
        Some((prefix, rule.line))
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("number", &self.number)
            .field("blocks", &self.blocks.len())
            .field("entries", &self.entries())
            .finish_non_exhaustive()
    }
}
