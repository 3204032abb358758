//! From a file on disk to a policy in force.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::config::Mode;
use gateway::nic::Card;
use gateway::policy::{
    CompileLimits, Generation, List, ListText, ParseOptions, PolicyInput, SourceTable, Tier, Verdict,
    compile, recompile, reread_list,
};

use crate::Outcome;
use crate::lane::Lane;
use crate::peers::gatehouse::card;
use crate::scene::Family;

/// How long each step took; the medians of several runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loading {
    /// What the list holds.
    pub(crate) family: Family,
    /// Its lines.
    pub(crate) lines: u32,
    /// Of the whole list.
    pub(crate) whole: Steps,
    /// Of the list after an edit of one line, over the generation before.
    pub(crate) edit: Steps,
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

/// Loads a list of so many prefixes into an attached card, and edits it line by line, several
/// times.
pub(crate) fn measure(lane: &Lane, family: Family, lines: u32, rounds: u32) -> Outcome<Loading> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("deny.list");
    let mut prefixes = family.list(lines + 4 * rounds)?.into_iter().map(|prefix| prefix.to_string() + "\n");
    let mut list: Vec<String> = prefixes.by_ref().take(lines as usize).collect();
    fs::write(&file, list.concat())?;

    let (mut whole, mut edits) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        whole.push(Daemon::new(lane, file.clone())?.load()?);
    }
    let mut daemon = Daemon::new(lane, file.clone())?;
    daemon.load()?;
    for _ in 0..rounds {
        let mut edit = |change: &mut dyn FnMut(&mut Vec<String>, String)| -> Outcome<()> {
            change(&mut list, prefixes.next().unwrap_or_default());
            fs::write(&file, list.concat())?;
            edits.push(daemon.load()?);
            Ok(())
        };
        edit(&mut |list, line| list.insert(0, line))?;
        edit(&mut |list, line| list.insert(list.len() / 2, line))?;
        edit(&mut |list, line| list.push(line))?;
        edit(&mut |list, line| {
            let middle = list.len() / 3;
            list[middle] = line;
        })?;
        edit(&mut |list, _| drop(list.remove(list.len() / 4)))?;
    }
    Ok(Loading { family, lines, whole: median(whole), edit: median(edits) })
}

/// What the daemon keeps from one look at the file to the next.
struct Daemon {
    file: PathBuf,
    card: Card,
    list: Arc<List>,
    text: Option<ListText>,
    sources: SourceTable,
    generation: Option<Generation>,
}

impl Daemon {
    fn new(lane: &Lane, file: PathBuf) -> Outcome<Self> {
        let list = Arc::new(List { tier: Tier::Deny, name: "deny.list".into(), entries: Vec::new() });
        let mut sources = SourceTable::new(8);
        let nothing = PolicyInput { default: Verdict::Pass, lists: Vec::new() };
        let mut card = card()?;
        card.publish(compile(1, &nothing, &CompileLimits::default(), &mut sources)?.blocks(), 1)?;
        card.attach(&lane.receiver, Mode::Native)?;
        Ok(Self { file, card, list, text: None, sources, generation: None })
    }

    /// Puts in force what the file says.
    fn load(&mut self) -> Outcome<Steps> {
        let started = Instant::now();
        let text = fs::read(&self.file)?;
        let options = ParseOptions { tier: Tier::Deny, prefixes: usize::MAX };
        let reread = reread_list(&mut self.list, &mut self.text, text, &options)
            .map_err(|faults| format!("{faults:?}"))?;
        let parse = started.elapsed();
        let started = Instant::now();
        let input = PolicyInput { default: Verdict::Pass, lists: vec![Arc::clone(&self.list)] };
        let limits = CompileLimits::default();
        let generation = match &self.generation {
            None => compile(2, &input, &limits, &mut self.sources)?,
            Some(before) => {
                let (number, changes) = (before.number() + 1, reread.change.iter());
                recompile(before, number, &input, changes, &limits, &mut self.sources)?
            }
        };
        let compile = started.elapsed();
        let started = Instant::now();
        self.card.publish(generation.blocks(), generation.number())?;
        let publish = started.elapsed();
        self.generation = Some(generation);
        Ok(Steps { parse, compile, publish })
    }
}

/// The run whose sum is in the middle.
fn median(mut runs: Vec<Steps>) -> Steps {
    runs.sort_by_key(Steps::sum);
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}
