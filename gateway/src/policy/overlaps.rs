//! Counts the entries that change no verdict.

use super::generation::Generation;
use super::rules::{Address, Rule, Rules};
use super::{ListSummary, Tier};

impl Generation {
    /// For each list, in the order of [`Self::lists`], how many of its entries change no verdict, because another
    /// entry of the same or of a higher tier covers them. Of entries that are the same, one counts as needed: all
    /// that are counted could be removed at once. An observed list has no say where the default drops, so all of its
    /// entries count. Takes time in proportion to the entries.
    pub fn overlaps(&self) -> Vec<usize> {
        let mut overlaps: Vec<usize> = self.lists().iter().map(|list| list.entries).collect();
        let tiers: Vec<Tier> = self.lists().iter().map(ListSummary::tier).collect();
        needed(&self.v4, &tiers, &mut overlaps);
        needed(&self.v6, &tiers, &mut overlaps);
        overlaps
    }
}

/// An entry around the one that is looked at.
struct Around<A> {
    last: A,
    /// The highest tier of this entry and of those around it.
    tier: Tier,
}

/// Takes the entries that no other covers off the count of their list.
fn needed<A: Address>(rules: &Rules<A>, tiers: &[Tier], counts: &mut [usize]) {
    let tier = |rule: &Rule<A>| tiers.get(usize::from(rule.list)).copied().unwrap_or(Tier::Default);
    let mut around: Vec<Around<A>> = Vec::new();
    // A prefix comes before those inside it, and equal ones come together.
    for equal in rules.as_slice().chunk_by(|a, b| (a.first, a.length) == (b.first, b.length)) {
        let Some(highest) = equal.iter().min_by_key(|rule| (tier(rule), rule.list)) else { continue };
        let first = highest.first;
        while around.last().is_some_and(|outer| outer.last < first) {
            around.pop();
        }
        let outer = around.last().map(|outer| outer.tier);
        let own = tier(highest);
        // Tiers are ordered from the highest to the lowest.
        if outer.is_none_or(|outer| own < outer)
            && let Some(count) = counts.get_mut(usize::from(highest.list))
        {
            *count = count.saturating_sub(1);
        }
        around
            .push(Around { last: first.last(highest.length), tier: outer.map_or(own, |tier| tier.min(own)) });
    }
}
