//! From a file on disk to a policy in force.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use gateway::config::Mode;
use gateway::nic::Card;
use gateway::policy::{ParseOptions, Tier, parse_list};

use crate::Outcome;
use crate::lane::Lane;
use crate::peers::gatehouse::{card, compiled};
use crate::scene::Family;

/// How long each step took; the medians of several runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loading {
    /// Lines of the list.
    pub(crate) lines: u32,
    /// Of the whole list.
    pub(crate) whole: Steps,
    /// Of the list with one line more, over the generation before.
    pub(crate) one_line: Steps,
}

/// The steps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Steps {
    /// Reading the file and making entries of its lines.
    pub(crate) parse: Duration,
    /// Making a generation of the entries.
    pub(crate) compile: Duration,
    /// Putting the generation in force.
    pub(crate) publish: Duration,
}

impl Steps {
    /// All together.
    pub(crate) fn sum(&self) -> Duration {
        self.parse + self.compile + self.publish
    }
}

/// Loads a list of so many IPv4 prefixes into an attached card, several times.
pub(crate) fn measure(lane: &Lane, lines: u32, rounds: u32) -> Outcome<Loading> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("deny.list");
    let mut text = String::new();
    for prefix in Family::V4.list(lines + 1)? {
        writeln!(text, "{prefix}")?;
    }
    // Up to the last line, which is the change.
    let shorter = text.trim_end().rfind('\n').map_or(0, |end| end + 1);
    let mut card = card()?;
    card.publish(compiled(1, Vec::new())?.blocks(), 1)?;
    card.attach(&lane.receiver, Mode::Native)?;
    let (mut number, mut whole, mut one_line) = (1, Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (content, steps) in [(&text[..shorter], &mut whole), (&text[..], &mut one_line)] {
            fs::write(&file, content)?;
            number += 1;
            steps.push(load(&mut card, &file, number)?);
        }
    }
    Ok(Loading { lines, whole: median(whole), one_line: median(one_line) })
}

fn load(card: &mut Card, file: &std::path::Path, number: u64) -> Outcome<Steps> {
    let started = Instant::now();
    let text = fs::read(file)?;
    let options = ParseOptions { tier: Tier::Deny, prefixes: usize::MAX };
    let parsed = parse_list(&text, &options).map_err(|faults| format!("{faults:?}"))?;
    let parse = started.elapsed();
    let started = Instant::now();
    let generation = compiled(number, parsed.entries)?;
    let compile = started.elapsed();
    let started = Instant::now();
    card.publish(generation.blocks(), number)?;
    Ok(Steps { parse, compile, publish: started.elapsed() })
}

/// The run whose sum is in the middle.
fn median(mut runs: Vec<Steps>) -> Steps {
    runs.sort_by_key(Steps::sum);
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}
