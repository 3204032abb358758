//! Where totals are kept for the next daemon.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Epoch, Others, Totals};
use crate::nic::{Counter, Verdicts};
use crate::policy::{Source, Tier};

const NAME: &str = "counters.json";
/// Bytes; thousands of lists take less.
const MOST: u64 = 16 * 1024 * 1024;
const VERSION: u32 = 1;

/// The file.
#[derive(Clone, Debug)]
pub(in crate::service) struct TotalsFile(PathBuf);

#[derive(Deserialize, Serialize)]
struct Form {
    version: u32,
    boot: String,
    table: u32,
    sources: Vec<SourceForm>,
    interfaces: Vec<InterfaceForm>,
    slots: BTreeMap<u32, Numbers>,
    others: [u64; 5],
    others_seen: [u64; 5],
}

/// Packets and bytes that were passed, then those that were dropped.
type Numbers = [u64; 4];

#[derive(Deserialize, Serialize)]
struct SourceForm {
    tier: String,
    list: Option<String>,
    total: Numbers,
    /// The index that it has, and what the card had counted there.
    seen: Option<(u16, Numbers)>,
}

#[derive(Deserialize, Serialize)]
struct InterfaceForm {
    name: String,
    total: Numbers,
}

impl TotalsFile {
    /// The file in the folder `state`.
    pub(in crate::service) fn within(state: &Path) -> Self {
        Self(state.join(NAME))
    }

    /// What was kept; nothing when there is no file.
    ///
    /// # Errors
    ///
    /// When there is one, and it cannot be read or is not what was written.
    pub(in crate::service) fn read(&self) -> io::Result<Totals> {
        use std::io::Read as _;
        let file = match std::fs::File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Totals::default()),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(MOST).read_to_string(&mut text)?;
        let form: Form = serde_json::from_str(&text)?;
        totals(form)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "of another version, or damaged"))
    }

    /// Keeps `totals`, whole or not at all.
    pub(in crate::service) fn write(&self, totals: &Totals) -> io::Result<()> {
        let fresh = self.0.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(&form(totals))?)?;
        std::fs::rename(fresh, &self.0)
    }

    /// The path, for messages.
    pub(in crate::service) fn path(&self) -> &Path {
        &self.0
    }
}

fn numbers(verdicts: &Verdicts) -> Numbers {
    let Verdicts { passed, dropped } = verdicts;
    [passed.packets, passed.bytes, dropped.packets, dropped.bytes]
}

fn verdicts([packets, bytes, dropped, dropped_bytes]: Numbers) -> Verdicts {
    Verdicts {
        passed: Counter { packets, bytes },
        dropped: Counter { packets: dropped, bytes: dropped_bytes },
    }
}

fn form(totals: &Totals) -> Form {
    let seen = &totals.seen;
    let indices: BTreeMap<&Source, u16> =
        seen.owners.iter().map(|(index, source)| (source, *index)).collect();
    let all = totals.sources.keys().chain(seen.owners.values());
    let all: std::collections::BTreeSet<&Source> = all.collect();
    let source = |source: &Source| SourceForm {
        tier: source.tier.name().to_owned(),
        list: source.list.as_deref().map(str::to_owned),
        total: numbers(&totals.source(source)),
        seen: indices
            .get(source)
            .map(|index| (*index, numbers(&seen.sources.get(index).copied().unwrap_or_default()))),
    };
    Form {
        version: VERSION,
        boot: seen.epoch.boot.clone(),
        table: seen.epoch.table,
        sources: all.into_iter().map(source).collect(),
        interfaces: totals
            .interfaces
            .iter()
            .map(|(name, total)| InterfaceForm { name: name.clone(), total: numbers(total) })
            .collect(),
        slots: seen.interfaces.iter().map(|(slot, now)| (*slot, numbers(now))).collect(),
        others: others(&totals.others),
        others_seen: others(&seen.others),
    }
}

fn totals(form: Form) -> Option<Totals> {
    if form.version != VERSION {
        return None;
    }
    let mut totals = Totals::default();
    totals.seen.epoch = Epoch { boot: form.boot, table: form.table };
    for SourceForm { tier, list, total, seen } in form.sources {
        let tier = Tier::named(&tier)?;
        let source = Source { tier, list: list.map(Into::into) };
        if let Some((index, now)) = seen {
            totals.seen.owners.insert(index, source.clone());
            totals.seen.sources.insert(index, verdicts(now));
        }
        totals.sources.insert(source, verdicts(total));
    }
    totals.interfaces = form.interfaces.into_iter().map(|one| (one.name, verdicts(one.total))).collect();
    totals.seen.interfaces = form.slots.into_iter().map(|(slot, now)| (slot, verdicts(now))).collect();
    totals.others = named(form.others);
    totals.seen.others = named(form.others_seen);
    Some(totals)
}

fn others(others: &Others) -> [u64; 5] {
    let Others { malformed, not_ip, neighbour_discovery, out_of_scope, no_generation } = *others;
    [malformed, not_ip, neighbour_discovery, out_of_scope, no_generation]
}

fn named([malformed, not_ip, neighbour_discovery, out_of_scope, no_generation]: [u64; 5]) -> Others {
    Others { malformed, not_ip, neighbour_discovery, out_of_scope, no_generation }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nic::Counters;

    #[test]
    fn what_is_kept_is_read_as_it_was_and_counts_go_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = TotalsFile::within(folder.path());
        assert_eq!(file.read().expect("no file is no fault"), Totals::default());
        let (source, epoch) =
            (Source::list(Tier::Observe, "a b".into()), Epoch { boot: "b".to_owned(), table: 9 });
        let counters = |packets| Counters {
            sources: vec![Verdicts::default(), verdicts([packets, 60 * packets, 3, 180])],
            malformed: 4,
            ..Counters::default()
        };
        let mut totals = Totals::default();
        totals.observe(&epoch, &counters(7), [(1, &source)].into_iter(), [(3, "eth0")].into_iter());
        file.write(&totals).expect("written");
        let mut read = file.read().expect("readable");
        assert_eq!(read, totals);
        read.observe(&epoch, &counters(8), [(1, &source)].into_iter(), [(3, "eth0")].into_iter());
        assert_eq!((read.source(&source).passed.packets, read.others.malformed), (8, 4));
    }

    #[test]
    fn a_damaged_file_is_a_fault_and_no_panic() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = TotalsFile::within(folder.path());
        for text in ["", "{}", "[1", "{\"version\":2}"] {
            std::fs::write(file.path(), text).expect("written");
            assert!(file.read().is_err(), "{text}");
        }
    }
}
