//! Compiles an edited policy by building anew only what the edit touches.

use std::collections::BTreeSet;
use std::thread;

use gateway_ebpf::generation::{Decision, MAX_BLOCKS, V4_ROOT_BITS, V6_ROOT_BITS};

use super::{
    CompileError, CompileLimits, Names, PolicyInput, Tables, add_rules, compile, count_prefixes, has_say,
    name_lists, v4, v6,
};
use crate::policy::fold::{ListDecision, Segment, fold_part};
use crate::policy::generation::Generation;
use crate::policy::list::ListChange;
use crate::policy::patch::{MovedList, RulePatch};
use crate::policy::rules::{Address, Rules};
use crate::policy::source::SourceTable;

/// Slots of both roots from which on everything is built anew.
const MOST_SLOTS: usize = 4096;

/// With more than one changed rule among so many, everything is built anew.
const SHARE_OF_RULES: usize = 8;

/// With more than one block in so many to which nothing leads, everything is built anew.
const SHARE_OF_GARBAGE: u64 = 4;

/// [`compile`], given the generation `previous` and the changes by which lists of it became those of
/// `input`. What they do not touch is copied; where too much would have to be built anew, or a list
/// has become another one in a way that `changes` does not tell, everything is.
///
/// The generation decides and explains as if it had been compiled without `previous`, but its
/// tables may be up to a third larger.
///
/// # Errors
///
/// As [`compile`].
pub fn recompile<'a>(
    previous: &Generation,
    number: u64,
    input: &PolicyInput,
    changes: impl Iterator<Item = &'a ListChange>,
    limits: &CompileLimits,
    sources: &mut SourceTable,
) -> Result<Generation, CompileError> {
    count_prefixes(input, limits)?;
    let (names, next_sources) = name_lists(input, sources)?;
    let changes: Vec<&ListChange> = changes.collect();
    let patched = Patch::new(previous, input, &names, &changes)
        .and_then(|patch| patch.apply(previous, number, input, names, limits));
    match patched {
        Some(generation) => {
            *sources = next_sources;
            Ok(generation)
        }
        None => compile(number, input, limits, sources),
    }
}

/// What is different about a policy.
struct Patch {
    v4: RulePatch<u32>,
    v6: RulePatch<u128>,
    moved: Vec<MovedList>,
}

impl Patch {
    /// `None` when the difference is not known, or not small.
    fn new(
        previous: &Generation,
        input: &PolicyInput,
        names: &Names,
        changes: &[&ListChange],
    ) -> Option<Self> {
        if input.default != previous.default || names.lists.len() != previous.lists.len() {
            return None;
        }
        let (mut old_v4, mut old_v6, mut new_v4, mut new_v6) = (vec![], vec![], vec![], vec![]);
        let mut moved = Vec::new();
        for (at, ((list, own), old)) in (0..).zip(input.lists.iter().zip(&names.lists).zip(&previous.lists)) {
            if own.decision != old.decision || own.name != old.name {
                return None;
            }
            if own.made_of.ptr_eq(&old.made_of) {
                continue;
            }
            let change = changes.iter().find(|change| change.leads(&old.made_of, list))?;
            if has_say(list.tier, input.default) {
                add_rules(at, &change.removed, &mut old_v4, &mut old_v6);
                add_rules(at, &change.added, &mut new_v4, &mut new_v6);
                moved.push(MovedList { list: at, moved: change.moved });
            }
        }
        let (v4, v6) = (RulePatch::new(old_v4, new_v4), RulePatch::new(old_v6, new_v6));
        let rules = previous.v4.as_slice().len() + previous.v6.as_slice().len();
        let is_small = v4.len() + v6.len() <= MOST_SLOTS.max(rules / SHARE_OF_RULES);
        is_small.then_some(Self { v4, v6, moved })
    }

