//! Reads the lists and keeps the last good content of each.

mod bounds;
mod content;
mod copies;
mod expand;
mod file;
mod keeper;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use self::copies::Copies;
use self::expand::{Expanded, Place, covers, expand, folder, patterns};
use self::file::Reading;
pub(super) use self::file::{Held, ListFile, Origin};
pub(super) use self::keeper::{Keep, Keeper};
use crate::admin::lists::Accepted;
use crate::config::{Config, Diagnostic, Firewall, Severity};
use crate::policy::{List, ListChange, ListEntry, PolicyInput, Tier, Verdict};

/// All lists of the configuration, in the order in which it names them.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    files: Vec<ListFile>,
    /// What is wrong with globs, so that it is said once.
    faults: Vec<Diagnostic>,
    /// The protected prefixes of the configuration itself.
    own: Option<Arc<List>>,
    /// Whether what is put in force is for the keeper, too.
    keep: bool,
}

/// What a refresh found.
#[derive(Debug, Default)]
pub(super) struct Refreshed {
    /// Whether the content in force differs from before.
    pub changed: bool,
    /// Errors and warnings about files that are new or have changed.
    pub diagnostics: Vec<Diagnostic>,
    /// A list seems to be half written: it has to be looked at again soon.
    pub unfinished: bool,
    /// A list has no content at all, neither in its file nor as a copy, or some lists cannot be found.
    pub unusable: bool,
}

