//! Sorts millions of rules: first into buckets by the leading bits of their addresses, then each
//! bucket, on two threads.

use std::thread;

use super::rules::{Address, Rule};

/// Rules from which on buckets and a second thread are worth their while.
const MANY: usize = 50_000;

/// Bits by which buckets are told apart.
const BUCKET_BITS: u32 = 16;

/// `rules` in the order of their keys.
pub(super) fn sorted<A: Address>(mut rules: Vec<Rule<A>>) -> Vec<Rule<A>> {
    if rules.len() < MANY || rules.is_sorted_by_key(Rule::key) {
        rules.sort_unstable_by_key(Rule::key);
        return rules;
    }
    let buckets = Buckets::of(&rules);
    let starts = buckets.starts(&rules);
    let mut places = starts.clone();
    let mut sorted = rules.clone();
    for rule in rules {
        let place = &mut places[buckets.number(&rule)];
        sorted[*place] = rule;
        *place += 1;
    }
    // What is written bucket by bucket is now in order but for the order within buckets.
    let half = starts.partition_point(|&start| start < sorted.len() / 2);
    let middle = starts.get(half).copied().unwrap_or(sorted.len());
    let (low, high) = sorted.split_at_mut(middle);
    let has_helped = thread::scope(|scope| {
        let helper = thread::Builder::new();
        let helper = helper.spawn_scoped(scope, || sort_each(low, &starts[..half], 0));
        sort_each(high, &starts[half..], middle);
        helper.is_ok()
    });
    if !has_helped {
        sort_each(low, &starts[..half], 0);
    }
    sorted
}

/// Sorts the buckets that begin at `starts`, counted from `offset` before `rules`.
fn sort_each<A: Address>(mut rules: &mut [Rule<A>], starts: &[usize], offset: usize) {
    let mut from = offset;
    for &end in starts.iter().skip(1) {
        let (bucket, rest) = rules.split_at_mut(end - from);
        bucket.sort_unstable_by_key(Rule::key);
        (rules, from) = (rest, end);
    }
    rules.sort_unstable_by_key(Rule::key);
}

/// Equal parts of the range in which the first addresses lie.
struct Buckets {
    lowest: u128,
    shift: u32,
}

impl Buckets {
    fn of<A: Address>(rules: &[Rule<A>]) -> Self {
        let first = |rule: &Rule<A>| -> A { rule.first };
        let lowest = rules.iter().map(first).min().map_or(0, Into::into);
        let highest: u128 = rules.iter().map(first).max().map_or(0, Into::into);
        let bits = u128::BITS - (highest - lowest).leading_zeros();
        Self { lowest, shift: bits.saturating_sub(BUCKET_BITS) }
    }

    /// The bucket of `rule`.
    fn number<A: Address>(&self, rule: &Rule<A>) -> usize {
        let address: u128 = rule.first.into();
        ((address - self.lowest) >> self.shift) as usize
    }

    /// Where each bucket begins among sorted rules.
    fn starts<A: Address>(&self, rules: &[Rule<A>]) -> Vec<usize> {
        let mut counts = vec![0; 1 << BUCKET_BITS];
        for rule in rules {
            counts[self.number(rule)] += 1;
        }
        let mut start = 0;
        for count in &mut counts {
            start += std::mem::replace(count, start);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules in no order, with many that differ in line, list or length only.
    fn rules<A: Address>(count: usize, address: impl Fn(u64) -> A) -> Vec<Rule<A>> {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 16
        };
        let rule = |_| {
            let length = (random() % 3) as u8 + 22;
            let first = address(random()).first(length);
            Rule { first, line: (random() % 9) as u32, list: (random() % 3) as u16, length }
        };
        (0..count).map(rule).collect()
    }

    fn is_sorted_whole<A: Address>(rules: Vec<Rule<A>>) {
        let mut expected = rules.clone();
        expected.sort_by_key(Rule::key);
        let expected: Vec<_> = expected.iter().map(Rule::key).collect();
        let sorted = sorted(rules);
        assert_eq!(sorted.iter().map(Rule::key).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn many_rules_are_sorted_wherever_their_addresses_lie() {
        for count in [0, 1, 1_000, MANY - 1, MANY, MANY + 1, 3 * MANY] {
            is_sorted_whole(rules(count, |random| u32::try_from(random & 0xffff_ffff).expect("32 bits")));
            is_sorted_whole(rules(count, |random| u128::from(random) << 77 ^ u128::from(random) << 3));
        }
        // All in one place, all but one, and at both ends.
        is_sorted_whole(rules(2 * MANY, |_| 7u32));
        is_sorted_whole(rules(
            2 * MANY,
            |random| if random % 100_000 == 0 { u128::MAX } else { random.into() },
        ));
        is_sorted_whole(rules(2 * MANY, |random| if random % 2 == 0 { u32::MAX } else { 0 }));
    }
}