    /// `previous` after this; `None` when everything should be built anew.
    fn apply(
        &self,
        previous: &Generation,
        number: u64,
        input: &PolicyInput,
        names: Names,
        limits: &CompileLimits,
    ) -> Option<Generation> {
        let (slots_v4, slots_v6) = (slots(&self.v4)?, slots(&self.v6)?);
        let lists: Vec<ListDecision> = names.lists.iter().map(|list| list.decision).collect();
        let fold = |slots| Folder { slots, lists: &lists, default: names.default };
        let (old_v4, old_v6) = (fold(&slots_v4).fold(&previous.v4), fold(&slots_v6).fold(&previous.v6));
        let garbage = previous.garbage + count(&old_v4, v4::slot_blocks) + count(&old_v6, v6::slot_blocks);
        if garbage * SHARE_OF_GARBAGE > previous.blocks.len() as u64 {
            return None;
        }
        // The one waits for memory as the other does, so they are faster side by side.
        let (rules, copied) = thread::scope(|scope| {
            let copy = thread::Builder::new().spawn_scoped(scope, || previous.blocks.clone());
            let v4 = self.v4.apply(&previous.v4, &self.moved);
            let v6 = self.v6.apply(&previous.v6, &self.moved);
            let copy = copy.map_or_else(|_| Some(previous.blocks.clone()), |copy| copy.join().ok());
            (v4.zip(v6), copy)
        });
        let ((v4, v6), copied) = rules.zip(copied)?;
        let (new_v4, new_v6) = (fold(&slots_v4).fold(&v4), fold(&slots_v6).fold(&v6));
        let more = count(&new_v4, v4::slot_blocks) + count(&new_v6, v6::slot_blocks);
        let needed = copied.len() as u64 + more;
        if needed > u64::from(limits.blocks.min(MAX_BLOCKS)) {
            return None;
        }
        let mut tables = Tables::after(number, copied);
        let mut half = None;
        for (slot, segments) in &new_v4 {
            v4::write_slot(*slot, segments, &mut tables, &mut half);
        }
        for (slot, segments) in &new_v6 {
            v6::write_slot(*slot, segments, &mut tables);
        }
        let blocks = tables.into_blocks();
        Some(Generation {
            number,
            blocks,
            v4,
            v6,
            default: input.default,
            lists: names.lists,
            sources: names.sources,
            garbage,
        })
    }
}

const _: () = assert!(V4_ROOT_BITS == <u32 as Family>::SLOT_BITS as u32);
const _: () = assert!(V6_ROOT_BITS == <u128 as Family>::SLOT_BITS as u32);

/// An address of one family, as the root of the tables sees it.
trait Family: Address {
    /// Bits of an address that choose a slot.
    const SLOT_BITS: u8;

    /// The slot of an address.
    fn slot(self) -> u32;

    /// The lowest address of a slot.
    fn start(slot: u32) -> Self;
}

impl Family for u32 {
    const SLOT_BITS: u8 = 16;

    fn slot(self) -> u32 {
        self >> (u32::BITS - V4_ROOT_BITS)
    }

    fn start(slot: u32) -> Self {
        slot << (u32::BITS - V4_ROOT_BITS)
    }
}

impl Family for u128 {
    const SLOT_BITS: u8 = 16;

    fn slot(self) -> u32 {
        (self >> (u128::BITS - V6_ROOT_BITS)) as u32
    }

    fn start(slot: u32) -> Self {
        u128::from(slot) << (u128::BITS - V6_ROOT_BITS)
    }
}

/// The slots of the root that a patch touches; `None` when there are too many.
fn slots<A: Family>(patch: &RulePatch<A>) -> Option<BTreeSet<u32>> {
    let mut slots = BTreeSet::new();
    for rule in patch.rules() {
        let touched = rule.first.slot()..=rule.first.last(rule.length).slot();
        if touched.clone().count() > MOST_SLOTS {
            return None;
        }
        slots.extend(touched);
        if slots.len() > MOST_SLOTS {
            return None;
        }
    }
    Some(slots)
}

/// Folds the rules of some slots.
struct Folder<'a> {
    slots: &'a BTreeSet<u32>,
    lists: &'a [ListDecision],
    default: Decision,
}

/// The segments of a slot.
type Slot<A> = (u32, Vec<Segment<A>>);

impl Folder<'_> {
    fn fold<A: Family>(&self, rules: &Rules<A>) -> Vec<Slot<A>> {
        let fold = |slot| fold_part(rules, A::start(slot), A::SLOT_BITS, self.lists, self.default);
        self.slots.iter().map(|&slot| (slot, fold(slot))).collect()
    }
}

fn count<A>(slots: &[Slot<A>], blocks: impl Fn(u32, &[Segment<A>]) -> u64) -> u64 {
    slots.iter().map(|(slot, segments)| blocks(*slot, segments)).sum()
}
