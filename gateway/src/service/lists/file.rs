//! One list: what of it is in force, and how its file is read again.

use std::path::Path;
use std::sync::Arc;

use super::super::stamp::Stamp;
use super::Refreshed;
use super::content;
use super::expand::Place;
use crate::config::{Diagnostic, Limits};
use crate::policy::{List, Tier};

/// One list.
#[derive(Clone, Debug)]
pub(in super::super) struct ListFile {
    /// The last good content.
    pub list: Arc<List>,
    /// Why the present content is not in force.
    pub error: Option<String>,
    pub(super) place: Place,
    stamp: Option<Stamp>,
}

impl ListFile {
    /// The list of `tier` at `place`, of which nothing is in force yet.
    pub(super) fn new(tier: Tier, place: Place) -> Self {
        let list = Arc::new(List { tier, name: Arc::clone(&place.name), entries: Vec::new() });
        Self { list, error: None, place, stamp: None }
    }

    /// Whether this is the list called `name` in `tier`.
    pub(super) fn is(&self, tier: Tier, name: &str) -> bool {
        self.list.tier == tier && *self.list.name == *name
    }

    /// Reads the file again if it has changed. What cannot be put in force leaves the last good content.
    pub(super) fn read(&mut self, limits: &Limits, refreshed: &mut Refreshed) {
        match self.look(limits) {
            Look::Same => {}
            Look::Unfinished => refreshed.unfinished = true,
            Look::Missing(fault) => {
                // Said once, not at every look.
                let error = fault.to_string();
                if self.error.as_deref() != Some(&error) {
                    refreshed.diagnostics.push(fault);
                }
                self.error = Some(error);
                self.stamp = None;
            }
            Look::Bad(stamp, faults) => {
                self.stamp = Some(stamp);
                self.error = faults.first().map(ToString::to_string);
                refreshed.diagnostics.extend(faults);
            }
            Look::Good(stamp, list, warnings) => {
                self.stamp = Some(stamp);
                self.list = Arc::new(list);
                self.error = None;
                refreshed.changed = true;
                refreshed.diagnostics.extend(warnings);
            }
        }
    }

    fn look(&self, limits: &Limits) -> Look {
        let path: &Path = &self.place.path;
        let (stamp, text) = match content::open(path, self.stamp, limits.list_size) {
            Ok(Some(content)) => content,
            Ok(None) => return Look::Same,
            Err(error) => {
                let message = format!("cannot be read ({error}): check the path and its permissions");
                return Look::Missing(Diagnostic::of_file(path, message));
            }
        };
        // Known files only: at the start there is nothing better than what is there.
        if self.stamp.is_some() && content::unfinished(&stamp, &text) {
            return Look::Unfinished;
        }
        if text.is_empty() && !self.list.entries.is_empty() {
            let message = "is empty, as a failed download leaves it: the last good content stays in force. \
                           To empty the list, leave a comment line in it";
            return Look::Bad(stamp, vec![Diagnostic::of_file(path, message)]);
        }
        match content::parse(self.list.tier, path, &text, limits) {
            Ok((entries, warnings)) => {
                let list = List { tier: self.list.tier, name: Arc::clone(&self.list.name), entries };
                Look::Good(stamp, list, warnings)
            }
            Err(faults) => Look::Bad(stamp, faults),
        }
    }
}

/// What a look at a list's file found.
enum Look {
    /// What was there before.
    Same,
    /// Something that is still being written.
    Unfinished,
    /// Nothing that can be read.
    Missing(Diagnostic),
    /// Content that is not put in force.
    Bad(Stamp, Vec<Diagnostic>),
    /// Content to put in force, with warnings.
    Good(Stamp, List, Vec<Diagnostic>),
}
