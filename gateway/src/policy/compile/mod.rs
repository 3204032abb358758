//! Compiles a policy into a generation.

mod recompile;
mod tables;
mod v4;
mod v6;

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_ebpf::generation::{BLOCK_SIZE, Block, Decision, FIRST_FREE, MAX_BLOCKS};
use ipnet::IpNet;
use thiserror::Error;

use super::fold::{ListDecision, fold};
use super::generation::{Generation, ListSummary};
use super::list::ListEntry;
use super::rules::{Rule, Rules};
use super::source::{Source, SourceTable};
use super::{Tier, Verdict};
pub use recompile::recompile;
use tables::Tables;

/// A list and what its entries do.
#[derive(Clone, Debug)]
pub struct List {
    /// The tier of all entries. A list of [`Tier::Default`] has no say: the default decides anyway.
    pub tier: Tier,
    /// How `explain` and the journal name the list: its path, or the configuration file.
    pub name: Arc<str>,
    /// The entries, in any order; the same prefix may be there more than once.
    pub entries: Vec<ListEntry>,
}

/// A whole policy, ready to be compiled. Unchanged lists can be shared from one compilation to the
/// next.
#[derive(Clone, Debug)]
pub struct PolicyInput {
    /// What happens to addresses in no list.
    pub default: Verdict,
    /// The lists. Where the same prefix is in several lists of one tier, the first is named.
    pub lists: Vec<Arc<List>>,
}

/// How large a generation may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Entries of all lists together.
    pub prefixes: usize,
    /// Blocks of 64 bytes; at least [`FIRST_FREE`] are needed.
    pub blocks: u32,
}

impl Default for CompileLimits {
    /// Four million prefixes, 256 MiB.
    fn default() -> Self {
        Self { prefixes: 4_000_000, blocks: 1 << 22 }
    }
}

/// Why a policy cannot be compiled. The generation in force is not affected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// Too many entries.
    #[error(
        "the lists have {count} prefixes together, above the limit of {limit}; \
         shorten them or raise the limit on prefixes"
    )]
    TooManyPrefixes {
        /// Entries of all lists.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many lists.
    #[error("the policy has {count} lists, above the limit of {limit}; join some of the files")]
    TooManyLists {
        /// Lists of the policy.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The tables would be too large.
    #[error(
        "the compiled policy needs {} MiB, above the limit of {} MiB; \
         replace long runs of single addresses in the lists by ranges",
        .blocks.div_ceil(BLOCKS_PER_MIB),
        u64::from(*.limit) / BLOCKS_PER_MIB
    )]
    TooManyBlocks {
        /// Blocks of 64 bytes that are needed.
        blocks: u64,
        /// The limit.
        limit: u32,
    },
}

const BLOCKS_PER_MIB: u64 = (1024 * 1024 / BLOCK_SIZE) as u64;

/// Compiles `input` into generation `number`. `sources` keeps the index of every list that stays,
/// and is left as it was when this fails.
///
/// An entry in the range of IPv4-mapped addresses (`::ffff:0:0/96`) is an IPv4 entry. A shorter
/// IPv6 prefix that covers that range, such as `::/0`, says nothing about IPv4.
///
/// # Errors
///
/// When the policy exceeds `limits` or `sources` has no room for its lists.
pub fn compile(
    number: u64,
    input: &PolicyInput,
    limits: &CompileLimits,
    sources: &mut SourceTable,
) -> Result<Generation, CompileError> {
    count_prefixes(input, limits)?;
    let (names, next_sources) = name_lists(input, sources)?;
    let (v4, v6) = sort(input);
    let decisions: Vec<ListDecision> = names.lists.iter().map(|list| list.decision).collect();
    let blocks = tables(number, &v4, &v6, &decisions, names.default, limits)?;
    *sources = next_sources;
    Ok(Generation {
        number,
        blocks,
        v4,
        v6,
        default: input.default,
        lists: names.lists,
        sources: names.sources,
        garbage: 0,
    })
}

fn count_prefixes(input: &PolicyInput, limits: &CompileLimits) -> Result<(), CompileError> {
    let count = input.lists.iter().map(|list| list.entries.len()).sum();
    if count > limits.prefixes {
        return Err(CompileError::TooManyPrefixes { count, limit: limits.prefixes });
    }
    Ok(())
}

/// The lists of a policy with their indices.
struct Names {
    lists: Vec<ListSummary>,
    sources: BTreeMap<u16, Source>,
    default: Decision,
}

