//! Gatehouse itself, through the rooms that the daemon uses.

use std::sync::Arc;
use std::time::Instant;

use gateway::config::{Mode, Ports};
use gateway::nic::{Card, Settings};
use gateway::policy::{
    CompileLimits, Generation, List, ListEntry, PolicyInput, SourceTable, Tier, Verdict, compile,
};
use ipnet::IpNet;

use super::{Cost, Peer};
use crate::Outcome;
use crate::lane::Lane;
use crate::scene::Family;

/// A compiled policy, and the card when it is enabled.
struct Gatehouse<'a> {
    generation: Generation,
    interface: &'a str,
    reports_per_second: u32,
    card: Option<Card>,
    cost: Cost,
}

/// What the configuration has when it says nothing.
const REPORTS_PER_SECOND: u32 = 10_000;

/// Compiles `list` and publishes it, which is what counts as loading.
pub(super) fn load<'a>(lane: &'a Lane, _: Family, list: &[IpNet]) -> Outcome<Box<dyn Peer + 'a>> {
    reporting(REPORTS_PER_SECOND, lane, list)
}

/// The same, with a program that drops and counts, and notes nobody: what it is dearer with [`load`]
/// is the price of the report.
pub(super) fn load_silent<'a>(lane: &'a Lane, _: Family, list: &[IpNet]) -> Outcome<Box<dyn Peer + 'a>> {
    reporting(0, lane, list)
}

fn reporting<'a>(reports_per_second: u32, lane: &'a Lane, list: &[IpNet]) -> Outcome<Box<dyn Peer + 'a>> {
    let mut card = load_card(reports_per_second)?;
    let entries = (1..).zip(list).map(|(line, &prefix)| ListEntry { prefix, line }).collect();
    let started = Instant::now();
    let generation = compiled(1, entries)?;
    card.publish(generation.blocks(), 1)?;
    let cost = Cost {
        loading: started.elapsed(),
        kernel: size_of_val(generation.blocks()) as u64,
        user: generation.memory() as u64,
    };
    Ok(Box::new(Gatehouse { generation, interface: &lane.receiver, reports_per_second, card: None, cost }))
}

/// A card with the settings that the configuration has when it says nothing.
pub(crate) fn card() -> Outcome<Card> {
    load_card(REPORTS_PER_SECOND)
}

fn load_card(reports_per_second: u32) -> Outcome<Card> {
    Ok(Card::load(&Settings { ports: Ports::All, reports_per_second })?)
}

/// Generation `number` that denies `entries` and nothing else.
pub(crate) fn compiled(number: u64, entries: Vec<ListEntry>) -> Outcome<Generation> {
    let list = Arc::new(List { tier: Tier::Deny, name: "deny.list".into(), entries });
    let input = PolicyInput { default: Verdict::Pass, lists: vec![list] };
    Ok(compile(number, &input, &CompileLimits::default(), &mut SourceTable::new(8))?)
}

impl Peer for Gatehouse<'_> {
    fn enable(&mut self) -> Outcome<()> {
        let mut card = load_card(self.reports_per_second)?;
        card.publish(self.generation.blocks(), self.generation.number())?;
        card.attach(self.interface, Mode::Native)?;
        self.card = Some(card);
        Ok(())
    }

    fn disable(&mut self) -> Outcome<()> {
        self.card = None;
        Ok(())
    }

    fn cost(&self) -> Cost {
        self.cost
    }
}