impl Lists {
    /// The lists, in the order of the configuration.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ListFile> {
        self.files.iter()
    }

    /// Whether every list has the same entries in both.
    pub(super) fn say_the_same(&self, other: &Self) -> bool {
        self.files.len() == other.files.len()
            && self.files.iter().zip(&other.files).all(|(one, other)| {
                one.list.name == other.list.name
                    && one.list.tier == other.list.tier
                    && (Arc::ptr_eq(&one.list, &other.list) || one.list.entries == other.list.entries)
            })
    }

    /// Lets the next refresh read faulty files again, and say again what is wrong with them.
    pub(super) fn ask_again(&mut self) {
        self.files.iter_mut().for_each(ListFile::ask_again);
        self.faults.clear();
    }

    /// Reads all lists of `config` for the first time. With `copies`, a list whose file cannot be used is the
    /// last good copy, and content is collected for the keeper.
    pub(super) fn load(config: &Config, copies: Option<&Copies>) -> (Self, Refreshed) {
        let mut lists = Self { keep: copies.is_some(), ..Self::default() };
        let refreshed = lists.read(config, copies);
        (lists, refreshed)
    }

    /// Reads what has changed. A file that cannot be put in force keeps its last good content.
    pub(super) fn refresh(&mut self, config: &Config) -> Refreshed {
        self.read(config, None)
    }

    fn read(&mut self, config: &Config, copies: Option<&Copies>) -> Refreshed {
        let mut refreshed = Refreshed::default();
        let Some(firewall) = &config.firewall else {
            return refreshed;
        };
        // A list that is as it was remains the same one, so that no generation takes it for another.
        let own = own_list(config, firewall);
        let same = |(own, known): (&List, &Arc<List>)| own.name == known.name && own.entries == known.entries;
        if !own.as_ref().zip(self.own.as_ref()).is_some_and(same) {
            self.own = own.map(Arc::new);
        }
        let mut before = std::mem::take(&mut self.files);
        let mut faults = Vec::new();
        for (tier, pattern) in patterns(firewall) {
            let Expanded { places, faults: found } = expand(&pattern.files);
            // With an error the files that are not found may be there all the same.
            let broken = found.iter().any(|fault| fault.severity == Severity::Error);
            let known = before.iter().filter(|file| file.list.tier == tier).map(|file| file.place.clone());
            let kept =
                copies.filter(|_| broken).into_iter().flat_map(|copies| copies.names(tier)).map(Place::file);
            let unseen = known.chain(kept).filter(|place| broken && covers(&pattern.files, place));
            let unseen: Vec<Place> = unseen.collect();
            refreshed.unusable |= broken && unseen.is_empty();
            faults.extend(found);
            for place in places.into_iter().chain(unseen) {
                if self.files.iter().any(|file| file.is(tier, &place.name)) {
                    continue;
                }
                let known = before.iter().position(|file| file.is(tier, &place.name));
                let known = known.map(|position| before.swap_remove(position));
                let mut file = known.unwrap_or_else(|| ListFile::new(tier, place));
                file.read(
                    Reading { limits: &config.limits, bounds: &pattern.bounds, copies, keep: self.keep },
                    &mut refreshed,
                );
                self.files.push(file);
            }
        }
        let news = faults.iter().filter(|fault| !self.faults.contains(fault));
        refreshed.diagnostics.extend(news.cloned());
        self.faults = faults;
        // What is left has gone from the configuration's globs.
        refreshed.changed |= before.iter().any(|file| !file.list.entries.is_empty());
        refreshed
    }

    /// Puts the content of the list called `wanted` in force that was held back; the end of its path is enough.
    pub(super) fn accept(&mut self, wanted: &str, config: &Config) -> Result<(Accepted, Refreshed), String> {
        let name = self.held(wanted)?;
        let mut refreshed = Refreshed::default();
        let mut accepted = Accepted { list: name.to_string(), entries: 0, waits: false };
        // The same file can be a list of both tiers.
        for file in self.files.iter_mut().filter(|file| file.held.is_some() && file.list.name == name) {
            match file.accept(&config.limits, self.keep, &mut refreshed) {
                Ok(entries) => accepted.entries = entries,
                Err(error) if !refreshed.changed => return Err(error),
                // The other one is in force; this one stays held back.
                Err(error) => {
                    refreshed.diagnostics.push(Diagnostic::of_file(Path::new(&*name), error).warning())
                }
            }
        }
        Ok((accepted, refreshed))
    }

    /// The name of the one list that `wanted` can mean and of which something is held back.
    fn held(&self, wanted: &str) -> Result<Arc<str>, String> {
        let end = format!("/{}", wanted.trim_start_matches("./"));
        let exact = self.files.iter().any(|file| *file.list.name == *wanted);
        let meant = |name: &str| if exact { name == wanted } else { name.ends_with(&end) };
        let lists = self.files.iter().filter(|file| meant(&file.list.name));
        let names: BTreeSet<&Arc<str>> = lists.map(|file| &file.list.name).collect();
        match names.into_iter().collect::<Vec<_>>().as_slice() {
            [] => Err(format!("no list is called {wanted}: see `gatehouse lists`")),
            [name] if self.files.iter().any(|file| file.held.is_some() && file.list.name == **name) => {
                Ok(Arc::clone(name))
            }
            [name] => Err(format!("nothing of {name} is held back: see `gatehouse lists`")),
            [one, other, ..] => Err(format!("{wanted} can be {one} and {other}: name the whole path")),
        }
    }

    /// What is in force, for the keeper: what is new to it, and all lists.
    pub(super) fn keep(&mut self) -> Keep {
        Keep {
            copies: self.files.iter_mut().filter_map(ListFile::take_unkept).collect(),
            lists: self.files.iter().map(|file| (file.list.tier, Arc::clone(&file.list.name))).collect(),
        }
    }

    /// The policy that the lists, `protected` ones before them, and `config` make.
    pub(super) fn policy(&self, config: &Config, protected: impl Iterator<Item = Arc<List>>) -> PolicyInput {
        let own = self.own.iter().map(Arc::clone);
        PolicyInput {
            default: config.firewall.as_ref().map_or(Verdict::Pass, |firewall| firewall.default),
            lists: own.chain(protected).chain(self.files.iter().map(|file| Arc::clone(&file.list))).collect(),
        }
    }

    /// How lists came from those of the look before.
    pub(super) fn changes(&self) -> impl Iterator<Item = &ListChange> {
        self.files.iter().filter_map(ListFile::change)
    }

    /// The folders in which lists are, or may appear.
    pub(super) fn folders(config: &Config) -> BTreeSet<PathBuf> {
        let patterns = config.firewall.iter().flat_map(patterns);
        patterns.map(|(_, pattern)| folder(&pattern.files)).collect()
    }
}

/// The protected prefixes that `config` itself names, if it does.
fn own_list(config: &Config, firewall: &Firewall) -> Option<List> {
    let entries = firewall.never_block.iter().map(|&(prefix, line)| ListEntry { prefix, line });
    let own = List {
        tier: Tier::NeverBlock,
        name: config.file.to_string_lossy().into(),
        entries: entries.collect(),
    };
    (!own.entries.is_empty()).then_some(own)
}
