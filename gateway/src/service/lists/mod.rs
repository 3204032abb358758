//! Reads the lists and keeps the last good content of each.

mod content;
mod expand;
mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use self::expand::{Expanded, Place, covers, expand, folder, patterns};
pub(super) use self::file::ListFile;
use crate::config::{Config, Diagnostic, Severity};
use crate::policy::{List, ListEntry, PolicyInput, Tier, Verdict};

/// All lists of the configuration, in the order in which it names them.
#[derive(Debug, Default)]
pub(super) struct Lists {
    files: Vec<ListFile>,
    /// What is wrong with globs, so that it is said once.
    faults: Vec<Diagnostic>,
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
}

impl Lists {
    /// The lists, in the order of the configuration.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ListFile> {
        self.files.iter()
    }

    /// Reads what has changed. A file that cannot be read or parsed keeps its last good content.
    pub(super) fn refresh(&mut self, config: &Config) -> Refreshed {
        let mut refreshed = Refreshed::default();
        let Some(firewall) = &config.firewall else {
            return refreshed;
        };
        let mut before = std::mem::take(&mut self.files);
        let mut faults = Vec::new();
        for (tier, pattern) in patterns(firewall) {
            let Expanded { places, faults: found } = expand(&pattern.files);
            // With an error the files that are not found may be there all the same.
            let broken = found.iter().any(|fault| fault.severity == Severity::Error);
            let unseen = before
                .iter()
                .filter(|file| broken && file.list.tier == tier && covers(&pattern.files, &file.place));
            let unseen: Vec<Place> = unseen.map(|file| file.place.clone()).collect();
            faults.extend(found);
            for place in places.into_iter().chain(unseen) {
                if self.files.iter().any(|file| file.is(tier, &place.name)) {
                    continue;
                }
                let known = before.iter().position(|file| file.is(tier, &place.name));
                let known = known.map(|position| before.swap_remove(position));
                let mut file = known.unwrap_or_else(|| ListFile::new(tier, place));
                file.read(&config.limits, &mut refreshed);
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

    /// The policy that the lists, `protected` ones before them, and `config` make.
    pub(super) fn policy(&self, config: &Config, protected: impl Iterator<Item = Arc<List>>) -> PolicyInput {
        let own =
            config.firewall.iter().filter(|firewall| !firewall.never_block.is_empty()).map(|firewall| {
                let entries = firewall.never_block.iter().map(|&(prefix, line)| ListEntry { prefix, line });
                Arc::new(List {
                    tier: Tier::NeverBlock,
                    name: config.file.to_string_lossy().into(),
                    entries: entries.collect(),
                })
            });
        PolicyInput {
            default: config.firewall.as_ref().map_or(Verdict::Pass, |firewall| firewall.default),
            lists: own.chain(protected).chain(self.files.iter().map(|file| Arc::clone(&file.list))).collect(),
        }
    }

    /// The folders in which lists are, or may appear.
    pub(super) fn folders(config: &Config) -> BTreeSet<PathBuf> {
        let patterns = config.firewall.iter().flat_map(patterns);
        patterns.map(|(_, pattern)| folder(&pattern.files)).collect()
    }
}
