//! Who can decide about an address: a list in its tier, or the default.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_ebpf::generation::Decision;

use super::Tier;

/// A list in its tier, or the default.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The tier.
    pub tier: Tier,
    /// The list; `None` for the default.
    pub list: Option<Arc<str>>,
}

impl Source {
    /// Index of the default.
    pub const DEFAULT: u16 = 0;

    /// The policy's default.
    pub const fn default_verdict() -> Self {
        Self { tier: Tier::Default, list: None }
    }

    /// The list `name` in `tier`.
    pub const fn list(tier: Tier, name: Arc<str>) -> Self {
        Self { tier, list: Some(name) }
    }
}

/// Gives every source the index under which decisions, events and counters name it.
///
/// A source keeps its index as long as every generation compiled has it. A new source gets an
/// index that none had before while there are such; then the lowest one that is free again, and
/// whatever was counted under it belonged to another list.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// Highest index that may be given.
    highest: u16,
    /// Lowest index never given.
    fresh: u16,
    indices: BTreeMap<Source, u16>,
}

impl SourceTable {
    /// An empty table that gives indices up to `highest`, at most [`Decision::MAX_SOURCE`].
    /// Index 0 is the default's.
    pub fn new(highest: u16) -> Self {
        Self {
            highest: highest.min(Decision::MAX_SOURCE),
            fresh: Source::DEFAULT + 1,
            indices: BTreeMap::new(),
        }
    }

    /// A table that goes on from one that had given `known`: those sources keep their indices, and
    /// no index that `known` has is fresh. An index without a source belonged to one that is
    /// forgotten.
    pub fn restored(highest: u16, known: impl IntoIterator<Item = (u16, Option<Source>)>) -> Self {
        let mut table = Self::new(highest);
        for (index, source) in known {
            if index == Source::DEFAULT || index > table.highest {
                continue;
            }
            table.fresh = table.fresh.max(index.saturating_add(1));
            if let Some(source) = source {
                table.indices.insert(source, index);
            }
        }
        table
    }

    /// How many sources fit beside the default.
    pub const fn capacity(&self) -> usize {
        self.highest as usize
    }

    /// The table after `wanted`, in their order, replaced what it held; `None` when they do not
    /// all fit.
    pub(super) fn with(&self, wanted: &[Source]) -> Option<Self> {
        let mut next = Self { indices: BTreeMap::new(), ..*self };
        for source in wanted {
            if let Some(&index) = self.indices.get(source) {
                next.indices.insert(source.clone(), index);
            }
        }
        let mut taken: Vec<u16> = next.indices.values().copied().collect();
        taken.sort_unstable();
        let mut taken = taken.into_iter().peekable();
        let mut freed =
            (Source::DEFAULT + 1..self.fresh).filter(move |&index| taken.next_if_eq(&index).is_none());
        for source in wanted {
            if next.indices.contains_key(source) {
                continue;
            }
            let index = if next.fresh <= next.highest {
                next.fresh += 1;
                next.fresh - 1
            } else {
                freed.next()?
            };
            next.indices.insert(source.clone(), index);
        }
        Some(next)
    }

    /// The index of `source`.
    pub fn index(&self, source: &Source) -> Option<u16> {
        if source.tier == Tier::Default {
            return Some(Source::DEFAULT);
        }
        self.indices.get(source).copied()
    }
}

impl Default for SourceTable {
    fn default() -> Self {
        Self::new(Decision::MAX_SOURCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deny(name: &str) -> Source {
        Source::list(Tier::Deny, name.into())
    }

    #[test]
    fn a_restored_table_gives_known_sources_their_indices_and_new_ones_indices_that_none_had() {
        let known = [(3, Some(deny("a"))), (5, None), (0, Some(deny("x"))), (11, Some(deny("y")))];
        let table = SourceTable::restored(10, known).with(&[deny("b"), deny("a")]).unwrap();
        assert_eq!((table.index(&deny("a")), table.index(&deny("b"))), (Some(3), Some(6)));
    }

    #[test]
    fn a_list_keeps_its_index_when_others_come_and_go() {
        let table = SourceTable::new(10).with(&[deny("a"), deny("b")]).unwrap();
        let b = table.index(&deny("b"));
        let table = table.with(&[deny("c"), deny("b")]).unwrap();
        assert_eq!(table.index(&deny("b")), b);
        assert_eq!(table.index(&deny("a")), None);
    }

    #[test]
    fn one_file_in_two_tiers_has_two_indices_and_never_the_defaults() {
        let allow = Source::list(Tier::Allow, "a".into());
        let table = SourceTable::new(10).with(&[deny("a"), allow.clone()]).unwrap();
        let (deny, allow) = (table.index(&deny("a")), table.index(&allow));
        assert_ne!(deny, allow);
        assert!(deny > Some(Source::DEFAULT) && allow > Some(Source::DEFAULT));
        assert_eq!(table.index(&Source::default_verdict()), Some(Source::DEFAULT));
    }

    #[test]
    fn a_freed_index_is_given_again_only_when_no_fresh_one_is_left() {
        let table = SourceTable::new(3).with(&[deny("a"), deny("b")]).unwrap();
        let a = table.index(&deny("a"));
        let table = table.with(&[deny("b"), deny("c")]).unwrap();
        assert_ne!(table.index(&deny("c")), a);
        let table = table.with(&[deny("b"), deny("c"), deny("d")]).unwrap();
        assert_eq!(table.index(&deny("d")), a);
        assert!(table.with(&[deny("b"), deny("c"), deny("d"), deny("e")]).is_none());
    }

    #[test]
    fn the_highest_index_fits_into_a_decision() {
        assert_eq!(SourceTable::new(u16::MAX).capacity(), usize::from(Decision::MAX_SOURCE));
    }
}
