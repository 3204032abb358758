//! Makes the rules of a policy those of an edited one, without sorting them again.

use super::list::Moved;
use super::rules::{Address, Rule, Rules};

/// What is different about the rules of one family.
pub(super) struct RulePatch<A> {
    /// The rules that go, with their old lines.
    removed: Vec<Rule<A>>,
    /// The rules that come, with their new lines.
    added: Vec<Rule<A>>,
}

/// Where the lines of one list have gone.
#[derive(Clone, Copy)]
pub(super) struct MovedList {
    /// Position of the list in the policy.
    pub(super) list: u16,
    /// Its lines.
    pub(super) moved: Moved,
}

/// What happens in front of an old rule, or to it.
enum Step<A> {
    Add(Rule<A>),
    Remove,
}

impl<A: Address> RulePatch<A> {
    /// Takes `removed` out and puts `added` in.
    pub(super) fn new(mut removed: Vec<Rule<A>>, mut added: Vec<Rule<A>>) -> Self {
        removed.sort_unstable_by_key(Rule::key);
        added.sort_unstable_by_key(Rule::key);
        Self { removed, added }
    }

    /// The rules that go and those that come.
    pub(super) fn rules(&self) -> impl Iterator<Item = Rule<A>> {
        self.removed.iter().chain(&self.added).copied()
    }

    /// How many rules go and come.
    pub(super) fn len(&self) -> usize {
        self.removed.len() + self.added.len()
    }

    /// `rules` after this; `None` when a rule that goes is not among them.
    pub(super) fn apply(&self, rules: &Rules<A>, moved: &[MovedList]) -> Option<Rules<A>> {
        let old = rules.as_slice();
        let steps = self.steps(old, moved)?;
        let mut patched = Vec::with_capacity(old.len() + self.added.len() - self.removed.len());
        let mut from = 0;
        for (at, step) in steps {
            copy(&old[from..at], moved, &mut patched);
            from = at;
            match step {
                Step::Add(rule) => patched.push(rule),
                Step::Remove => from += 1,
            }
        }
        copy(&old[from..], moved, &mut patched);
        Some(Rules::sorted(patched))
    }

    /// The steps, each with the place in `old` where it happens; ascending.
    fn steps(&self, old: &[Rule<A>], moved: &[MovedList]) -> Option<Vec<(usize, Step<A>)>> {
        let mut steps = Vec::with_capacity(self.len());
        for rule in &self.added {
            // Among the rules of its prefix and list it follows those in front of the lines that
            // were read anew, and precedes those behind.
            let first = moved.iter().find(|own| own.list == rule.list)?.moved.first;
            let place = Rule { line: first, ..*rule }.key();
            steps.push((old.partition_point(|rule| rule.key() < place), Step::Add(*rule)));
        }
        for rule in &self.removed {
            let at = old.binary_search_by_key(&rule.key(), Rule::key).ok()?;
            steps.push((at, Step::Remove));
        }
        // Stable: what comes stands in order, and in front of what goes.
        steps.sort_by_key(|&(at, _)| at);
        Some(steps)
    }
}

/// Appends `rules` with the lines that they have now.
fn copy<A: Address>(rules: &[Rule<A>], moved: &[MovedList], patched: &mut Vec<Rule<A>>) {
    match moved.iter().filter(|own| own.moved.by != 0).collect::<Vec<_>>()[..] {
        [] => patched.extend_from_slice(rules),
        [only] => patched.extend(rules.iter().map(|&rule| {
            let behind = rule.list == only.list && rule.line >= only.moved.behind;
            Rule { line: rule.line.wrapping_add(if behind { only.moved.by } else { 0 }), ..rule }
        })),
        _ => patched.extend(rules.iter().map(|&rule| {
            let own = moved.iter().find(|own| own.list == rule.list);
            Rule { line: own.map_or(rule.line, |own| own.moved.line(rule.line)), ..rule }
        })),
    }
}
