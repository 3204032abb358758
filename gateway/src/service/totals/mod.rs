//! What the card has counted since anybody remembers: by list, by interface and in all. The counters in
//! the kernel begin anew with the tables that hold them, and an index of theirs can come to belong to
//! another list or interface; what is told here never goes backwards. Pure; [`file`] keeps it.

mod file;

use std::collections::{BTreeMap, BTreeSet};

use gateway_ebpf::counters::interface_slot;

pub(super) use file::TotalsFile;

use crate::nic::{Counter, Counters, Verdicts};
use crate::policy::{Source, Tier};

/// Lists and interfaces that are remembered, those of today among them.
const MOST: usize = 8192;

/// What the card has counted since anybody remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Whether the card could not be read the last time: the numbers are those from before.
    pub(super) stale: bool,
    /// By list, and that of the default.
    pub(super) sources: BTreeMap<Source, Verdicts>,
    /// By name of the interface.
    pub(super) interfaces: BTreeMap<String, Verdicts>,
    /// Packets that were passed without a verdict on their source.
    pub(super) others: Others,
    seen: Seen,
}

/// Packets that were passed without a verdict on their source, see [`Counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Others {
    pub(super) malformed: u64,
    pub(super) not_ip: u64,
    pub(super) neighbour_discovery: u64,
    pub(super) out_of_scope: u64,
    pub(super) no_generation: u64,
}

/// Which tables counters are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epoch {
    /// Identifier of the boot.
    pub(super) boot: String,
    /// Number of a table.
    pub(super) table: u32,
}

/// What the card said the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    epoch: Epoch,
    /// By index; of a list that is gone as well, as long as nobody else has the index.
    owners: BTreeMap<u16, Source>,
    sources: BTreeMap<u16, Verdicts>,
    /// By slot.
    interfaces: BTreeMap<u32, Verdicts>,
    others: Others,
}

impl Totals {
    /// Adds what `counters` have more than the last time. To be called before an index gets another
    /// owner, and with those that have one now. `interfaces`: index and name of the guarded ones.
    pub(super) fn observe<'a>(
        &mut self,
        epoch: &Epoch,
        counters: &Counters,
        owners: impl Iterator<Item = (u16, &'a Source)>,
        interfaces: impl Iterator<Item = (u32, &'a str)>,
    ) {
        if self.seen.epoch != *epoch {
            let owners = std::mem::take(&mut self.seen.owners);
            self.seen = Seen { epoch: epoch.clone(), owners, ..Seen::default() };
        }
        self.stale = false;
        for (index, owner) in owners {
            if self.seen.owners.get(&index) != Some(owner) {
                self.seen.owners.insert(index, owner.clone());
            }
        }
        for (index, now) in (0u16..).zip(&counters.sources) {
            let before = self.seen.sources.get(&index).copied().unwrap_or_default();
            if *now == before {
                continue;
            }
            self.seen.sources.insert(index, *now);
            if let Some(owner) = self.seen.owners.get(&index) {
                add(self.sources.entry(owner.clone()).or_default(), &more(now, &before));
            }
        }
        for (index, name) in interfaces {
            let now = counters.interface(index);
            let before = self.seen.interfaces.insert(interface_slot(index), now).unwrap_or_default();
            add(self.interfaces.entry(name.to_owned()).or_default(), &more(&now, &before));
        }
        let dropped_or_judged: u64 = counters.sources.iter().map(|source| source.passed.packets).sum();
        let now = Others {
            malformed: counters.malformed,
            not_ip: counters.not_ip,
            neighbour_discovery: counters.neighbour_discovery,
            out_of_scope: counters.out_of_scope,
            no_generation: counters.passed.saturating_sub(dropped_or_judged),
        };
        let before = std::mem::replace(&mut self.seen.others, now);
        let sum = &mut self.others;
        sum.malformed += grown(now.malformed, before.malformed);
        sum.not_ip += grown(now.not_ip, before.not_ip);
        sum.neighbour_discovery += grown(now.neighbour_discovery, before.neighbour_discovery);
        sum.out_of_scope += grown(now.out_of_scope, before.out_of_scope);
        sum.no_generation += grown(now.no_generation, before.no_generation);
        self.forget();
    }

    /// The last index of a source that is known.
    pub(super) fn last_source(&self) -> u16 {
        self.seen.owners.keys().next_back().copied().unwrap_or(0)
    }

    /// The card could not be read.
    pub(super) fn fail(&mut self) {
        self.stale = true;
    }

    /// Passed by the verdict on their source, or before there was one.
    pub(super) fn passed(&self) -> u64 {
        self.others.no_generation + self.sources.values().map(|source| source.passed.packets).sum::<u64>()
    }

    /// Dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.sources.values().map(|source| source.dropped.packets).sum()
    }

    /// Dropped by lists of this tier.
    pub(super) fn dropped_by(&self, tier: Tier) -> u64 {
        let of_tier = self.sources.iter().filter(|(source, _)| source.tier == tier);
        of_tier.map(|(_, verdicts)| verdicts.dropped.packets).sum()
    }

    /// What this source has decided.
    pub(super) fn source(&self, source: &Source) -> Verdicts {
        self.sources.get(source).copied().unwrap_or_default()
    }

    /// Lists that are gone give way when there are too many.
    fn forget(&mut self) {
        if self.sources.len() > MOST {
            let owners: BTreeSet<&Source> = self.seen.owners.values().collect();
            self.sources.retain(|source, _| owners.contains(source));
        }
    }
}

fn grown(now: u64, before: u64) -> u64 {
    // A counter that went back began anew.
    now.checked_sub(before).unwrap_or(now)
}

fn more(now: &Verdicts, before: &Verdicts) -> Verdicts {
    let counter = |now: Counter, before: Counter| Counter {
        packets: grown(now.packets, before.packets),
        bytes: grown(now.bytes, before.bytes),
    };
    Verdicts { passed: counter(now.passed, before.passed), dropped: counter(now.dropped, before.dropped) }
}

fn add(sum: &mut Verdicts, more: &Verdicts) {
    for (sum, more) in [(&mut sum.passed, more.passed), (&mut sum.dropped, more.dropped)] {
        sum.packets = sum.packets.saturating_add(more.packets);
        sum.bytes = sum.bytes.saturating_add(more.bytes);
    }
}

#[cfg(test)]
mod tests;