fn name_lists(input: &PolicyInput, sources: &SourceTable) -> Result<(Names, SourceTable), CompileError> {
    let too_many = || CompileError::TooManyLists { count: input.lists.len(), limit: sources.capacity() };
    // Two lists of one name and tier share a source, so there may be more lists than indices.
    if input.lists.len() > usize::from(Decision::MAX_SOURCE) {
        return Err(too_many());
    }
    let wanted: Vec<Source> = input
        .lists
        .iter()
        .filter(|list| list.tier != Tier::Default)
        .map(|list| Source::list(list.tier, list.name.clone()))
        .collect();
    let next = sources.with(&wanted).ok_or_else(too_many)?;
    let decision = |source: u16, tier: Tier| -> Result<Decision, CompileError> {
        let drop = tier.verdict(input.default) == Verdict::Drop;
        let decision = Decision::new(source, drop).ok_or_else(too_many)?;
        Ok(if tier == Tier::Observe { decision.observed() } else { decision })
    };
    let mut names = Names {
        lists: Vec::with_capacity(input.lists.len()),
        sources: BTreeMap::from([(Source::DEFAULT, Source::default_verdict())]),
        default: decision(Source::DEFAULT, Tier::Default)?,
    };
    for list in &input.lists {
        let source = Source::list(list.tier, list.name.clone());
        let index = next.index(&source).ok_or_else(too_many)?;
        names.sources.entry(index).or_insert(source);
        names.lists.push(ListSummary {
            name: list.name.clone(),
            entries: list.entries.len(),
            decision: ListDecision { tier: list.tier, decision: decision(index, list.tier)? },
            made_of: Arc::downgrade(list),
        });
    }
    Ok((names, next))
}

/// Whether lists of `tier` decide anything. What an observed list would drop, a default that drops
/// drops already.
fn has_say(tier: Tier, default: Verdict) -> bool {
    match tier {
        Tier::Default => false,
        Tier::Observe => default == Verdict::Pass,
        Tier::NeverBlock | Tier::Ban | Tier::Allow | Tier::Deny => true,
    }
}

/// The rules of both families.
fn sort(input: &PolicyInput) -> (Rules<u32>, Rules<u128>) {
    let entries = || input.lists.iter().flat_map(|list| &list.entries);
    let v4_count = entries().filter(|entry| entry.prefix.addr().is_ipv4()).count();
    let mut v4 = Vec::with_capacity(v4_count);
    let mut v6 = Vec::with_capacity(entries().count() - v4_count);
    for (list, number) in input.lists.iter().zip(0u16..) {
        if !has_say(list.tier, input.default) {
            continue;
        }
        add_rules(number, &list.entries, &mut v4, &mut v6);
    }
    (Rules::new(v4), Rules::new(v6))
}

/// Adds the rules that `entries` of the list at position `list` are.
fn add_rules(list: u16, entries: &[ListEntry], v4: &mut Vec<Rule<u32>>, v6: &mut Vec<Rule<u128>>) {
    for &ListEntry { prefix, line } in entries {
        match super::list::canonical(prefix) {
            IpNet::V4(prefix) => {
                let (first, length) = (prefix.network().to_bits(), prefix.prefix_len());
                v4.push(Rule { first, line, list, length });
            }
            IpNet::V6(prefix) => {
                let (first, length) = (prefix.network().to_bits(), prefix.prefix_len());
                v6.push(Rule { first, line, list, length });
            }
        }
    }
}

/// The blocks of the generation. They are counted before any is allocated.
fn tables(
    number: u64,
    v4: &Rules<u32>,
    v6: &Rules<u128>,
    lists: &[ListDecision],
    default: Decision,
    limits: &CompileLimits,
) -> Result<Vec<Block>, CompileError> {
    let v4 = fold(v4, lists, default);
    let v6 = fold(v6, lists, default);
    let needed = u64::from(FIRST_FREE) + v4::count(&v4) + v6::count(&v6);
    let limit = limits.blocks.min(MAX_BLOCKS);
    let too_many = CompileError::TooManyBlocks { blocks: needed, limit };
    if needed > u64::from(limit) {
        return Err(too_many);
    }
    let mut tables = Tables::new(number, usize::try_from(needed).map_err(|_| too_many)?);
    v4::write(&v4, &mut tables);
    v6::write(&v6, &mut tables);
    let blocks = tables.into_blocks();
    debug_assert_eq!(blocks.len() as u64, needed);
    Ok(blocks)
}
